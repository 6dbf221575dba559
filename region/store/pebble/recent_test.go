package pebble

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"

	"github.com/homing-im/homing/region"
)

// clash gives many keys the same number, and numbers about to overflow.
func clash(key []byte) uint64 { return uint64(key[len(key)-1]%8) - 4 }

// TestRecent compares recent with a map that forgets nothing, where hashes
// clash all the time: what it finds is right, it finds everything that is not
// durable yet, and it does not grow when nothing is under way.
func TestRecent(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r := newRecent(0, clash)
		all := map[string]known{}
		chunks := []*chunk{{serial: 1, done: make(chan struct{})}}
		settled := 0 // chunks, of those before the newest
		for range 5000 {
			switch rng.IntN(20) {
			case 0:
				chunks = append(chunks, &chunk{serial: uint64(len(chunks) + 1), done: make(chan struct{})})
			case 1:
				if settled < len(chunks)-1 {
					close(chunks[settled].done)
					settled++
				}
			}
			key := fmt.Appendf(nil, "%d", rng.IntN(1000))
			hash := clash(key)
			got, ok := r.get(hash, key)
			want, written := all[string(key)]
			switch {
			case ok && got != want:
				t.Fatalf("row %s is %+v, want %+v", key, got, want)
			case !ok && written && want.serial > uint64(settled):
				t.Fatalf("row %s of chunk %d is forgotten, and only %d chunks are durable", key, want.serial, settled)
			}
			c := chunks[len(chunks)-1]
			k := known{version: want.version + 1, deleted: rng.IntN(2) == 0, home: region.ID([]string{"sh", "hk", "ca"}[rng.IntN(3)]), serial: c.serial}
			k.sum[0] = byte(rng.Uint32())
			r.put(hash, key, c, &k)
			all[string(key)] = k
		}
		for _, c := range chunks[settled:] {
			close(c.done)
		}
		c := &chunk{serial: 1 << 20, done: make(chan struct{})}
		close(c.done)
		for i := range 1000 {
			key := fmt.Appendf(nil, "later %d", i)
			r.put(clash(key), key, c, &known{version: 1, home: "sh"})
		}
		if n := len(r.young.rows) + len(r.old.rows); n > 2*r.limit {
			t.Fatalf("%d rows are kept, the limit is two times %d", n, r.limit)
		}
	}
}

// TestRecentKeepsHeads writes few rows again and again between many new ones:
// they stay known.
func TestRecentKeepsHeads(t *testing.T) {
	seed := maphash.MakeSeed()
	r := newRecent(1000, func(key []byte) uint64 { return maphash.Bytes(seed, key) })
	c := &chunk{serial: 1, done: make(chan struct{})}
	close(c.done)
	put := func(key []byte, version uint64) { r.put(r.hash(key), key, c, &known{version: version, home: "sh"}) }
	const heads = 400
	for i := range heads {
		put(fmt.Appendf(nil, "head %d", i), 2)
	}
	for i := range 20_000 {
		put(fmt.Appendf(nil, "new %d", i), 1)
		if key := fmt.Appendf(nil, "head %d", i%heads); i%10 == 0 {
			k, ok := r.get(r.hash(key), key)
			if !ok {
				t.Fatalf("%s is forgotten after %d new rows", key, i)
			}
			put(key, k.version+1)
		}
	}
	if n := len(r.young.rows) + len(r.old.rows); n > 2000 {
		t.Fatalf("%d rows are kept", n)
	}
}
