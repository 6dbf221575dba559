package pebble

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/homing-im/homing/region"
)

// TestRecent compares recent with a map that forgets nothing, where hashes
// clash all the time: what it finds is right, it finds everything that is not
// durable yet, and it does not grow when nothing is under way.
func TestRecent(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r := newRecent(0)
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
			hash := uint64(key[0]%8) - 4 // the same for the same key, and about to overflow
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
			r.put(uint64(i), fmt.Appendf(nil, "later %d", i), c, &known{version: 1, home: "sh"})
		}
		if n := len(r.young.rows) + len(r.old.rows); n > 2*r.limit {
			t.Fatalf("%d rows are kept, the limit is two times %d", n, r.limit)
		}
	}
}
