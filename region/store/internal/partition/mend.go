package partition

import (
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Mend is store.Mender's Mend of one that is valid.
func (s *Step) Mend(m *store.Mending) error {
	s.found = s.found[:0]
	for i := range m.Rows {
		r := &m.Rows[i]
		if !r.Gone && s.writes(r.Home) {
			return region.Errorf(region.Conflict, "region %s writes the rows of home %s itself", s.Self, r.Home).
				WithHint("mend the others' replicas by this one")
		}
		f, err := s.Engine.Find(r.Owner, r.Table, r.Row.Row)
		if err != nil {
			return err
		}
		if f.Version > 0 && s.writes(f.Home) {
			return region.Errorf(region.Conflict, "region %s writes the rows of home %s itself", s.Self, f.Home).
				WithHint("mend the others' replicas by this one")
		}
		s.found = append(s.found, f)
	}
	if err := s.Engine.Begin(); err != nil {
		return err
	}
	for i := range m.Rows {
		r, f := &m.Rows[i], &s.found[i]
		if r.Gone {
			s.erase(r.Table, f)
			continue
		}
		s.put(r.Owner, r.Table, r.Row.Row, f, Row{Version: r.Version, Epoch: r.Epoch, Deleted: r.Deleted, Home: r.Home, Value: r.Value})
	}
	if m.Forget {
		s.Engine.Forget(m.Origin)
	}
	for _, b := range m.Keep {
		s.Engine.Keep(b)
	}
	if m.End != nil {
		s.mended(m.End)
	}
	return nil
}

// writes says whether this region commits the home's rows, so that nobody else's
// are truer. A home that never changed hands is its own region's.
func (s *Step) writes(home region.ID) bool {
	turn := s.State.Turns[home]
	never := turn == (store.Turn{}) && s.State.Fence[home] == (region.Term{})
	return turn.Owns() || home == s.Self && never
}

// erase forgets a row, without a tombstone: the origin never had it.
func (s *Step) erase(t journal.Table, f *Found) {
	if f.Version == 0 {
		return
	}
	s.State.home(f.Home).of(t.Class()).remove(f.Sum)
	s.Engine.Erase(f.Place)
	s.Touched = true
	*f = Found{Place: f.Place}
}

// mended ends the mending. The sums are set, not added up: a row that was changed
// behind the store's back left them at what it had been.
func (s *Step) mended(e *store.MendEnd) {
	for _, w := range e.Sums {
		h := s.State.home(w.Home)
		h.Shared = Tally{w.SharedSum, w.SharedRows}
		if e.Position.Stream == journal.Full {
			h.Own = Tally{w.OwnSum, w.OwnRows}
		}
	}
	for _, at := range e.Commands {
		s.adopt(at)
	}
	for home, term := range e.Handed {
		ended := journal.Record{Kind: journal.KindTerm, Term: &journal.TermRecord{Home: home, Term: term, What: store.EndOfTerm}}
		s.saw(&ended)
	}
	s.move(e.Position)
	s.record(e.Position)
}
