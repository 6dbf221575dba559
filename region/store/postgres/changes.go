package postgres

import (
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// key names a row of a partition.
type key struct {
	owner region.UIN
	table journal.Table
	row   string
}

// keysOf names the rows of a batch.
func keysOf(b *store.Batch) []key {
	keys := make([]key, len(b.Writes))
	for i := range b.Writes {
		keys[i] = key{b.Owner, b.Writes[i].Table, string(b.Writes[i].Row)}
	}
	return keys
}

// replayKeys names the rows of a stream's batches.
func replayKeys(batches []*journal.Batch) []key {
	var keys []key
	for _, b := range batches {
		for i := range b.Records {
			if w := b.Records[i].Row; b.Records[i].Kind == journal.KindRow {
				keys = append(keys, key{b.Owner, w.Table, string(w.Row)})
			}
		}
	}
	return keys
}

// mendKeys names the rows of a mending.
func mendKeys(m *store.Mending) []key {
	keys := make([]key, len(m.Rows))
	for i := range m.Rows {
		keys[i] = key{m.Rows[i].Owner, m.Rows[i].Table, string(m.Rows[i].Row.Row)}
	}
	return keys
}

// step is one partition's part of a group, with what the group's operations
// change: what becomes durable in one transaction with the state.
type step struct {
	partition.Step
	rows    []change // every row that the operations name
	places  map[key]int
	writes  int // of rows, those written
	journal []entry
	moved   []journal.Position // the last of a source counts
	kept    []*journal.Batch   // of other regions' full streams
	forgot  []region.ID        // whose copies go, before kept
}

var _ partition.Engine = (*step)(nil)

// change is a row as the group found it, and as it leaves it once it is written.
type change struct {
	key     key
	found   partition.Found
	written bool
	gone    bool // it was written last by being removed
	row     partition.Row
}

// entry is a batch the journal gains.
type entry struct {
	first   uint64
	streams []journal.Stream
	data    []byte // with links
}

// name makes room for a row that an operation names; false when it was named
// before.
func (s *step) name(k key) (place int, news bool) {
	if at, ok := s.places[k]; ok {
		return at, false
	}
	at := len(s.rows)
	s.places[k] = at
	s.rows = append(s.rows, change{key: k, found: partition.Found{Place: at}})
	return at, true
}

// Find returns a row as the operations of the group before left it.
func (s *step) Find(owner region.UIN, t journal.Table, row []byte) (partition.Found, error) {
	at, ok := s.places[key{owner, t, string(row)}]
	if !ok {
		return partition.Found{}, region.Errorf(region.Internal, "row %x of table %d of %d was not read", row, t, owner)
	}
	return s.rows[at].found, nil
}

// Begin has nothing to do: a group that fails leaves nothing.
func (s *step) Begin() error { return nil }

// Put writes a row.
func (s *step) Put(place int, _ bool, r *partition.Row) {
	c := &s.rows[place]
	if !c.written {
		c.written = true
		s.writes++
	}
	c.row, c.gone = *r, false
	c.found = partition.Found{Version: r.Version, Deleted: r.Deleted, Home: r.Home, Epoch: r.Epoch, Sum: r.Sum, Place: place}
}

// Erase removes a row.
func (s *step) Erase(place int) {
	c := &s.rows[place]
	if !c.written {
		c.written = true
		s.writes++
	}
	c.gone, c.row, c.found = true, partition.Row{}, partition.Found{Place: place}
}

// Append puts a batch into the journal.
func (s *step) Append(e *partition.Entry) {
	s.journal = append(s.journal, entry{first: e.First, streams: slices.Clone(e.Streams), data: slices.Concat(e.Links, e.Body)})
}

// Move writes a position.
func (s *step) Move(at *journal.Position) {
	s.moved = slices.DeleteFunc(s.moved, func(p journal.Position) bool { return p.Origin == at.Origin && p.Stream == at.Stream })
	s.moved = append(s.moved, *at)
}

// Turn has nothing to do: turns are written with the state.
func (s *step) Turn(region.ID, store.Turn) {}

// Keep puts a batch of another region's full stream by.
func (s *step) Keep(b *journal.Batch) { s.kept = append(s.kept, b) }

// Forget drops what was kept of another region's full stream.
func (s *step) Forget(origin region.ID) {
	s.forgot = append(s.forgot, origin)
	s.kept = slices.DeleteFunc(s.kept, func(b *journal.Batch) bool { return b.Origin == origin })
}

// changed says whether there is anything to make durable.
func (s *step) changed() bool {
	return s.Touched || s.writes > 0 || len(s.kept) > 0 || len(s.forgot) > 0
}

// clone copies a batch into memory of its own: the caller may change or drop
// his when his context ends, while the group goes on.
func clone(b *store.Batch) *store.Batch {
	size := 0
	for i := range b.Writes {
		size += len(b.Writes[i].Row) + len(b.Writes[i].Value)
	}
	for i := range b.Commands {
		size += len(b.Commands[i].Payload)
	}
	arena := make([]byte, 0, size)
	keep := func(v []byte) []byte {
		if len(v) == 0 {
			return nil
		}
		start := len(arena)
		arena = append(arena, v...)
		return arena[start:len(arena):len(arena)]
	}
	c := *b
	c.Writes = append([]store.Write(nil), b.Writes...)
	for i := range c.Writes {
		c.Writes[i].Row, c.Writes[i].Value = keep(c.Writes[i].Row), keep(c.Writes[i].Value)
	}
	c.Commands = append([]journal.Command(nil), b.Commands...)
	for i := range c.Commands {
		c.Commands[i].Payload = keep(c.Commands[i].Payload)
	}
	return &c
}
