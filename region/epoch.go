package region

import (
	"bytes"
	"cmp"
	"fmt"
)

// Term is the failover part of an epoch. Counter is how often the acting
// region of the home changed; Raised names the world that raised it, so that
// two forced siblings raising the same counter differ, and everybody orders
// them alike.
type Term struct {
	Counter uint64    `json:"counter"`
	Raised  ShortHash `json:"raised"`
}

// Compare orders terms by counter, then by the bytes of the world's hash.
func (t Term) Compare(u Term) int {
	if c := cmp.Compare(t.Counter, u.Counter); c != 0 {
		return c
	}
	return bytes.Compare(t.Raised[:], u.Raised[:])
}

func (t Term) String() string { return fmt.Sprintf("%d/%s", t.Counter, t.Raised) }

// Epoch says how often an owner moved and at which term its home is. Epochs of
// one owner only grow (rule 2).
type Epoch struct {
	Moves uint64 `json:"moves"`
	Term  Term   `json:"term"`
}

// Compare orders epochs lexicographically: moves, then term.
func (e Epoch) Compare(f Epoch) int {
	if c := cmp.Compare(e.Moves, f.Moves); c != 0 {
		return c
	}
	return e.Term.Compare(f.Term)
}

// Less says whether e is older than f.
func (e Epoch) Less(f Epoch) bool { return e.Compare(f) < 0 }

func (e Epoch) String() string { return fmt.Sprintf("%d:%s", e.Moves, e.Term) }
