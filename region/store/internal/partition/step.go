package partition

import (
	"slices"
	"strings"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Found is a row as a step finds it.
type Found struct {
	Version uint64 // 0: never written
	Deleted bool
	Home    region.ID // of the owner when it was written: whose digest it counts in
	Epoch   region.Epoch
	Sum     journal.Sum // zero for local rows
	Place   int         // the engine's: where it keeps what it needs to write the row
}

// Row is a row as a step leaves it.
type Row struct {
	Version uint64
	Epoch   region.Epoch
	Deleted bool
	Home    region.ID
	Value   []byte
	Sum     journal.Sum // zero for local rows
}

// Entry is a batch the journal gains: Links and then Body, as package journal
// spells them. Its slices belong to the step and are valid during the call.
type Entry struct {
	First, Last uint64
	Streams     []journal.Stream
	Links, Body []byte
}

// Engine is what a step reads from and writes to. A step asks it from one
// goroutine.
type Engine interface {
	// Find returns a row as the operations before this one left it. The place in
	// it is valid until the operation ends.
	Find(owner region.UIN, t journal.Table, row []byte) (Found, error)

	// Begin is called once before an operation writes. When it fails, nothing of
	// the operation happens.
	Begin() error

	// Put writes a row over the one at a place; fresh says that there was none.
	// What r points to belongs to the step.
	Put(place int, fresh bool, r *Row)

	// Erase removes the row at a place, as if it had never been written.
	Erase(place int)

	// Append puts a batch into the journal.
	Append(e *Entry)

	// Move writes a position, which is in State.Positions already.
	Move(at *journal.Position)

	// Turn writes a home's turn, which is in State.Turns already.
	Turn(home region.ID, t store.Turn)

	// Keep puts by a batch of another region's full stream, as that carries it.
	Keep(b *journal.Batch)

	// Forget drops all that was kept of a region's full stream before this
	// operation.
	Forget(origin region.ID)
}

// Step is one partition at work: operations see the effects of those before. It
// keeps memory from one operation to the next.
type Step struct {
	Self      region.ID
	Partition region.Partition
	State     *State
	Engine    Engine
	Now       func() int64 // Unix milliseconds
	Touched   bool         // whether State changed since it was set to false

	found   []Found
	row     Row
	entry   Entry
	links   []journal.Link
	hash    []byte
	rows    []journal.RowRecord
	records []journal.Record
	seen    seen
}

// Commit is store.Store's Commit of a batch that is valid.
func (s *Step) Commit(b *store.Batch) (store.Receipt, error) {
	if !s.State.Fence.Allows(b.Home, b.Epoch.Term) {
		return store.Receipt{}, region.Errorf(region.Unavailable, "home %s is fenced at term %s, the batch is of %s", b.Home, s.State.Fence[b.Home], b.Epoch.Term).
			WithHint("ask again: the world is changing who acts for the home")
	}
	s.found = s.found[:0]
	for i := range b.Writes {
		w := &b.Writes[i]
		f, err := s.Engine.Find(b.Owner, w.Table, w.Row)
		if err != nil {
			return store.Receipt{}, err
		}
		if r := (store.Row{Version: f.Version, Deleted: f.Deleted}); !w.Expect.Holds(&r) {
			return store.Receipt{}, region.Errorf(region.Conflict, "row %x of table %d of %d is at version %d, not as the batch expects", w.Row, w.Table, b.Owner, r.Version)
		}
		s.found = append(s.found, f)
	}
	if err := s.Engine.Begin(); err != nil {
		return store.Receipt{}, err
	}
	s.records, s.rows = s.records[:0], grown(s.rows, len(b.Writes))
	for i := range b.Writes {
		w, f := &b.Writes[i], &s.found[i]
		home, version := f.Home, f.Version+1
		if b.Home == store.Departed && w.Delete && b.Epoch.Less(f.Epoch) { // see there
			after := journal.RowSum(b.Owner, w.Table, w.Row, version, b.Epoch, true, nil)
			s.rows[i] = journal.RowRecord{Table: w.Table, Row: w.Row, Version: version, Deleted: true, After: after}
			s.records = append(s.records, journal.Record{Kind: journal.KindRow, Row: &s.rows[i]})
			continue
		}
		before, after := s.put(b.Owner, w.Table, w.Row, f, Row{Version: version, Epoch: b.Epoch, Deleted: w.Delete, Home: b.Home, Value: w.Value})
		if w.Table.Class() == journal.ClassLocal {
			continue
		}
		s.State.home(b.Home).Changed = true
		if home != "" && home != b.Home {
			s.State.home(home).Changed = true
		}
		s.rows[i] = journal.RowRecord{Table: w.Table, Row: w.Row, Version: version, Deleted: w.Delete, Value: w.Value, Before: before, After: after}
		s.records = append(s.records, journal.Record{Kind: journal.KindRow, Row: &s.rows[i]})
	}
	for i := range b.Commands {
		s.records = append(s.records, journal.Record{Kind: journal.KindCommand, Command: &b.Commands[i]})
	}
	receipt := store.Receipt{Partition: s.Partition}
	if len(s.records) > 0 {
		receipt.First, receipt.Last = s.append(&journal.Batch{Owner: b.Owner, Home: b.Home, Epoch: b.Epoch, Records: s.records})
	}
	return receipt, nil
}

// put writes a row over the one found, keeps the sums, and makes the new row the
// one found. It returns both digests (zero for local rows, and for no row
// before).
func (s *Step) put(owner region.UIN, t journal.Table, key []byte, f *Found, row Row) (before, after journal.Sum) {
	if class := t.Class(); class != journal.ClassLocal {
		if f.Version > 0 {
			before = f.Sum
			s.State.home(f.Home).of(class).remove(before)
			if f.Home != row.Home {
				s.State.home(f.Home).Unsettled, s.State.home(row.Home).Unsettled = Settling, Settling
			}
		}
		s.hash = journal.AppendRowSum(s.hash[:0], owner, t, key, row.Version, row.Epoch, row.Deleted, row.Value)
		after = journal.SumOf(s.hash)
		row.Sum = after
		s.State.home(row.Home).of(class).add(after)
		s.Touched = true
	}
	s.row = row
	s.Engine.Put(f.Place, f.Version == 0, &s.row)
	f.Version, f.Deleted, f.Home, f.Epoch, f.Sum = row.Version, row.Deleted, row.Home, row.Epoch, row.Sum
	return before, after
}

// append gives a batch its origin, sequences, time and links, and makes it the
// journal's next. It returns the first and last sequence.
func (s *Step) append(b *journal.Batch) (first, last uint64) {
	st, e := s.State, &s.entry
	b.Origin, b.Partition, b.Incarnation, b.UnixMilli = s.Self, s.Partition, st.Incarnation, s.Now()
	first = st.Next
	for i := range b.Records {
		b.Records[i].Seq = st.Next
		st.Next++
	}
	last = st.Next - 1
	st.UnixMilli = b.UnixMilli

	e.First, e.Last = first, last
	e.Streams = journal.Streams(e.Streams[:0], b.Records)
	e.Body = journal.AppendBody(e.Body[:0], b)
	s.links = s.links[:0]
	for _, name := range e.Streams {
		head := st.head(name)
		var link journal.Link
		if name == journal.Full {
			link, *head = journal.NextBody(*head, last, e.Body)
		} else {
			link, *head = journal.Next(*head, journal.Filter(b, name))
		}
		s.links = append(s.links, link)
	}
	e.Links = journal.AppendLinks(e.Links[:0], s.links)
	s.Engine.Append(e)
	s.Touched = true
	return first, last
}

// SetPosition is store.Store's SetPosition of a position that is valid. It says
// whether the position moved.
func (s *Step) SetPosition(at journal.Position) (moved bool, err error) {
	if !store.Newer(s.State.Positions[Source{at.Origin, at.Stream}], at) {
		return false, nil
	}
	if err := s.Engine.Begin(); err != nil {
		return false, err
	}
	s.move(at)
	s.record(at)
	return true, nil
}

func (s *Step) move(at journal.Position) {
	s.State.Positions[Source{at.Origin, at.Stream}] = at
	s.Engine.Move(&at)
	s.Touched = true
}

// record puts a position into this region's own journal.
func (s *Step) record(at journal.Position) {
	s.append(&journal.Batch{Records: []journal.Record{{Kind: journal.KindPosition, Position: &at}}})
}

// Watermark appends the sums of the homes whose rows this region changed since
// their last watermark, in one batch, and returns how many.
func (s *Step) Watermark() (int, error) {
	var records []journal.Record
	for home, sums := range s.State.Sums {
		if turn := s.State.Turns[home]; turn.Over() || home == store.Departed {
			continue // whoever took the home over speaks for its rows
		}
		if sums.Changed {
			w := s.State.Watermark(home)
			records = append(records, journal.Record{Kind: journal.KindWatermark, Watermark: &w})
		}
	}
	if len(records) == 0 {
		return 0, nil
	}
	if err := s.Engine.Begin(); err != nil {
		return 0, err
	}
	slices.SortFunc(records, func(a, b journal.Record) int {
		return strings.Compare(string(a.Watermark.Home), string(b.Watermark.Home))
	})
	for i := range records {
		s.State.Sums[records[i].Watermark.Home].Changed = false
	}
	s.append(&journal.Batch{Records: records})
	return len(records), nil
}

// Fence raises the fence of a home. It touches the state even when an earlier
// call has raised it, so that the caller learns that it is durable.
func (s *Step) Fence(home region.ID, t region.Term) {
	s.State.Fence.Raise(home, t)
	s.Touched = true
}

// Trim forgets what is before a sequence, which begins a batch or is Next.
func (s *Step) Trim(before uint64) {
	if before > s.State.First {
		s.State.First, s.Touched = before, true
	}
}

// Raise begins a new incarnation.
func (s *Step) Raise() {
	s.State.Incarnation++
	s.Touched = true
}

// grown returns a slice of length n, the old memory when it is large enough.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, 2*n)
	}
	return s[:n]
}
