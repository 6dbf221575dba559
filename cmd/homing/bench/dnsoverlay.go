package bench

import (
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/keeper"
)

// DNSOverlay is what an overlay of many owners takes.
type DNSOverlay struct {
	Owners       int     `json:"owners"`
	Bytes        uint64  `json:"bytes"` // of the heap that are in use
	LookupNanos  float64 `json:"lookupNanos"`
	PutPerSecond float64 `json:"putPerSecond"`
}

// measureOverlay fills an overlay in random order, which takes most memory, and
// looks for owners in another one.
func measureOverlay(n int) *DNSOverlay {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what the first one found unused is swept
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	// Of a step that has no factor in common with the size of the range, every
	// multiple is another owner.
	const step = 2_654_435_761 // a prime
	among := uint64(n) * 4
	owner := func(i uint64) region.UIN { return region.UIN(1_000_000 + i*step%among) }
	before := heap()
	owners := &keeper.Owners{}
	began := time.Now()
	for i := range n {
		owners.Put(keeper.Entry{Owner: owner(uint64(i)), Home: "eu", Moves: 1})
	}
	filled := time.Since(began)
	out := &DNSOverlay{Owners: owners.Len(), Bytes: heap() - before, PutPerSecond: float64(n) / filled.Seconds()}
	const lookups = 1_000_000
	r := rand.New(rand.NewPCG(3, 4))
	began = time.Now()
	for range lookups {
		owners.Lookup(owner(r.Uint64N(among)))
	}
	out.LookupNanos = float64(time.Since(began).Nanoseconds()) / lookups
	return out
}
