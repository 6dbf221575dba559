package replicator_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/storetest"
	"github.com/homing-im/homing/replicator"
)

// TestLagWithSkewedClocks has the clock of one region run an hour ahead, and that
// of the other an hour behind, while one writes and the other is held up now and
// then: neither records nor seconds are ever said to be fewer than they are.
func TestLagWithSkewedClocks(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	for id, skew := range map[region.ID]time.Duration{"sh": time.Hour, "hk": -time.Hour} {
		r := w.regions[id]
		r.store = storetest.NewMemory(storetest.Config{Region: id, Partitions: partitions, Now: func() time.Time { return time.Now().Add(skew) }})
		r.ran.store = r.store
	}
	w.start()
	sh, hk := w.regions["sh"], w.regions["hk"]
	full := func(p int) uint64 {
		for _, h := range sh.store.Head(region.Partition(p)).Streams {
			if h.Stream == journal.Full {
				return h.Last
			}
		}
		return 0
	}
	type moment struct {
		at    time.Time
		heads [partitions]uint64
	}
	var past []moment // oldest first
	worst := 0.0
	for n := range 150 {
		switch n {
		case 20, 90:
			hk.Replay().Pause()
		case 50, 120:
			hk.Replay().Resume()
		}
		sh.write(n)
		m := moment{at: time.Now()}
		for p := range partitions {
			m.heads[p] = full(p)
		}
		past = append(past, m)
		time.Sleep(10 * time.Millisecond) // the pace of the writer

		before := time.Now()
		var lag replicator.Lag
		for _, l := range hk.Lag() {
			if l.Origin == "sh" && l.Stream == journal.Full {
				lag = l
			}
		}
		for _, l := range lag.Partitions {
			at, err := hk.store.Position(context.Background(), "sh", journal.Full, l.Partition)
			if err != nil {
				t.Fatal(err)
			}
			worst = max(worst, l.Seconds)
			// Everything that was there so long ago is here.
			ago := before.Add(-time.Duration(l.Seconds * float64(time.Second)))
			i, _ := slices.BinarySearchFunc(past, ago, func(m moment, at time.Time) int { return m.at.Compare(at) })
			if i > 0 && past[i-1].heads[l.Partition] > at.Seq {
				t.Fatalf("partition %d is said to be %.3f s behind, and is at %d; %v ago it was at %d already",
					l.Partition, l.Seconds, at.Seq, before.Sub(past[i-1].at), past[i-1].heads[l.Partition])
			}
			if l.Records < l.Head-min(l.Head, at.Seq) {
				t.Fatalf("partition %d is said to be %d records behind, its head is %d and it is at %d", l.Partition, l.Records, l.Head, at.Seq)
			}
		}
	}
	if worst < 0.3 || worst > 60 { // two pauses of 0.3 s; an hour would be a clock's
		t.Errorf("at worst it was said to be %.3f s behind", worst)
	}
	w.settle()
	eventually(t, func() error { return w.equal(sh, hk) })
	for _, l := range hk.Lag() {
		if l.Seconds > 60 {
			t.Errorf("%s of %s is said to be %.0f s behind", l.Stream, l.Origin, l.Seconds)
		}
	}
}
