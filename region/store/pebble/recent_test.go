package pebble

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/homing-im/homing/region"
)

// clash gives many keys the same number, and numbers about to overflow.
func clash(key []byte) uint64 { return uint64(key[len(key)-1]%8) - 4 }

// TestTable compares a table with a map, where hashes clash all the time.
func TestTable(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tab, all := newTable(), map[string]known{}
		if seed%2 == 0 {
			tab.stamp = ^uint32(0) - 2 // about to begin again
		}
		for range 5000 {
			if rng.IntN(500) == 0 {
				tab.empty()
				clear(all)
			}
			key := fmt.Appendf(nil, "%d", rng.IntN(1000))
			hash := clash(key)
			if got, ok := tab.get(hash, key); got != all[string(key)] || ok != (got.version > 0) {
				t.Fatalf("row %s is %+v, want %+v", key, got, all[string(key)])
			}
			k := known{version: 1 + rng.Uint64N(9), deleted: rng.IntN(2) == 0, home: region.ID([]string{"sh", "hk", "ca"}[rng.IntN(3)]), serial: rng.Uint64(), epoch: region.Epoch{Moves: rng.Uint64N(5)}}
			k.sum[0] = byte(rng.Uint32())
			tab.put(hash, key, &k)
			all[string(key)] = k
			if tab.n != len(all) {
				t.Fatalf("%d rows, want %d", tab.n, len(all))
			}
		}
	}
}

// TestKnows has a partition write rows and compares what it knows with a map
// that forgets nothing: what it knows is right, it knows everything that is not
// durable yet, and it does not grow when nothing is under way.
func TestKnows(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := &part{recent: newRecent(0), fresh: newFresh()}
		serial := uint64(0)
		begin := func() *chunk {
			serial++
			return &chunk{serial: serial, done: make(chan struct{})}
		}
		// settle ends the oldest chunk that is under way.
		settle := func() {
			for i := depth - 1; i >= 0; i-- {
				if c := p.taken[i]; c != nil && !c.settled() {
					close(c.done)
					return
				}
			}
		}
		// take is the committer's, who has the oldest of the trail durable before.
		take := func() {
			if last := p.taken[depth-1]; last != nil && !last.settled() {
				settle()
			}
			p.take()
			p.open = begin()
		}
		all := map[string]known{}
		p.open = begin()
		for range 5000 {
			switch rng.IntN(20) {
			case 0:
				take()
			case 1:
				settle()
			}
			key := fmt.Appendf(nil, "%d", rng.IntN(1000))
			hash := clash(key)
			got, ok := p.knows(hash, key)
			want, written := all[string(key)]
			underWay := written && (want.serial == p.open.serial || slices.ContainsFunc(p.taken[:], func(c *chunk) bool {
				return c != nil && !c.settled() && want.serial == c.serial
			}))
			switch {
			case ok && got != want:
				t.Fatalf("row %s is %+v, want %+v", key, got, want)
			case !ok && underWay:
				t.Fatalf("row %s of chunk %d is forgotten, and under way", key, want.serial)
			}
			k := known{version: want.version + 1, deleted: rng.IntN(2) == 0, home: region.ID([]string{"sh", "hk", "ca"}[rng.IntN(3)]), serial: p.open.serial, epoch: region.Epoch{Moves: rng.Uint64N(5)}}
			k.sum[0] = byte(rng.Uint32())
			p.keeps(hash, key, want.version == 0, &k)
			all[string(key)] = k
		}
		for range depth {
			settle()
		}
		for i := range 1000 {
			take()
			settle()
			key := fmt.Appendf(nil, "later %d", i)
			p.keeps(clash(key), key, i%2 == 0, &known{version: 2, home: "sh", serial: p.open.serial})
		}
		if n := p.recent.young.n + p.recent.old.n; n > 2*p.recent.limit {
			t.Fatalf("%d rows are kept, the limit is two times %d", n, p.recent.limit)
		}
		n := p.fresh.open.n
		for i := range p.fresh.taken {
			n += p.fresh.taken[i].n
		}
		if n > 1+depth {
			t.Fatalf("%d fresh rows are kept of chunks that are durable", n)
		}
	}
}

// TestRecentKeepsHeads writes few rows again and again between many new ones:
// they stay known.
func TestRecentKeepsHeads(t *testing.T) {
	p := &part{recent: newRecent(1000), fresh: newFresh(), open: &chunk{serial: 1, done: make(chan struct{})}}
	close(p.open.done)
	const heads = 400
	for i := range 20_000 {
		p.keeps(uint64(i), fmt.Appendf(nil, "new %d", i), true, &known{version: 1, home: "sh"})
		key, hash := fmt.Appendf(nil, "head %d", i%heads), uint64(i%heads)
		if _, ok := p.knows(hash, key); !ok && i >= heads {
			t.Fatalf("head %d was forgotten", i%heads)
		}
		p.keeps(hash, key, false, &known{version: 2, home: "sh"})
	}
}
