package partition

import (
	"bytes"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Apply is store.Store's Apply of batches that are valid. The error is a
// *store.Gap, or the engine's. A report of no batch says that there was nothing
// new.
func (s *Step) Apply(name journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	at := s.State.Positions[Source{batches[0].Origin, name}]
	fresh, head, err := store.Plan(at, name, batches)
	if err != nil {
		return store.Applied{}, err
	}
	report := store.Applied{Batches: len(fresh), Skipped: len(batches) - len(fresh), Position: at}
	if len(fresh) == 0 {
		return report, nil
	}
	// Every row is found before any is written, so that an error leaves nothing
	// half done.
	if err := s.findAll(fresh); err != nil {
		return store.Applied{}, err
	}
	if err := s.Engine.Begin(); err != nil {
		return store.Applied{}, err
	}
	news := false
	for _, b := range fresh {
		turn := s.State.Turns[b.Home]
		tail := turn.Tail(b)
		if tail {
			report.Tail++
		}
		for i := range b.Records {
			r := &b.Records[i]
			news = news || r.Kind != journal.KindPosition
			switch {
			case tail:
			case r.Kind == journal.KindRow:
				s.applyRow(b, r, &report)
			case r.Kind == journal.KindWatermark:
				s.compare(name, b.Origin, r, &report)
			case r.Kind == journal.KindPosition:
				s.adopt(*r.Position)
			case !r.Kind.Known():
				report.Opaque = append(report.Opaque, store.Opaque{Seq: r.Seq, Kind: r.Kind, Owner: b.Owner, Home: b.Home})
			}
			if name == journal.Full {
				s.saw(r)
			}
		}
		if name == journal.Full {
			s.Engine.Keep(b)
		}
	}
	newest := fresh[len(fresh)-1]
	at = journal.Position{
		Origin: newest.Origin, Stream: name, Partition: s.Partition,
		Incarnation: newest.Incarnation, Seq: head.Last, Chain: head.Chain, UnixMilli: newest.UnixMilli,
	}
	report.Position = at
	s.move(at)
	if news {
		s.record(at)
	}
	return report, nil
}

// findAll finds every row the batches may write; one that several write is found
// once, and each sees what the one before wrote.
func (s *Step) findAll(batches []*journal.Batch) error {
	s.found = s.found[:0]
	s.seen.forget()
	for _, b := range batches {
		for i := range b.Records {
			if b.Records[i].Kind != journal.KindRow {
				continue
			}
			w := b.Records[i].Row
			if _, again := s.seen.place(b.Owner, w); again {
				continue
			}
			f, err := s.Engine.Find(b.Owner, w.Table, w.Row)
			if err != nil {
				return err
			}
			s.found = append(s.found, f)
		}
	}
	return nil
}

func (s *Step) applyRow(b *journal.Batch, r *journal.Record, report *store.Applied) {
	w := r.Row
	at, _ := s.seen.place(b.Owner, w)
	have := &s.found[at]
	mismatch := func(want, is journal.Sum) {
		if want != is {
			report.Mismatches = append(report.Mismatches, store.Mismatch{Seq: r.Seq, Owner: b.Owner, Home: b.Home, Table: w.Table, Row: bytes.Clone(w.Row), Want: want, Have: is})
		}
	}
	switch {
	case store.Supersedes(b.Epoch, w.Version, have.Epoch, have.Version):
		// What an older term wrote here behind the takeover yields to it, and is
		// no fault of this replica.
		yields := have.Version >= w.Version
		// Before the owner moved, the row was the old home's affair: of the new home's
		// replicas only some have it.
		yields = yields || have.Epoch.Moves < b.Epoch.Moves
		before, after := s.put(b.Owner, w.Table, w.Row, have, Row{Version: w.Version, Epoch: b.Epoch, Deleted: w.Deleted, Home: b.Home, Value: w.Value})
		whole := w.Table.Class() == journal.ClassShared || store.Copied(b.Home, b.Origin, s.Self)
		if !yields && whole {
			mismatch(w.Before, before)
		}
		mismatch(w.After, after)
		report.Rows++
	case w.Version == have.Version && b.Epoch == have.Epoch:
		mismatch(w.After, have.Sum)
	}
}

// turn makes a home's turn another one.
func (s *Step) turn(home region.ID, t store.Turn) {
	s.State.Turns[home], s.Touched = t, true
	s.Engine.Turn(home, t)
}

// saw remembers what a record of a full stream says about whose turn it is.
func (s *Step) saw(r *journal.Record) {
	switch r.Kind {
	case journal.KindTerm:
		if t, changed := s.State.Turns[r.Term.Home].Saw(s.Self, r); changed {
			s.turn(r.Term.Home, t)
		}
	case journal.KindPosition:
		for home, t := range s.State.Turns {
			if t, changed := t.Saw(s.Self, r); changed {
				s.turn(home, t)
			}
		}
	}
}

// Handover is store.Store's Handover of one that is valid. It says whether it
// wrote anything.
func (s *Step) Handover(h store.Handover) (wrote bool, err error) {
	if s.State.Fence[h.Home].Compare(h.Term) < 0 {
		return false, store.NotFenced(h, s.State.Fence[h.Home])
	}
	t, records := s.State.Turns[h.Home].Hand(h, s.State.Next, s.State.Positions[Source{h.Before, journal.Full}])
	if len(records) == 0 {
		return false, nil
	}
	if err := s.Engine.Begin(); err != nil {
		return false, err
	}
	if h.What == store.Takeover {
		s.Raise()
	}
	s.turn(h.Home, t)
	s.append(&journal.Batch{Records: records})
	return true, nil
}

// compare holds a watermark against this replica's sums, those that the stream
// carries. Of own rows it has them all only where the home's second copy is.
// Of shared rows it may have newer ones, when it followed another stream before.
func (s *Step) compare(name journal.Stream, origin region.ID, r *journal.Record, report *store.Applied) {
	want := r.Watermark
	if turn := s.State.Turns[want.Home]; !turn.Comparable() {
		return
	}
	if h := s.State.Sums[want.Home]; h != nil && h.Unsettled > 0 {
		h.Unsettled--
		s.Touched = true
		return
	}
	have := s.State.Watermark(want.Home)
	differ := func(class journal.Class, w, h Tally) {
		if w != h {
			report.Mismatches = append(report.Mismatches, store.Mismatch{Seq: r.Seq, Home: want.Home, Class: class, Want: w.Sum, Have: h.Sum})
		}
	}
	if s.State.Positions[Source{origin, store.Beside(name)}].Seq <= r.Seq {
		differ(journal.ClassShared, Tally{want.SharedSum, want.SharedRows}, Tally{have.SharedSum, have.SharedRows})
	}
	if name == journal.Full && store.Copied(want.Home, origin, s.Self) {
		differ(journal.ClassOwn, Tally{want.OwnSum, want.OwnRows}, Tally{have.OwnSum, have.OwnRows})
	}
}

// adopt takes over the position of a command stream that the origin of a full
// stream reached: the effects of those commands are in the rows applied here,
// so a successor has to go on behind them.
func (s *Step) adopt(at journal.Position) {
	home, command := at.Stream.To()
	if !command {
		return
	}
	if turn := s.State.Turns[home]; turn.Owns() {
		return // this region executes them itself by now
	}
	if store.Newer(s.State.Positions[Source{at.Origin, at.Stream}], at) {
		s.move(at)
	}
}
