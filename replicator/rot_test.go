package replicator_test

import (
	"fmt"
	"os"
	"testing"
)

// TestRottenLogs damages the log files under running brokers, which serve what
// they read. Readers that begin anew must get past it, and then be fast again.
func TestRottenLogs(t *testing.T) {
	t.Run("found while searching", func(t *testing.T) {
		rottenLogs(t, func(r *testRegion) {
			r.stopReplicator()
			r.startReplicator()
		})
	})
	t.Run("found while reading", func(t *testing.T) {
		rottenLogs(t, func(r *testRegion) { r.Replay().Resume() })
	})
}

func rottenLogs(t *testing.T, goOn func(*testRegion)) {
	w := newWorld(t, "sh", "hk")
	w.start()
	n := 0
	traffic := func(k int) {
		for range k {
			for _, r := range w.regions {
				r.write(n)
			}
			n++
		}
	}
	traffic(100)
	w.settle()
	sh, hk := w.regions["sh"], w.regions["hk"]
	hk.Replay().Pause()
	traffic(100)
	eventually(t, func() error {
		for _, s := range sh.Shipper().Status() {
			if s.Shipped+1 < sh.store.Head(s.Partition).Next {
				return fmt.Errorf("partition %d shipped up to %d", s.Partition, s.Shipped)
			}
		}
		return nil
	})
	for _, f := range logFiles(sh) {
		file, err := os.OpenFile(f, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := file.Stat()
		rot := make([]byte, info.Size()/8)
		for i := range rot {
			rot[i] = byte(i * 7)
		}
		if _, err := file.WriteAt(rot, info.Size()*3/4); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
	}
	goOn(hk)
	w.settle()
	// The queue is used again: new records come without asking the journal.
	fills := func() (n uint64) {
		for _, l := range hk.Lag() {
			n += l.GapFills
		}
		return n
	}
	eventually(t, func() error {
		before := fills()
		traffic(3)
		if err := w.settled(); err != nil {
			eventually(t, w.settled)
		}
		if now := fills(); now > before {
			return fmt.Errorf("%d gap fills more", now-before)
		}
		return nil
	})
	w.executedOnce(n)
}
