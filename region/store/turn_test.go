package store

import (
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// TestEarly tells what a region does with what another one wrote for home sh at a
// term, while its own turn stands at others.
func TestEarly(t *testing.T) {
	term := func(n uint64) region.Term { return region.Term{Counter: n} }
	for _, l := range []struct {
		what        string
		self        region.ID
		turn        Turn
		term        uint64
		early, tail bool
	}{
		{"the home's own region has not heard yet", "sh", Turn{}, 2, true, false},
		{"it has ended its term", "sh", Turn{Handed: term(2)}, 2, false, false},
		{"it is back", "sh", Turn{Handed: term(2), Opened: term(3)}, 2, false, true},
		{"it is back, and has not heard of another failover", "sh", Turn{Handed: term(2), Opened: term(3)}, 4, true, false},
		{"the successor, and what came before", "hk", Turn{Opened: term(2)}, 1, false, true},
		{"the successor has not heard of the way back", "hk", Turn{Opened: term(2)}, 3, true, false},
		{"a bystander", "ca", Turn{}, 2, false, false},
		{"rows that came with a move, of the first term", "sh", Turn{}, 1, false, false},
	} {
		b := &journal.Batch{Owner: 1, Home: "sh", Epoch: region.Epoch{Term: term(l.term)}}
		if early, tail := l.turn.Early(l.self, b), l.turn.Tail(b); early != l.early || tail != l.tail {
			t.Errorf("%s: early %v, a tail %v, want %v, %v", l.what, early, tail, l.early, l.tail)
		}
		if b.Owner = 0; l.turn.Early(l.self, b) {
			t.Errorf("%s: the end of a term is early", l.what)
		}
	}
}
