package pebble_test

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/storetest"
)

// TestUnderWay holds the log's sync back. Whoever is told about a commit under
// way, by a conflict or because a call was repeated, is told when it is durable
// and readers see it, not before.
func TestUnderWay(t *testing.T) {
	p := region.PartitionOf(1000, partitions)
	foreign := &journal.Batch{Origin: "hk", Partition: p, Incarnation: 1, Owner: 1000, Home: "hk", Records: []journal.Record{
		{Seq: 1, Kind: journal.KindCommand, Command: &journal.Command{To: "sh", Target: 1000}},
	}}
	link, _ := journal.Next(journal.StreamHead{Stream: journal.Full}, foreign)
	foreign.Links = []journal.Link{link}
	apply := func(s *pebble.Store) error {
		_, err := s.Apply(ctx, journal.Full, []*journal.Batch{foreign})
		return err
	}
	move := func(s *pebble.Store) error {
		return s.SetPosition(ctx, journal.Position{Origin: "hk", Stream: journal.StreamTo("sh"), Partition: p, Incarnation: 1, Seq: 7})
	}
	create := func(s *pebble.Store) error {
		b := pair(1000, 1)
		b.Writes[1].Expect = store.Absent()
		_, err := s.Commit(ctx, b)
		return err
	}
	for name, c := range map[string]struct {
		call   func(*pebble.Store) error
		second region.Kind // of the second call's error; 0 for none
	}{
		"Apply": {apply, 0}, "SetPosition": {move, 0}, "Commit": {create, region.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			held, release := make(chan struct{}), make(chan struct{})
			var hold atomic.Bool
			s := open(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if isLogSync(op) && hold.CompareAndSwap(true, false) {
					close(held)
					<-release
				}
				return nil
			})))
			hold.Store(true)
			first, second := make(chan error, 1), make(chan error, 1)
			go func() { first <- c.call(s) }()
			<-held
			go func() {
				err := c.call(s)
				if s.Head(p).Next == 1 {
					t.Error("the second call returned, and readers do not see what the first one wrote")
				}
				second <- err
			}()
			for range 100 {
				select {
				case err := <-first:
					t.Fatalf("the first call returned before the sync: %v", err)
				case err := <-second:
					t.Fatalf("the second call returned before the sync: %v", err)
				default:
					runtime.Gosched()
				}
			}
			close(release)
			if err := <-first; err != nil {
				t.Fatal(err)
			}
			if err := <-second; (c.second == 0) != (err == nil) || (err != nil && region.KindOf(err) != c.second) {
				t.Fatalf("the second call gives %v, want kind %v", err, c.second)
			}
			closed(t, s)
		})
	}
}

// TestContractUnfiltered runs the suite where the filter has no memory, and
// where it never had any.
func TestContractUnfiltered(t *testing.T) {
	for name, memory := range map[string]int64{"no room": 1, "off": -1} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(testing.TB) storetest.Factory {
				fs := vfs.NewMem()
				return func(t testing.TB, c storetest.Config) store.Store {
					t.Helper()
					s, err := pebble.Open(pebble.Options{Dir: "/store", FS: fs, Region: c.Region, Partitions: c.Partitions, Now: c.Now, Memory: 4 << 20, FilterMemory: memory})
					if err != nil {
						t.Fatal(err)
					}
					return s
				}
			})
		})
	}
}

// TestKnowsWhatIsThere opens a store that has rows. While their keys are being
// read and afterwards, rows that are there conflict and others do not; in the
// end new rows are not looked up.
func TestKnowsWhatIsThere(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	const owners, rows = 8, 50
	for i := 1; i <= rows; i++ {
		for owner := range region.UIN(owners) {
			if _, err := s.Commit(ctx, pair(1000+owner, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	closed(t, s)
	registry := prometheus.NewRegistry()
	s, err := pebble.Open(pebble.Options{Dir: "/store", FS: fs, Region: "sh", Partitions: partitions, Memory: 4 << 20, Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	lookups := func() (n float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "homing_store_row_lookups_total" {
				continue
			}
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == "engine" {
					n = m.GetCounter().GetValue()
				}
			}
		}
		return n
	}
	create := func(owner region.UIN, i int) error {
		b := pair(owner, i)
		b.Writes = b.Writes[:1]
		b.Writes[0].Expect = store.Absent()
		_, err := s.Commit(ctx, b)
		return err
	}
	for i := 1; ; i++ {
		before := lookups()
		for owner := range region.UIN(owners) {
			if err := create(1000+owner, rows+i); err != nil {
				t.Fatal(err)
			}
		}
		if i > rows {
			if lookups() == before {
				break // every key is known, and no new row was mistaken for one
			}
			if i == 100*rows {
				t.Fatal("new rows are looked up for ever")
			}
			continue
		}
		for owner := range region.UIN(owners) {
			if err := create(1000+owner, i); region.KindOf(err) != region.Conflict {
				t.Fatalf("row %d of %d is there, but the commit gives %v", i, 1000+owner, err)
			}
		}
	}
	closed(t, s)
}
