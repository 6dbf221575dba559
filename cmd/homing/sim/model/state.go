package model

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/succession"
)

// The largest world there is memory for.
const (
	maxRegions = 3
	maxTerms   = 6  // terms, the first included
	maxRows    = 8  // row 0 is the setting, the others are the inbox by sequence
	maxLog     = 24 // entries of one journal
)

var names = [maxRegions]region.ID{"a", "b", "c"} // a is the home

type kind uint8

const (
	write   kind = iota // a row, acknowledged to a client
	merge               // a row, or none (key 255), by which an entry of a tail is taken up
	rewrite             // a row as it is, at the present term
	end                 // of a term
	take                // over
)

const noRow = 255

// entry is one entry of a journal.
type entry struct {
	kind    kind
	term    uint8
	key, id uint8 // of a row: which one, and the message or the setting's value
	version uint8

	origin, index uint8 // of a merge: the tail's entry
	clashed       bool  // the merge found a conflict
	more          bool  // the next entry is of the same batch
}

type row struct{ id, term, version uint8 }

// turn is a store.Turn in a few bytes.
type turn struct{ opened, origin, after, handed, ended uint8 }

// node is one region.
type node struct {
	world   uint8 // the newest it has
	cut     bool
	turn    turn
	log     [maxLog]entry
	length  uint8
	applied [maxRegions]uint8 // of the others' journals
	rows    [maxRows]row
	index   uint8              // messages whose numbers are remembered, also when another one has their place
	merged  [maxRegions]uint32 // entries of others' journals, one bit each, that were merged or are conflicts
	clashes [maxRegions]uint32 // those that are conflicts
}

// state is a world.
type state struct {
	nodes                 [maxRegions]node
	acting                [maxTerms]uint8 // by term - 1
	forced                [maxTerms]bool
	terms                 uint8           // the newest
	by                    [maxTerms]uint8 // who acknowledged at a term: region + 1
	messages, sets, heals uint8           // written so far; cuts so far
	broken                uint8           // an invariant that a step broke
}

