package succession

import (
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// Act is what a region does about a home in a partition.
type Act uint8

// The acts.
const (
	Rest Act = iota // nothing, until the world changes
	Wait            // this region acts, but may not yet
	Take            // write the takeover
	End             // write the end of term
)

func (a Act) String() string { return [...]string{"rest", "wait", "take", "end"}[a] }

// Facts are all that the decision depends on.
type Facts struct {
	Self    region.ID
	Change  region.Change
	Turn    store.Turn // of the home, in the partition
	Drained bool       // nothing more is to be had of the region before; asked only when the change was forced
}

// Admits says whether writes of a home are admitted at a term in a partition.
// The first term has no predecessor, and needs no takeover. A term older than one
// that the home was handed over to is over, even when a world that won a fork goes
// back to it: what was written since is here, and its readers would miss it.
func Admits(t store.Turn, term region.Term) bool {
	if t.Handed.Compare(term) > 0 {
		return false
	}
	return term.Counter <= 1 || t.Opened.Compare(term) >= 0
}

// Decide is the step of one home in one partition.
func Decide(f Facts) Act {
	c, t := f.Change, f.Turn
	if c.Term.Counter <= 1 {
		return Rest
	}
	holds := t.Holds(f.Self, c.Home)
	if c.Acting != f.Self {
		switch {
		case t.Handed.Compare(c.Term) >= 0:
			return Rest
		case holds, c.Before == f.Self:
			// Who was named, but never took over, has written nothing and will not.
			return End
		}
		return Rest
	}
	switch {
	case t.Opened.Compare(c.Term) >= 0:
		return Rest
	case holds, c.Before == "":
		return Take
	case c.Forced && f.Drained, !c.Forced && t.Ended.Compare(c.Term) >= 0:
		return Take
	}
	return Wait
}
