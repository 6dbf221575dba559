package memory

import (
	"bytes"
	"context"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

func shown(t journal.Table, row string, r *partition.Row) store.Row {
	return store.Row{Table: t, Row: []byte(row), Version: r.Version, Epoch: r.Epoch, Deleted: r.Deleted, Value: bytes.Clone(r.Value)}
}

func (s *Store) shelfOf(owner region.UIN) *shelf {
	return s.disk.parts[region.PartitionOf(owner, len(s.parts))]
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, owner region.UIN, t journal.Table, row []byte) (store.Row, error) {
	if err := s.enter(ctx); err != nil {
		return store.Row{Table: t, Row: bytes.Clone(row)}, err
	}
	defer s.disk.mu.Unlock()
	r, _ := s.shelfOf(owner).row(key{owner, t, string(row)})
	return shown(t, string(row), &r), nil
}

// Scan implements store.Store. It gives the rows as they were when it began.
func (s *Store) Scan(ctx context.Context, owner region.UIN, t journal.Table, r store.Range, yield func(*store.Row) bool) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	rows := s.rows(owner, t, r)
	s.disk.mu.Unlock()
	for i := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !yield(&rows[i]) {
			break
		}
	}
	return nil
}

func (s *Store) rows(owner region.UIN, t journal.Table, r store.Range) (rows []store.Row) {
	have := s.shelfOf(owner).tables[tableKey{owner, t}]
	if have == nil {
		return nil
	}
	from, _ := slices.BinarySearchFunc(have.keys, string(r.From), strings.Compare)
	to := len(have.keys)
	if r.To != nil {
		to, _ = slices.BinarySearchFunc(have.keys, string(r.To), strings.Compare)
	}
	limit := r.Limit
	if limit <= 0 {
		limit = store.DefaultLimit
	}
	for n := 0; n < to-from && len(rows) < limit; n++ {
		k := have.keys[from+n]
		if r.Reverse {
			k = have.keys[to-1-n]
		}
		if row := have.rows[k]; r.Deleted || !row.Deleted {
			rows = append(rows, shown(t, k, &row))
		}
	}
	return rows
}

// Owners implements store.Store.
func (s *Store) Owners(ctx context.Context, p region.Partition, t journal.Table, after region.UIN, limit int) ([]region.UIN, error) {
	if _, err := s.part(p); err != nil {
		return nil, err
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.disk.mu.Unlock()
	var owners []region.UIN
	for k := range s.disk.parts[p].tables {
		if k.table == t && k.owner > after && k.owner <= math.MaxInt64 {
			owners = append(owners, k.owner)
		}
	}
	slices.Sort(owners)
	return owners[:min(limit, len(owners))], nil
}

// Journal implements store.Store.
func (s *Store) Journal(ctx context.Context, id region.Partition, name journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error) {
	if _, err := s.part(id); err != nil {
		return nil, err
	}
	if err := name.Valid(); err != nil {
		return nil, region.Errorf(region.BadInput, "%v", err)
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.disk.mu.Unlock()
	shelf := s.disk.parts[id]
	return pick(shelf.own, name, max(from, 1), maxBytes, shelf.state.Last(name))
}

// unknown is a newest record where nobody knows.
const unknown = math.MaxUint64

// pick returns what a stream carries of batches from a sequence on. lost is the
// newest record of the stream when none of them is kept.
func pick(all []entry, s journal.Stream, from uint64, maxBytes int, lost uint64) (batches []*journal.Batch, err error) {
	for i := range all { // the oldest that is kept tells what is not
		if f := journal.Filter(all[i].batch, s); f != nil && len(f.Links) > 0 {
			lost = min(lost, f.Links[0].Prev)
			break
		}
	}
	size := 0
	start := sort.Search(len(all), func(i int) bool { return all[i].last >= from })
	for i := start; i < len(all); i++ {
		f := journal.Filter(all[i].batch, s)
		if f == nil || len(f.Links) == 0 || f.Last() < from {
			continue
		}
		if len(batches) > 0 && size >= maxBytes {
			break
		}
		b, err := journal.Decode(bytes.Clone(all[i].data)) // the caller's own
		if err != nil {
			return nil, err
		}
		batches = append(batches, journal.Filter(b, s))
		size += len(all[i].data)
	}
	if lost >= from && lost != unknown {
		return nil, region.Errorf(region.NotFound, "the journal was trimmed there")
	}
	return batches, nil
}

// Copy implements store.Store.
func (s *Store) Copy(ctx context.Context, origin region.ID, id region.Partition, name journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error) {
	if err := store.ValidateCopy(s.o.Region, len(s.parts), origin, id, name); err != nil {
		return nil, err
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.disk.mu.Unlock()
	shelf := s.disk.parts[id]
	lost := uint64(unknown)
	if name == journal.Full {
		lost = shelf.state.Positions[partition.Source{Origin: origin, Stream: name}].Seq
	}
	return pick(shelf.kept[origin], name, max(from, 1), maxBytes, lost)
}

// Position implements store.Store.
func (s *Store) Position(ctx context.Context, origin region.ID, name journal.Stream, id region.Partition) (journal.Position, error) {
	at := journal.Position{Origin: origin, Stream: name, Partition: id}
	if _, err := s.part(id); err != nil {
		return at, err
	}
	if err := s.enter(ctx); err != nil {
		return at, err
	}
	defer s.disk.mu.Unlock()
	if have, ok := s.disk.parts[id].state.Positions[partition.Source{Origin: origin, Stream: name}]; ok {
		at = have
	}
	return at, nil
}

// Positions implements store.Store.
func (s *Store) Positions(ctx context.Context) ([]journal.Position, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.disk.mu.Unlock()
	var all []journal.Position
	for _, p := range s.disk.parts {
		for _, at := range p.state.Positions {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, store.ComparePositions)
	return all, nil
}

// Head implements store.Store.
func (s *Store) Head(id region.Partition) store.Head {
	if int(id) >= len(s.parts) {
		return store.Head{}
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.disk.parts[id].state.Head()
}

// Changed implements store.Store.
func (s *Store) Changed(id region.Partition) <-chan struct{} {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.changed[id]
}

// Sums implements store.Store.
func (s *Store) Sums(id region.Partition, home region.ID) journal.Watermark {
	if int(id) >= len(s.parts) {
		return journal.Watermark{Home: home}
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.disk.parts[id].state.Watermark(home)
}

// Turns implements store.Store.
func (s *Store) Turns(id region.Partition) map[region.ID]store.Turn {
	if int(id) >= len(s.parts) {
		return nil
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return maps.Clone(s.disk.parts[id].state.Turns)
}
