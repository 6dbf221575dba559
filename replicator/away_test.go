package replicator_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// TestAwayTooLong has a region be away while its share of the journal is trimmed,
// for the budget or because the world says that nobody waits for it. The queue
// has lost everything, too. When it is back it begins anew, and is equal.
func TestAwayTooLong(t *testing.T) {
	large := func(sh *testRegion, n int) {
		_, err := sh.store.Commit(context.Background(), &store.Batch{Owner: user("sh", n%16), Home: "sh", Writes: []store.Write{
			{Table: shared, Row: fmt.Append(nil, "profile-", n%50), Value: fmt.Append(make([]byte, 4_000), n)},
			{Table: own, Row: fmt.Append(nil, "contact-", n%70), Value: fmt.Append(make([]byte, 4_000), n)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		away region.ID
		by   func(w *testWorld)
	}{
		{"a backup past its budget", "hk", func(*testWorld) {}},
		{"nobody waits for it", "ca", func(w *testWorld) {
			w.become(func(world *region.World) {
				for i := range world.Regions {
					if r := &world.Regions[i]; r.ID == "ca" {
						r.Away, r.Acting.Region = true, "hk"
					}
				}
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "sh", "hk", "ca")
			w.budget = 1 << 20
			if c.away == "ca" {
				w.budget = 1 << 40 // never reached
			}
			w.onDisk()
			w.start()
			sh, gone := w.regions["sh"], w.regions[c.away]
			for i := range 100 {
				sh.rows("sh", region.Epoch{}, i)
			}
			w.settle()
			gone.stopReplicator()
			gone.down.set(true)
			had := make([]uint64, partitions)
			for p := range had {
				had[p] = sh.store.Head(region.Partition(p)).Next
			}
			c.by(w)
			for i := range 400 {
				large(sh, i)
			}
			eventually(t, func() error {
				for p := range had {
					if h := sh.store.Head(region.Partition(p)); h.First <= had[p] {
						return fmt.Errorf("partition %d of sh begins at %d, and %s has it up to %d", p, h.First, c.away, had[p])
					}
				}
				return nil
			})
			if err := sh.broker.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(sh.dir); err != nil {
				t.Fatal(err)
			}
			sh.startBroker()

			gone.down.set(false)
			gone.startReplicator()
			eventually(t, func() error { return w.equal(sh, gone) })
			for i := range 50 {
				sh.rows("sh", region.Epoch{}, i)
			}
			eventually(t, func() error { return w.equal(sh, gone) })
		})
	}
}
