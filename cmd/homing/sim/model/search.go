package model

import (
	"fmt"
	"strings"

	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/succession"
)

// Bounds say how small the worlds are.
type Bounds struct {
	Regions  int // 2 or 3; the third one follows, and never acts
	Messages int // that clients send, at most 3
	Settings int // that clients write, at most 2
	Changes  int // of who acts, at most 3
	Cuts     int // of a region from all others
}

// Small is what every run of the tests searches.
var Small = Bounds{Regions: 2, Messages: 1, Settings: 1, Changes: 2, Cuts: 1}

// Validate reports what is wrong with the bounds, or nil.
func (b Bounds) Validate() error {
	if b.Regions < 2 || b.Regions > maxRegions || b.Messages < 0 || b.Messages > 3 || b.Settings < 0 || b.Settings > 2 || b.Changes < 0 || b.Changes > 3 || b.Cuts < 0 || b.Cuts > 10 {
		return fmt.Errorf("%s: want 2 or 3 regions, at most 3 messages, 2 settings, 3 changes and 10 cuts", b)
	}
	return nil
}

func (b Bounds) String() string {
	return fmt.Sprintf("%d regions, %d messages, %d settings, %d changes, %d cuts", b.Regions, b.Messages, b.Settings, b.Changes, b.Cuts)
}

// Rules are what the protocol consists of. A rule that is off is a mutant: the
// search has to find what breaks.
type Rules struct {
	EpochTest bool // who is not named by its world, or has not taken over, does not admit
	EndOfTerm bool // a planned change waits for the end of the term before
	Tail      bool // what an ended term wrote is merged, not replayed into rows
	Early     bool // what a newer term wrote waits until this region has ended its own
	Known     bool // a merged message is told apart by its number
	Setting   bool // a setting of a tail that nobody changed since is taken
	Plan      bool // who acts is not changed before the last change has come to its end
}

// Production is all of them.
var Production = Rules{true, true, true, true, true, true, true}

// Result is what a search found.
type Result struct {
	States, Steps int
	Rests         int // states in which nothing is left to do
	Depth         int // steps of the longest of the shortest ways to a state
	Invariant     int // that does not hold; 0 when all hold everywhere
	What          string
	Way           []string // to there, from the beginning
	At            string   // the state
}

// visit is how a state was first come to.
type visit struct {
	from int32
	step step
}

// step is one thing that may happen.
type step struct {
	what string
	r, o uint8
}

func (t step) String() string {
	s := strings.ReplaceAll(t.what, "%r", string(names[t.r]))
	return strings.ReplaceAll(s, "%o", string(names[t.o]))
}

// Search visits every state within the bounds, breadth first. It blocks, and
// needs some 300 bytes for each.
func Search(b Bounds, rules Rules) Result {
	var first state
	first.terms, first.acting[0] = 1, 0
	for r := range b.Regions {
		first.nodes[r].world = 1
	}
	var key []byte
	seen := map[string]struct{}{string(first.encode(nil)): {}}
	ways, level, at := []visit{{-1, step{}}}, []state{first}, 0 // at is the number of level's first state
	var found Result
	for ; len(level) > 0; found.Depth++ {
		var deeper []state
		for i := range level {
			s := &level[i]
			busy := false
			s.next(b, &rules, func(t step, after *state, protocol bool) {
				found.Steps++
				busy = busy || protocol
				key = after.encode(key[:0])
				if _, ok := seen[string(key)]; ok {
					return
				}
				seen[string(key)] = struct{}{}
				deeper, ways = append(deeper, *after), append(ways, visit{int32(at + i), t})
			})
			found.Invariant, found.What = s.check(b)
			if found.What == "" && !busy && !s.away(b) {
				found.Rests++
				found.Invariant, found.What = s.atRest(b)
			}
			if found.What != "" {
				for w := at + i; w > 0; w = int(ways[w].from) {
					found.Way = append([]string{ways[w].step.String()}, found.Way...)
				}
				found.States, found.At = len(ways), s.String()
				return found
			}
		}
		at += len(level)
		level = deeper
	}
	found.States = len(ways)
	return found
}

// away says whether a region is cut off.
func (s *state) away(b Bounds) bool {
	for r := range b.Regions {
		if s.nodes[r].cut {
			return true
		}
	}
	return false
}

