package pebble_test

import (
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
)

// TestSoak writes the same rows over and over and trims the journal as a
// replicator does whose regions keep up: neither the disk nor the heap grows
// with what was written. HOMING_SOAK=5m has it last that long.
func TestSoak(t *testing.T) {
	const (
		callers = 64
		value   = 2 << 10
		live    = callers * 4 * value // bytes of rows at any time
		round   = 8 << 20             // bytes of the journal between two trims
		settled = 8                   // rounds after which the heap is what it will be
	)
	rounds, until := 16, time.Time{}
	if text := os.Getenv("HOMING_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		rounds, until = 1<<30, time.Now().Add(d)
	}
	dir := t.TempDir()
	s, err := pebble.Open(pebble.Options{Dir: dir, Region: "sh", Partitions: partitions, Memory: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var heads [partitions]uint64
	var disk uint64
	// The least of the heap, before and after some rounds: what is above it is
	// flushes and compactions under way, and what leaks is never below.
	early, late := uint64(math.MaxUint64), uint64(math.MaxUint64)
	n := 0
	for ; n < rounds && (until.IsZero() || time.Now().Before(until)); n++ {
		var left atomic.Int64
		left.Store(round)
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				v, noise := make([]byte, value), rand.NewChaCha8([32]byte{byte(c), byte(n)})
				for left.Add(-4*value) > 0 {
					_, _ = noise.Read(v) // else compression hides what grows
					b := &store.Batch{Owner: region.UIN(1000 + c), Home: "sh"}
					for r := range byte(4) {
						b.Writes = append(b.Writes, store.Write{Table: 101, Row: []byte{r}, Value: v})
					}
					if _, err := s.Commit(ctx, b); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for p := range heads {
			id := region.Partition(p)
			if heads[p] > 0 {
				if err := s.Trim(ctx, id, heads[p]); err != nil {
					t.Fatal(err)
				}
			}
			heads[p] = s.Head(id).Next
		}
		disk = max(disk, used(t, dir))
		heap := inUse()
		if n < settled {
			early = min(early, heap)
		} else {
			late = min(late, heap)
		}
		t.Logf("round %d: %d MiB on disk, %d KiB of heap", n, used(t, dir)>>20, heap>>10)
	}
	// Two rounds of journal, the rows, and what compactions have yet to do, which on
	// a busy machine is several rounds more.
	if bound := uint64(10*round + 8*live); disk > bound {
		t.Errorf("%d MiB were on the disk, of %d MiB written; want less than %d MiB", disk>>20, n*2*round>>20, bound>>20)
	}
	if n > settled && late > early+(4<<20) {
		t.Errorf("the heap grew from %d to %d KiB in %d rounds", early>>10, late>>10, n-settled)
	}
	for p := range heads {
		if batches, err := s.Journal(ctx, region.Partition(p), journal.Full, s.Head(region.Partition(p)).First, 1<<30); err != nil || len(batches) == 0 {
			t.Errorf("the journal that is left: %d batches, %v", len(batches), err)
		}
	}
	closed(t, s)
}

// used is what files take, in bytes.
func used(t *testing.T, dir string) (n uint64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // gone since
		}
		if info, err := d.Info(); err == nil {
			n += uint64(info.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// inUse is the heap that is in use, in bytes.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
