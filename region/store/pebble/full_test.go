package pebble_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/disk/disktest"
	"github.com/homing-im/homing/region/store/pebble"
)

// TestSmallDisk has somebody else fill a real disk to the last byte while
// callers commit, again and again. Every commit is either acknowledged or
// refused with the reason; once there is room, commits go on in the same store;
// and what was acknowledged, and nothing by half, is there when it is opened
// again.
func TestSmallDisk(t *testing.T) {
	d := disktest.New(t, 96)
	o := pebble.Options{Dir: d.Dir + "/store", Region: "sh", Partitions: partitions, Memory: 4 << 20, MinFree: 16 << 20,
		Fatal: func(m string) { t.Errorf("the engine gave up: %s", m); select {} }}
	s, err := pebble.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := map[region.UIN]int{}
	for range 3 {
		if err := s.Writable(); err != nil {
			t.Fatalf("with room on the disk: %v", err)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		var commits atomic.Int64
		enough := make(chan struct{})
		for n := range 6 {
			owner := region.UIN(1000 + n)
			mu.Lock()
			first := acknowledged[owner] + 1
			mu.Unlock()
			wg.Go(func() {
				for i := first; ; i++ {
					_, err := s.Commit(ctx, pair(owner, i))
					if err != nil {
						var e *region.Error
						if !errors.As(err, &e) || e.Kind != region.Unavailable || e.Hint == "" || !errors.Is(err, syscall.ENOSPC) {
							t.Errorf("Commit on a full disk: %v", err)
						}
						return
					}
					mu.Lock()
					acknowledged[owner] = i
					mu.Unlock()
					if commits.Add(1) == 100 {
						close(enough)
					}
				}
			})
		}
		<-enough
		d.Fill()
		wg.Wait()
		if err := s.Writable(); region.KindOf(err) != region.Unavailable {
			t.Errorf("on a full disk: %v", err)
		}
		next := s.Head(0).Next
		if _, err := s.Commit(ctx, pair(1000, 1<<19)); region.KindOf(err) != region.Unavailable {
			t.Errorf("Commit on a full disk: %v", err)
		}
		if got := s.Head(0).Next; got != next {
			t.Errorf("a refused commit took sequences: %d, was %d", got, next)
		}
		verify(t, s, acknowledged) // reads go on
		d.Free()
		for err := s.Writable(); err != nil; err = s.Writable() { // until it looks again
			if region.KindOf(err) != region.Unavailable {
				t.Fatalf("after space was freed: %v", err)
			}
		}
	}
	closed(t, s)
	if s, err = pebble.Open(o); err != nil {
		t.Fatal(err)
	}
	verify(t, s, acknowledged)
	closed(t, s)
}
