//go:build !race

package access_test

import (
	"runtime"
	"testing"

	"github.com/homing-im/homing/region"
)

// A silent connection costs no goroutine and no buffer. The figure is of both
// ends: the clients are in this process too.
func TestIdleConnectionIsCheap(t *testing.T) {
	r := newRig(t, nil)
	const n, limit = 500, 6 << 10
	login := func(from, to int) {
		for i := from; i < to; i++ {
			c := r.raw(region.UIN(1_000_001 + i))
			c.login()
			c.works()
			c.r.Release()
		}
	}
	used := func() (bytes int64, goroutines int) {
		var m runtime.MemStats
		for range 4 { // each halves stacks that are too large
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
	}
	login(0, 50) // what is needed once
	before, goroutines := used()
	login(50, 50+n)
	after, more := used()
	if per := (after - before) / n; per > limit {
		t.Errorf("%d bytes for a connection, want at most %d", per, limit)
	}
	if more-goroutines > n/10 {
		t.Errorf("%d goroutines more for %d connections", more-goroutines, n)
	}
}
