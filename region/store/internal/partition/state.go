// Package partition is what every engine of region/store does alike: the state
// of one partition, and the steps that a commit, a replay, a watermark and a
// fence take in it.
//
// It guarantees the invariants of [State] after every step, and that a step
// that returns an error has changed nothing. It is pure: an [Engine] brings the
// rows a step names, takes what it writes, and makes that durable in one
// transaction with the state.
package partition

import (
	"maps"
	"slices"
	"strings"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// State is all that a partition has besides rows and journal.
//
// Invariants: Next is one more than the last record's sequence; the head of
// stream full is the last record; Sums are those of all rows that are not
// local, tombstones included; no position and no fence ever moves back.
type State struct {
	Incarnation uint64
	First       uint64 // oldest record kept
	Next        uint64
	UnixMilli   int64                // of the newest record
	Heads       []journal.StreamHead // full first, then by name
	Sums        map[region.ID]*Sums  // by home
	Fence       region.Fence
	Positions   map[Source]journal.Position
	Turns       map[region.ID]store.Turn
}

// Source names a stream of a foreign journal.
type Source struct {
	Origin region.ID
	Stream journal.Stream
}

// Sums are the digests of one home's rows in a partition.
type Sums struct {
	Changed bool // by a commit of this region, since the home's last watermark
	Shared  Tally
	Own     Tally

	// Unsettled is how many watermarks of the home will not be compared. It is
	// kept with the rest: a restart must not raise a false alarm.
	Unsettled int
}

// Settling is how many watermarks of a home are not compared after a row of an
// owner came from another home, or went to one: the new home's journal moves the
// row, and the old one's does not say when.
const Settling = 2

// Tally is the digest of a set of rows, kept in constant time.
type Tally struct {
	Sum  journal.Sum
	Rows uint64
}

func (t *Tally) add(s journal.Sum)    { t.Sum, t.Rows = t.Sum.Add(s), t.Rows+1 }
func (t *Tally) remove(s journal.Sum) { t.Sum, t.Rows = t.Sum.Sub(s), t.Rows-1 }

func (s *Sums) of(c journal.Class) *Tally {
	if c == journal.ClassShared {
		return &s.Shared
	}
	return &s.Own
}

// New is the state of a partition nothing was ever written in.
func New() *State {
	return &State{
		Incarnation: 1, First: 1, Next: 1,
		Sums: map[region.ID]*Sums{}, Fence: region.Fence{}, Positions: map[Source]journal.Position{}, Turns: map[region.ID]store.Turn{},
	}
}

// Clone copies the state, so that a step can be forgotten when it did not
// become durable.
func (s *State) Clone() *State {
	c := *s
	c.Heads = slices.Clone(s.Heads)
	c.Sums = make(map[region.ID]*Sums, len(s.Sums))
	for home, sums := range s.Sums {
		copied := *sums
		c.Sums[home] = &copied
	}
	c.Fence = maps.Clone(s.Fence)
	c.Positions = maps.Clone(s.Positions)
	c.Turns = maps.Clone(s.Turns)
	return &c
}

// Head says where the journal stands.
func (s *State) Head() store.Head {
	return store.Head{Incarnation: s.Incarnation, First: s.First, Next: s.Next, UnixMilli: s.UnixMilli, Streams: slices.Clone(s.Heads)}
}

// Last returns the last sequence of a stream; 0 when it has none.
func (s *State) Last(stream journal.Stream) uint64 {
	for i := range s.Heads {
		if s.Heads[i].Stream == stream {
			return s.Heads[i].Last
		}
	}
	return 0
}

// Watermark returns a home's digests as a watermark carries them.
func (s *State) Watermark(home region.ID) journal.Watermark {
	w := journal.Watermark{Home: home}
	if h := s.Sums[home]; h != nil {
		w.SharedSum, w.SharedRows, w.OwnSum, w.OwnRows = h.Shared.Sum, h.Shared.Rows, h.Own.Sum, h.Own.Rows
	}
	return w
}

func (s *State) home(id region.ID) *Sums {
	h := s.Sums[id]
	if h == nil {
		h = &Sums{}
		s.Sums[id] = h
	}
	return h
}

func (s *State) head(name journal.Stream) *journal.StreamHead {
	at, ok := slices.BinarySearchFunc(s.Heads, name, func(h journal.StreamHead, name journal.Stream) int {
		switch {
		case h.Stream == name:
			return 0
		case h.Stream == journal.Full:
			return -1
		case name == journal.Full:
			return 1
		}
		return strings.Compare(string(h.Stream), string(name))
	})
	if !ok {
		s.Heads = slices.Insert(s.Heads, at, journal.StreamHead{Stream: name})
	}
	return &s.Heads[at]
}
