package pebble

import (
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"testing"
)

func TestFilter(t *testing.T) {
	const budget = 3 << 19
	var left atomic.Int64
	left.Store(budget)
	f := &filter{budget: &left}
	seed := maphash.MakeSeed()
	hash := func(kind string, i int) uint64 { return maphash.String(seed, fmt.Sprint(kind, i)) }
	const n = 200_000
	for i := range n {
		if !f.add(hash("in", i)) {
			t.Fatalf("no room for key %d, with %d bytes left", i, left.Load())
		}
	}
	for i := range n {
		if !f.has(hash("in", i)) {
			t.Fatalf("key %d was added and is said to be absent", i)
		}
	}
	wrong := 0
	for i := range n {
		if f.has(hash("out", i)) {
			wrong++
		}
	}
	if wrong > n/150 {
		t.Errorf("%d of %d absent keys have to be looked up, want at most one in 150", wrong, n)
	}
	if f.total > 3*n+firstLayer {
		t.Errorf("the filter has room for %d keys, and has %d", f.total, n)
	}
	for i := n; ; i++ {
		if !f.add(hash("in", i)) {
			break
		}
		if i > budget {
			t.Fatalf("%d keys fit %d bytes", i, budget)
		}
	}
	f.drop()
	if left.Load() != budget {
		t.Errorf("a dropped filter leaves %d of %d bytes", left.Load(), budget)
	}
}

func BenchmarkFilter(b *testing.B) {
	var left atomic.Int64
	left.Store(1 << 30)
	f := &filter{budget: &left}
	seed := maphash.MakeSeed()
	var i uint64
	for b.Loop() {
		i++
		if f.has(maphash.Comparable(seed, i)) {
			continue
		}
		f.add(maphash.Comparable(seed, i))
	}
}