// next yields what may happen in a state. What is of the protocol happens by
// itself sooner or later; the rest are acts of clients, operators and the weather.
func (s *state) next(b Bounds, rules *Rules, yield func(t step, after *state, protocol bool)) {
	for r := uint8(0); int(r) < b.Regions; r++ {
		n := &s.nodes[r]
		for o := uint8(0); int(o) < b.Regions; o++ {
			if o == r || n.cut || s.nodes[o].cut {
				continue
			}
			if s.nodes[o].world > n.world {
				after := *s
				after.nodes[r].world = s.nodes[o].world
				yield(step{"%r learns the world of %o", r, o}, &after, true)
			}
			if n.applied[o] < s.nodes[o].length {
				if after := *s; after.apply(r, o, rules) {
					yield(step{"%r replays a batch of %o", r, o}, &after, true)
				}
			}
		}
		switch act := s.decide(r, rules); act {
		case succession.Take, succession.End:
			after := *s
			after.hand(r, act)
			yield(step{"%r: " + act.String(), r, r}, &after, true)
		}
		if s.admits(r, rules) {
			if int(s.messages) < b.Messages {
				after := *s
				after.messages++
				after.acknowledge(r, entry{kind: write, key: after.nodes[r].free(), id: after.messages})
				yield(step{"%r acknowledges a message", r, r}, &after, false)
			}
			for id := uint8(1); id <= s.messages; id++ {
				if n.index&(1<<id) == 0 { // a client who is not sure
					after := *s
					after.acknowledge(r, entry{kind: write, key: n.free(), id: id})
					yield(step{"%r acknowledges a message that was sent before", r, r}, &after, false)
				}
			}
			if int(s.sets) < b.Settings {
				after := *s
				after.sets++
				after.acknowledge(r, entry{kind: write, key: 0, id: after.sets})
				yield(step{"%r acknowledges a setting", r, r}, &after, false)
			}
		}
		switch {
		case n.cut:
			after := *s
			after.nodes[r].cut = false
			yield(step{"%r is back", r, r}, &after, false)
		case int(s.heals) < b.Cuts:
			after := *s
			after.nodes[r].cut = true
			after.heals++
			yield(step{"%r is cut off", r, r}, &after, false)
		}
		if int(s.terms)-1 < b.Changes && s.backup() == r && !n.cut && (!rules.Plan || s.ended()) {
			for _, forced := range []bool{false, true} {
				after := *s
				after.acting[after.terms], after.forced[after.terms] = r, forced
				after.terms++
				after.nodes[r].world = after.terms
				what := "switchover to %r"
				if forced {
					what = "failover to %r"
				}
				yield(step{what, r, r}, &after, false)
			}
		}
	}
}

// hand has a region hand the home over, or take it over.
func (s *state) hand(r uint8, act succession.Act) {
	n := &s.nodes[r]
	before := s.before(r)
	h := store.Handover{TermRecord: journal.TermRecord{Home: names[0], Term: termOf(n.world), What: store.EndOfTerm}}
	k := end
	if act == succession.Take {
		h.What, k = store.Takeover, take
		if before != r {
			h.Before = names[before]
		}
	}
	t, records := s.turnOf(r).Hand(h, uint64(n.length)+1, journal.Position{Seq: uint64(n.applied[before])})
	if len(records) == 0 {
		return
	}
	n.turn.handed, n.turn.opened = uint8(t.Handed.Counter), uint8(t.Opened.Counter)
	if act == succession.Take {
		n.turn.origin, n.turn.after = before, uint8(t.After.Seq)
	}
	s.append(r, entry{kind: k})
}

// acknowledge has a region write for a client, and notes invariant 1.
func (s *state) acknowledge(r uint8, e entry) {
	n := &s.nodes[r]
	s.append(r, e)
	if s.acting[n.world-1] != r || s.by[n.world-1] != 0 && s.by[n.world-1] != r+1 {
		s.broken = 1
	}
	s.by[n.world-1] = r + 1
}

// server is the region that serves the home in the newest world; false while it
// has not taken over.
func (s *state) server() (uint8, bool) {
	r := s.acting[s.terms-1]
	n := &s.nodes[r]
	return r, n.world == s.terms && succession.Admits(s.turnOf(r), termOf(s.terms))
}

