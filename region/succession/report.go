package succession

import (
	"maps"
	"slices"
	"sync"

	"github.com/homing-im/homing/region"
)

// Report says how the ownership of every home stands in this region.
type Report struct {
	Region region.ID    `json:"region"`
	World  uint64       `json:"world"`
	Homes  []HomeReport `json:"homes"` // those that ever changed hands here, sorted
}

// HomeReport is one home's part.
type HomeReport struct {
	Home   region.ID   `json:"home"`
	Before region.ID   `json:"before"` // who acted before the newest change
	Acting region.ID   `json:"acting"`
	Term   region.Term `json:"term"`
	Forced bool        `json:"forced"`

	Partitions int `json:"partitions"`
	Opened     int `json:"opened"` // partitions this region has taken over at the term
	Handed     int `json:"handed"` // partitions it has handed over to the term
	Ended      int `json:"ended"`  // partitions in which the end of the term before is here

	// Open are the ranges that may be missing here: the region before did not end
	// its term in them. There are none after a planned change.
	Open []OpenRange `json:"open"`
	// Lost are those of a region that the world calls away: nobody waits for them.
	// Should it return after all, they are merged like any other.
	Lost   []OpenRange `json:"lost,omitempty"`
	Merged Merged      `json:"merged"` // of the tail, since this process started
}

// OpenRange is everything that a region acknowledged in a partition behind a
// sequence of its journal.
type OpenRange struct {
	Partition   region.Partition `json:"partition"`
	After       uint64           `json:"after"`
	LastContact int64            `json:"lastContactUnixMilli"` // when its last record known here was written, by its clock
	Origin      region.ID        `json:"origin"`
}

// Merged counts the batches of a tail by what became of them.
type Merged struct {
	Applied   uint64 `json:"applied"`   // took effect, messages under new sequences
	Known     uint64 `json:"known"`     // had taken effect here before
	Conflicts uint64 `json:"conflicts"` // kept whole, for an admin
}

// Complete says whether this region serves the whole home, and lacks nothing
// that could still come.
func (h *HomeReport) Complete() bool { return h.Opened == h.Partitions && len(h.Open) == 0 }

type reporter struct {
	mu     sync.Mutex
	merged map[region.ID]*Merged
}

func newReporter() *reporter { return &reporter{merged: map[region.ID]*Merged{}} }

// Count adds to what became of a home's tail.
func (m *Manager) Count(home region.ID, n Merged) {
	m.report.mu.Lock()
	defer m.report.mu.Unlock()
	have := m.report.merged[home]
	if have == nil {
		have = &Merged{}
		m.report.merged[home] = have
	}
	have.Applied += n.Applied
	have.Known += n.Known
	have.Conflicts += n.Conflicts
}

// Report does not block.
func (m *Manager) Report() Report {
	r := Report{Region: m.o.Self}
	v := m.o.View()
	if v == nil {
		return r
	}
	r.World = v.World.Version
	homes := map[region.ID]*HomeReport{}
	for _, g := range v.World.Regions {
		c, ok := m.o.Change(g.ID)
		if !ok || c.Term.Counter <= 1 {
			continue
		}
		h := &HomeReport{Home: g.ID, Before: c.Before, Acting: c.Acting, Term: c.Term, Forced: c.Forced, Partitions: len(m.parts), Open: []OpenRange{}}
		for _, l := range m.parts {
			t := m.o.Store.Turns(l.partition)[g.ID]
			opened := t.Opened.Compare(c.Term) >= 0
			if opened {
				h.Opened++
			}
			if t.Handed.Compare(c.Term) >= 0 {
				h.Handed++
			}
			if t.Ended.Compare(c.Term) >= 0 {
				h.Ended++
			} else if opened && t.After.Origin != "" && t.After.Origin != m.o.Self {
				o := OpenRange{Partition: l.partition, After: t.After.Seq, LastContact: t.After.UnixMilli, Origin: t.After.Origin}
				if from, ok := v.World.Region(o.Origin); ok && from.Away {
					h.Lost = append(h.Lost, o)
				} else {
					h.Open = append(h.Open, o)
				}
			}
		}
		homes[g.ID] = h
	}
	m.report.mu.Lock()
	for id, n := range m.report.merged {
		if h := homes[id]; h != nil {
			h.Merged = *n
		}
	}
	m.report.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(homes)) {
		r.Homes = append(r.Homes, *homes[id])
	}
	return r
}
