package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// TestSeen compares seen with a map of whole keys, and makes hashes collide.
func TestSeen(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var s seen
	for range 3 {
		s.forget()
		twin := map[string]int{}
		for range 5000 {
			owner := region.UIN(r.IntN(30))
			w := &journal.RowRecord{Table: journal.Table(1 + r.IntN(3)), Row: fmt.Append(nil, r.IntN(30))}
			if h := s.hash(owner, w); r.IntN(10) == 0 && len(s.rows) > 0 {
				if _, taken := s.at[h]; !taken {
					s.at[h] = r.IntN(len(s.rows)) // as if that row had the same hash
				}
			}
			key := fmt.Sprint(owner, w.Table, string(w.Row))
			want, again := twin[key]
			if !again {
				want = len(twin)
				twin[key] = want
			}
			if at, was := s.place(owner, w); at != want || was != again {
				t.Fatalf("row %s: %d, %v, want %d, %v", key, at, was, want, again)
			}
		}
	}
}
