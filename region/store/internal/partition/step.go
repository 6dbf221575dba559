package partition

import (
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Key names a row of a partition.
type Key struct {
	Owner region.UIN
	Table journal.Table
	Row   string
}

// Row is a row as a step finds or leaves it.
type Row struct {
	Version uint64 // 0: never written
	Deleted bool
	Home    region.ID   // of the owner when it was written: whose digest it counts in
	Sum     journal.Sum // zero for local rows
	Epoch   region.Epoch
	Value   []byte // of written rows; a step does not read the values it finds
}

// Entry is a batch the journal gained.
type Entry struct {
	First, Last uint64
	Streams     []journal.Stream
	Data        []byte // with links, as package journal spells it
}

// Step is one partition's part of a group of operations, which see each other's
// effects in order. An engine fills Rows with every row that the operations
// name, as it is stored.
type Step struct {
	Self      region.ID
	Partition region.Partition
	State     *State // the step's own copy
	Rows      map[Key]Row
	Now       func() int64 // Unix milliseconds

	// What becomes durable with State, in one transaction:
	Touched bool            // whether State changed
	Written map[Key]bool    // keys of Rows
	Journal []Entry         // in order
	Moved   map[Source]bool // keys of State.Positions
	hash    []byte          // used again for every row
	rows    []journal.RowRecord
	records []journal.Record
}

// Keys names the rows of a batch.
func Keys(b *store.Batch) []Key {
	keys := make([]Key, len(b.Writes))
	for i := range b.Writes {
		keys[i] = Key{b.Owner, b.Writes[i].Table, string(b.Writes[i].Row)}
	}
	return keys
}

// ReplayKeys names the rows of a stream's batches.
func ReplayKeys(batches []*journal.Batch) []Key {
	var keys []Key
	for _, b := range batches {
		for i := range b.Records {
			if w := b.Records[i].Row; b.Records[i].Kind == journal.KindRow {
				keys = append(keys, Key{b.Owner, w.Table, string(w.Row)})
			}
		}
	}
	return keys
}

// Commit is store.Store's Commit of a batch that is valid.
func (s *Step) Commit(b *store.Batch, keys []Key) (store.Receipt, error) {
	if !s.State.Fence.Allows(b.Home, b.Epoch.Term) {
		return store.Receipt{}, region.Errorf(region.Unavailable, "home %s is fenced at term %s, the batch is of %s", b.Home, s.State.Fence[b.Home], b.Epoch.Term).
			WithHint("ask again: the world is changing who acts for the home")
	}
	for i := range b.Writes {
		w, have := &b.Writes[i], s.Rows[keys[i]]
		if r := (store.Row{Version: have.Version, Deleted: have.Deleted}); !w.Expect.Holds(&r) {
			return store.Receipt{}, region.Errorf(region.Conflict, "row %x of table %d of %d is at version %d, not as the batch expects", w.Row, w.Table, b.Owner, r.Version)
		}
	}
	// Nothing fails from here on.
	s.records, s.rows = s.records[:0], slices.Grow(s.rows[:0], len(b.Writes))[:len(b.Writes)]
	for i := range b.Writes {
		w, have := &b.Writes[i], s.Rows[keys[i]]
		row := Row{Version: have.Version + 1, Epoch: b.Epoch, Deleted: w.Delete, Home: b.Home, Value: w.Value}
		before, after := s.put(keys[i], w.Row, have, row)
		if w.Table.Class() == journal.ClassLocal {
			continue
		}
		s.State.home(b.Home).Changed = true
		if have.Home != "" && have.Home != b.Home {
			s.State.home(have.Home).Changed = true
		}
		s.rows[i] = journal.RowRecord{Table: w.Table, Row: w.Row, Version: row.Version, Deleted: row.Deleted, Value: row.Value, Before: before, After: after}
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

// put writes a row over the one before and keeps the sums; it returns both
// digests (zero for local rows, and for no row before).
func (s *Step) put(k Key, key []byte, have, row Row) (before, after journal.Sum) {
	if class := k.Table.Class(); class != journal.ClassLocal {
		if have.Version > 0 {
			before = have.Sum
			s.State.home(have.Home).of(class).remove(before)
		}
		s.hash = journal.AppendRowSum(s.hash[:0], k.Owner, k.Table, key, row.Version, row.Epoch, row.Deleted, row.Value)
		after = journal.SumOf(s.hash)
		row.Sum = after
		s.State.home(row.Home).of(class).add(after)
	}
	if s.Written == nil {
		s.Written = map[Key]bool{}
	}
	s.Rows[k], s.Written[k], s.Touched = row, true, true
	return before, after
}

// append gives a batch its origin, sequences, time and links, and makes it the
// journal's next. It returns the first and last sequence.
func (s *Step) append(b *journal.Batch) (first, last uint64) {
	st := s.State
	b.Origin, b.Partition, b.Incarnation, b.UnixMilli = s.Self, s.Partition, st.Incarnation, s.Now()
	first = st.Next
	for i := range b.Records {
		b.Records[i].Seq = st.Next
		st.Next++
	}
	last = st.Next - 1
	st.UnixMilli = b.UnixMilli

	streams := journal.Streams(nil, b.Records)
	links := make([]journal.Link, 0, len(streams))
	body := journal.AppendBody(nil, b)
	for _, name := range streams {
		head := st.head(name)
		var link journal.Link
		if name == journal.Full {
			link, *head = journal.NextBody(*head, last, body)
		} else {
			link, *head = journal.Next(*head, journal.Filter(b, name))
		}
		links = append(links, link)
	}
	s.Journal = append(s.Journal, Entry{First: first, Last: last, Streams: streams, Data: append(journal.AppendLinks(nil, links), body...)})
	s.Touched = true
	return first, last
}

// SetPosition is store.Store's SetPosition of a position that is valid.
func (s *Step) SetPosition(at journal.Position) {
	if store.Newer(s.State.Positions[Source{at.Origin, at.Stream}], at) {
		s.move(at)
		s.record(at)
	}
}

func (s *Step) move(at journal.Position) {
	if s.Moved == nil {
		s.Moved = map[Source]bool{}
	}
	k := Source{at.Origin, at.Stream}
	s.State.Positions[k], s.Moved[k], s.Touched = at, true, true
}

// record puts a position into this region's own journal.
func (s *Step) record(at journal.Position) {
	s.append(&journal.Batch{Records: []journal.Record{{Kind: journal.KindPosition, Position: &at}}})
}

// Watermark appends the sums of the homes whose rows this region changed since
// their last watermark, in one batch, and returns how many.
func (s *Step) Watermark() int {
	var records []journal.Record
	for home, sums := range s.State.Sums {
		if sums.Changed {
			w := s.State.Watermark(home)
			records = append(records, journal.Record{Kind: journal.KindWatermark, Watermark: &w})
			sums.Changed = false
		}
	}
	if len(records) == 0 {
		return 0
	}
	slices.SortFunc(records, func(a, b journal.Record) int {
		if a.Watermark.Home < b.Watermark.Home {
			return -1
		}
		return 1
	})
	s.append(&journal.Batch{Records: records})
	return len(records)
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
