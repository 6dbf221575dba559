package memory_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/memory"
	"github.com/homing-im/homing/region/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(testing.TB) storetest.Factory {
		disk := memory.NewDisk()
		return func(t testing.TB, c storetest.Config) store.Store {
			s, err := memory.Open(memory.Options{Disk: disk, Region: c.Region, Partitions: c.Partitions, Now: c.Now})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

// TestCrash cuts the power at the sync of the third of three commits: of the two
// that nobody waited for and the third as many are there afterwards as the disk
// is said to keep, the oldest first, and the acknowledged one always.
func TestCrash(t *testing.T) {
	ctx := context.Background()
	row := func(i byte) *store.Batch {
		return &store.Batch{Owner: 7, Home: "sh", Writes: []store.Write{{Table: 1, Row: []byte{i}, Value: []byte{i}}}}
	}
	for keep := range 4 {
		disk, cut := memory.NewDisk(), false
		open := func() *memory.Store {
			s, err := memory.Open(memory.Options{Disk: disk, Region: "sh", Partitions: 1, Now: time.Now, Sync: func() error {
				if cut {
					return errors.New("power cut")
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		if _, err := s.Commit(ctx, row(0)); err != nil {
			t.Fatal(err)
		}
		for i := range byte(2) {
			if _, err := s.Write(ctx, row(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := s.Get(ctx, 7, 1, []byte{1}); err != nil || r.Exists() {
			t.Fatalf("a reader sees what is not synced: %+v, %v", r, err)
		}
		cut = true
		if _, err := s.Commit(ctx, row(3)); region.KindOf(err) != region.Unavailable {
			t.Fatalf("a commit without power: %v", err)
		}
		disk.Crash(func(n int) int {
			if n != 3 {
				t.Errorf("%d operations are not synced, want 3", n)
			}
			return keep
		})
		if _, err := s.Get(ctx, 7, 1, []byte{0}); region.KindOf(err) != region.Unavailable {
			t.Errorf("the store that lost its power answers: %v", err)
		}
		cut = false
		s = open()
		for i := range byte(4) {
			r, err := s.Get(ctx, 7, 1, []byte{i})
			if want := int(i) <= keep; err != nil || r.Exists() != want {
				t.Errorf("keep %d: row %d is there: %v, want %v; %v", keep, i, r.Exists(), want, err)
			}
		}
		if h := s.Head(0); h.Next != uint64(keep)+2 {
			t.Errorf("keep %d: the journal goes on at %d", keep, h.Next)
		}
	}
}