// open is the range that a region which serves reports: what a region wrote behind
// an entry, unless its end of term is known.
func (s *state) open(r uint8) (origin, after uint8, open bool) {
	t := &s.nodes[r].turn
	return t.origin, t.after, t.opened > 0 && t.origin != r && t.ended < t.opened
}

// ended says whether the last change has come to its end: taken over, nothing
// open, and the copy that is next has all of it.
func (s *state) ended() bool {
	r, serves := s.server()
	if _, _, open := s.open(r); !serves || open {
		return false
	}
	return s.nodes[s.backup()].applied[r] == s.nodes[r].length
}

// backup is the region that keeps the home's second copy; see region.Region.Backup.
func (s *state) backup() uint8 {
	if s.acting[s.terms-1] == 0 {
		return 1
	}
	return 0
}

// check returns the first invariant that does not hold in a state.
func (s *state) check(b Bounds) (int, string) {
	switch s.broken {
	case 1:
		return 1, "two regions acknowledged at a term, or one that its world does not name"
	case 7:
		return 7, "a row went back"
	}
	for r := range b.Regions {
		holes := false
		for k := 1; k < maxRows; k++ {
			v := s.nodes[r].rows[k].version
			if v > 0 && holes && s.nodes[r].turn.opened > 0 && s.nodes[r].turn.opened == s.nodes[r].world {
				return 8, fmt.Sprintf("the inbox in %s has a hole before %d", names[r], k)
			}
			holes = holes || v == 0
		}
	}
	r, serves := s.server()
	if !serves {
		return 0, ""
	}
	origin, after, open := s.open(r)
	if open && !s.forced[s.terms-1] {
		return 3, fmt.Sprintf("%s serves the home after a planned change, and something may be missing", names[r])
	}
	for o := range b.Regions {
		n := &s.nodes[o]
		for i, e := range n.log[:n.length] {
			if e.kind != write || e.term >= s.terms || int(r) == o {
				continue
			}
			covered := open && int(origin) == o && i >= int(after)
			at := &s.nodes[r]
			bit := uint32(1) << i
			if covered || at.merged[o]&bit != 0 && (e.key == 0 || at.knows(e.id)) || e.key > 0 && at.knows(e.id) || e.key == 0 && int(at.applied[o]) > i {
				continue
			}
			return 3, fmt.Sprintf("what %s acknowledged as its entry %d is not at %s, which serves the home, nor in its report", names[o], i+1, names[r])
		}
	}
	return 0, ""
}

// atRest returns the first invariant that does not hold when nothing is left to
// do.
func (s *state) atRest(b Bounds) (int, string) {
	r, serves := s.server()
	if !serves {
		return 0, "nobody serves the home, and nothing is left to do"
	}
	at := &s.nodes[r]
	for id := uint8(1); id <= s.messages; id++ {
		n := 0
		for k := 1; k < maxRows; k++ {
			if at.rows[k].version > 0 && at.rows[k].id == id {
				n++
			}
		}
		if n != 1 {
			return 4, fmt.Sprintf("message %d is in the inbox %d times", id, n)
		}
	}
	for o := range b.Regions {
		n := &s.nodes[o]
		if n.rows != at.rows {
			return 6, fmt.Sprintf("%s and %s differ", names[o], names[r])
		}
		if n.merged != at.merged || n.clashes != at.clashes {
			return 4, fmt.Sprintf("%s and %s do not agree what was merged", names[o], names[r])
		}
		for i, e := range n.log[:n.length] {
			if e.kind == write && s.wasTail(uint8(o), uint8(i), &e) && at.merged[o]&(1<<i) == 0 {
				return 4, fmt.Sprintf("entry %d of %s is a tail, and was never merged", i+1, names[o])
			}
		}
	}
	return 0, ""
}

// wasTail says whether an entry is of the tail that the region which serves found.
func (s *state) wasTail(o, i uint8, e *entry) bool {
	r, _ := s.server()
	t := &s.nodes[r].turn
	return r != o && t.opened > 0 && t.origin == o && i >= t.after && e.term < t.opened
}
