package store

import (
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// Turn is how the ownership of a home stands in one partition, as this store
// knows. It is durable.
//
// Invariants: no term in it ever falls; a term record is in the own journal for
// Opened and for Handed.
type Turn struct {
	// Opened is the newest term this region took over at; After is how far the
	// predecessor's full stream was applied then. What the predecessor wrote for
	// the home behind After is its tail.
	Opened region.Term      `json:"opened"`
	After  journal.Position `json:"after"`

	// Handed is the newest term this region handed over to, by the end-of-term
	// record with sequence Until. Until is 0 again once the successor has taken
	// everything before it.
	Handed region.Term `json:"handed"`
	Until  uint64      `json:"until"`

	// Ended is the newest term another region handed over to. Everything it
	// wrote for the home before is applied or merged here.
	Ended region.Term `json:"ended"`
}

// Tail says whether a batch of another region is of a term that this region's
// takeover ended, and so must not be replayed into rows.
func (t *Turn) Tail(b *journal.Batch) bool {
	return b.Owner != 0 && t.Opened != (region.Term{}) && b.Epoch.Term.Compare(t.Opened) < 0
}

// Early says whether a batch of another region is of a term at which that one took
// a home over that region self, whose turn this is, still holds at an older one.
// Replayed into rows it would take the place of what self acknowledged, and self
// might write over it at a term that everybody else takes for older. It has to
// wait until self has ended its term: then that is a tail, or self has taken over
// at a newer one, and the batch is.
func (t *Turn) Early(self region.ID, b *journal.Batch) bool {
	return b.Owner != 0 && b.Epoch.Term.Counter > 1 && t.Holds(self, b.Home) && b.Epoch.Term.Compare(t.Opened) > 0
}

// Holds says whether region self, whose turn this is, is the last to have had the
// home here: it took it over, or it is its own from the beginning.
func (t *Turn) Holds(self, home region.ID) bool {
	return t.Owns() || home == self && t.Opened == (region.Term{}) && !t.Over()
}

// Owns says whether this region is the last to have taken the home over here.
func (t *Turn) Owns() bool {
	return t.Opened != (region.Term{}) && t.Opened.Compare(t.Handed) > 0
}

// Over says whether this region handed the home over and has not taken it back.
func (t *Turn) Over() bool {
	return t.Handed != (region.Term{}) && t.Handed.Compare(t.Opened) >= 0
}

// Comparable says whether another region's watermark of the home can be held
// against the rows here: not while this region writes them itself, nor before
// what it wrote behind the end of its term is with the successor.
func (t *Turn) Comparable() bool { return t.Until == 0 && !t.Owns() }

// Copied says whether a reader of the origin's full stream has all own rows of a
// home: those that the origin writes for its own owners, and those that another
// region writes for the reader's. A third region that follows who acts for
// somebody else's home has only what was written since.
func Copied(home, origin, reader region.ID) bool { return home == origin || home == reader }

// Beside is the other of the two streams that carry shared rows. Who has followed
// both of one origin has the shared rows of the one that is further.
func Beside(s journal.Stream) journal.Stream {
	if s == journal.Full {
		return journal.Shared
	}
	return journal.Full
}

// Handover is a change of ownership to be written down.
type Handover struct {
	journal.TermRecord
	Before region.ID // of a takeover: the predecessor, whose tail begins behind what is applied; "" for none
}

// What a term record says.
const (
	EndOfTerm uint8 = 1
	Takeover  uint8 = 2
)

// ValidateHandover reports what is wrong with the argument of a Handover, or
// nil. Errors: region.BadInput.
func ValidateHandover(h Handover) error {
	if err := h.Home.Valid(); err != nil {
		return region.Errorf(region.BadInput, "handover: %v", err)
	}
	if h.Before != "" && h.Before.Valid() != nil {
		return region.Errorf(region.BadInput, "handover: %v", h.Before.Valid())
	}
	if h.What != EndOfTerm && h.What != Takeover || h.Term == (region.Term{}) {
		return region.Errorf(region.BadInput, "handover of %s: no end of term, and no takeover", h.Home)
	}
	return nil
}

// ValidateCopy reports what is wrong with the arguments of a Copy at region self
// with n partitions, or nil. Errors: region.BadInput.
func ValidateCopy(self region.ID, n int, origin region.ID, p region.Partition, s journal.Stream) error {
	if err := origin.Valid(); err != nil {
		return region.Errorf(region.BadInput, "copy: %v", err)
	}
	if origin == self {
		return region.Errorf(region.BadInput, "region %s keeps no copy of its own journal", self).WithHint("read the journal")
	}
	if int(p) >= n {
		return region.Errorf(region.BadInput, "copy of partition %d, but there are %d", p, n)
	}
	if err := s.Valid(); err != nil {
		return region.Errorf(region.BadInput, "%v", err)
	}
	return nil
}

// NotFenced is the error of a handover that commits at older terms could follow.
func NotFenced(h Handover, fence region.Term) error {
	return region.Errorf(region.Conflict, "home %s is fenced at term %s, which is older than %s", h.Home, fence, h.Term).
		WithHint("raise the fence first")
}

// Hand is the pure step of a handover at the partition's next sequence, when the
// predecessor's full stream is applied up to after. It returns the turn after
// it, and the records to write: none when nothing changes.
func (t Turn) Hand(h Handover, next uint64, after journal.Position) (Turn, []journal.Record) {
	var records []journal.Record
	switch {
	case h.What == EndOfTerm && h.Term.Compare(t.Handed) > 0:
		t.Handed, t.Until = h.Term, next
	case h.What == Takeover && h.Term.Compare(t.Opened) > 0:
		t.Opened, t.After = h.Term, after
		if h.Before != "" {
			t.After.Origin, t.After.Stream = h.Before, journal.Full
		}
		if t.After.Seq > 0 { // what the replicas of this region's journal may count on
			records = append(records, journal.Record{Kind: journal.KindPosition, Position: &after})
		}
	default:
		return t, nil
	}
	return t, append(records, journal.Record{Kind: journal.KindTerm, Term: &h.TermRecord})
}

// Saw is the pure step of a record of another region's full stream. It returns
// the turn of the record's home after it, and whether that changed.
func (t Turn) Saw(self region.ID, r *journal.Record) (Turn, bool) {
	switch {
	case r.Kind == journal.KindTerm && r.Term.What == EndOfTerm && r.Term.Term.Compare(t.Ended) > 0:
		t.Ended = r.Term.Term
	case r.Kind == journal.KindPosition && t.Until > 0 && r.Position.Origin == self && r.Position.Stream == journal.Full && r.Position.Seq >= t.Until:
		t.Until = 0
	default:
		return t, false
	}
	return t, true
}

// Supersedes says whether a replayed row replaces the one that is stored: that
// of the newer epoch does, and of one epoch that of the greater version.
func Supersedes(epoch region.Epoch, version uint64, haveEpoch region.Epoch, have uint64) bool {
	if c := epoch.Compare(haveEpoch); c != 0 && have > 0 {
		return c > 0
	}
	return version > have
}