// encode appends what tells a state from all others.
func (s *state) encode(b []byte) []byte {
	b = append(b, s.terms, s.messages, s.sets, s.heals, s.broken)
	for t := range s.terms {
		b = append(b, s.acting[t]<<1|bit(s.forced[t]), s.by[t])
	}
	for r := range s.nodes {
		n := &s.nodes[r]
		if n.world == 0 {
			continue
		}
		t := &n.turn
		b = append(b, n.world<<1|bit(n.cut), t.opened, t.origin, t.after, t.handed, t.ended, n.length)
		for _, e := range n.log[:n.length] {
			b = append(b, byte(e.kind)|bit(e.clashed)<<4|bit(e.more)<<5, e.term, e.key, e.id, e.version, e.origin, e.index)
		}
		b = append(append(b, n.applied[:]...), n.index)
		for k := range n.rows {
			b = append(b, n.rows[k].id, n.rows[k].term, n.rows[k].version)
		}
		for o := range n.merged {
			b = binary.BigEndian.AppendUint32(b, n.merged[o])
			b = binary.BigEndian.AppendUint32(b, n.clashes[o])
		}
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func termOf(t uint8) region.Term {
	return region.Term{Counter: uint64(t)}
}

// turnOf is a region's turn as production code has it.
func (s *state) turnOf(r uint8) store.Turn {
	t := &s.nodes[r].turn
	out := store.Turn{}
	if t.opened > 0 {
		out.Opened, out.After = termOf(t.opened), journal.Position{Origin: names[t.origin], Seq: uint64(t.after)}
	}
	if t.handed > 0 {
		out.Handed = termOf(t.handed)
	}
	if t.ended > 0 {
		out.Ended = termOf(t.ended)
	}
	return out
}

// change is how the newest world that a region has came about; see
// region.Chain.Change.
func (s *state) change(r uint8) region.Change {
	w := s.nodes[r].world
	c := region.Change{Home: names[0], Acting: names[s.acting[w-1]], Term: termOf(w), Forced: s.forced[w-1]}
	for t := w - 1; t > 0; t-- {
		if s.acting[t-1] != s.acting[w-1] {
			c.Before = names[s.acting[t-1]]
			break
		}
	}
	return c
}

func (s *state) before(r uint8) uint8 {
	for i, n := range names {
		if n == s.change(r).Before {
			return uint8(i)
		}
	}
	return r
}

// admits says whether a region admits writes: it acts, in the newest world it has,
// and has taken over.
func (s *state) admits(r uint8, rules *Rules) bool {
	n := &s.nodes[r]
	if rules.EpochTest && s.acting[n.world-1] != r {
		return false
	}
	return succession.Admits(s.turnOf(r), termOf(n.world)) || !rules.EpochTest
}

// decide is what a region does about the home now.
func (s *state) decide(r uint8, rules *Rules) succession.Act {
	f := succession.Facts{Self: names[r], Change: s.change(r), Turn: s.turnOf(r), Drained: true}
	act := succession.Decide(f)
	if act == succession.Wait && !rules.EndOfTerm {
		return succession.Take
	}
	return act
}

// put writes a row as a replica does, and notes invariant 7.
func (n *node) put(e *entry) (broken uint8) {
	have := &n.rows[e.key]
	if store.Supersedes(epochOf(e.term), uint64(e.version), epochOf(have.term), uint64(have.version)) {
		if have.term > e.term {
			broken = 7
		}
		*have = row{e.id, e.term, e.version}
	}
	n.remember(e)
	return broken
}

// remember puts a message into the index.
func (n *node) remember(e *entry) {
	if e.key > 0 {
		n.index |= 1 << e.id
	}
}

func epochOf(t uint8) region.Epoch { return region.Epoch{Term: termOf(t)} }

// append writes into a region's own journal, at the term of its world.
func (s *state) append(r uint8, e entry) {
	n := &s.nodes[r]
	e.term = n.world
	if e.kind != end && e.kind != take && e.key != noRow {
		e.version = n.rows[e.key].version + 1
		n.rows[e.key] = row{e.id, e.term, e.version}
		n.remember(&e)
	}
	if n.length == maxLog {
		panic("the journal is too small for the bounds")
	}
	n.log[n.length] = e
	n.length++
}

// free is the inbox's next place.
func (n *node) free() uint8 {
	for i := uint8(1); i < maxRows; i++ {
		if n.rows[i].version == 0 {
			return i
		}
	}
	panic("the inbox is too small for the bounds")
}

// knows says whether a message is in the inbox.
func (n *node) knows(id uint8) bool {
	for i := 1; i < maxRows; i++ {
		if n.rows[i].version > 0 && n.rows[i].id == id {
			return true
		}
	}
	return false
}

func (e *entry) isRow() bool {
	return e.kind == write || e.kind == rewrite || e.kind == merge && e.key != noRow
}

// apply has a region replay the next batch of another's journal. It is false when
// the region cannot do so now.
func (s *state) apply(r, o uint8, rules *Rules) bool {
	n := &s.nodes[r]
	for {
		i := n.applied[o]
		e := s.nodes[o].log[i]
		t := s.turnOf(r)
		b := &journal.Batch{Owner: 1, Home: names[0], Epoch: epochOf(e.term)}
		if rules.Early && e.kind != take && e.kind != end && t.Early(names[r], b) {
			return false
		}
		switch tail := t.Tail(b); {
		case e.kind == take:
		case e.kind == end:
			after, _ := t.Saw(names[r], &journal.Record{Kind: journal.KindTerm, Term: &journal.TermRecord{Home: names[0], Term: termOf(e.term), What: store.EndOfTerm}})
			n.turn.ended = uint8(after.Ended.Counter)
		case tail && rules.Tail:
			if !s.admits(r, rules) {
				return false
			}
			s.mergeEntry(r, o, i, &e, rules)
		default:
			if e.isRow() {
				s.broken = max(s.broken, n.put(&e))
			}
			if e.kind == merge {
				n.note(&e)
			}
		}
		n.applied[o]++
		if !e.more {
			return true
		}
	}
}

// note remembers that an entry of a tail was taken up.
func (n *node) note(e *entry) {
	bit := uint32(1) << e.index
	n.merged[e.origin] |= bit
	if e.clashed {
		n.clashes[e.origin] |= bit
	}
}

// mergeEntry takes an entry of a tail up, as core.Merge does.
func (s *state) mergeEntry(r, o, i uint8, e *entry, rules *Rules) {
	n := &s.nodes[r]
	if n.merged[o]&(1<<i) != 0 {
		return
	}
	m := entry{kind: merge, key: noRow, origin: o, index: i}
	again := false // the region before has another row, which has to yield
	if e.isRow() {
		have := n.rows[e.key]
		again = have.version > 0 && have.term <= e.term
		switch {
		case e.key > 0:
			if !rules.Known || !n.knows(e.id) {
				m.key, m.id = n.free(), e.id
			}
		case have.version > 0 && have.term > e.term:
			m.clashed = true
		case rules.Setting:
			m.key, m.id = 0, e.id
		}
		again = again && m.key != e.key
	}
	m.more = again || e.kind == merge
	n.note(&m)
	s.append(r, m)
	if again {
		s.append(r, entry{kind: rewrite, key: e.key, id: n.rows[e.key].id, more: e.kind == merge})
	}
	if e.kind == merge { // what that region had taken up before
		k := entry{kind: merge, key: noRow, origin: e.origin, index: e.index, clashed: e.clashed}
		n.note(&k)
		s.append(r, k)
	}
}

func (s *state) String() string {
	var b strings.Builder
	for r := range s.nodes {
		n := &s.nodes[r]
		if n.world == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s world %d", names[r], n.world)
		if n.cut {
			b.WriteString(" cut off")
		}
		fmt.Fprintf(&b, " %+v applied %v journal", n.turn, n.applied)
		for _, e := range n.log[:n.length] {
			switch e.kind {
			case end, take:
				fmt.Fprintf(&b, " [%s %d]", [...]string{end: "end", take: "take"}[e.kind], e.term)
			default:
				fmt.Fprintf(&b, " [%s %d=%d at %d@%d]", [...]string{write: "write", merge: "merge", rewrite: "again"}[e.kind], e.key, e.id, e.term, e.version)
			}
		}
		b.WriteString(" rows")
		for k, x := range n.rows {
			if x.version > 0 {
				fmt.Fprintf(&b, " %d=%d@%d.%d", k, x.id, x.term, x.version)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
