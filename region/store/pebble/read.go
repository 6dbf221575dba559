package pebble

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// scanLimit is how many rows a Range without a limit gives.
const scanLimit = 1000

// patience is how many keys a scan steps over before it looks at its context.
const patience = 256

func (s *Store) unreadable(err error) error {
	return region.Errorf(region.Internal, "the store in %s cannot be read", s.options.Dir).WithCause(err)
}

// Get returns a row: see store.Store.
func (s *Store) Get(ctx context.Context, owner region.UIN, t journal.Table, row []byte) (store.Row, error) {
	p := region.PartitionOf(owner, len(s.parts))
	key := appendRowKey(make([]byte, 0, rowPrefix+len(row)), p, owner, t, row)
	none := store.Row{Table: t, Row: key[rowPrefix:]}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	snap, err := s.acquire()
	if err != nil {
		return none, err
	}
	defer s.release(snap)
	if s.parts[p].lacks(key) {
		return none, nil
	}
	value, closer, err := snap.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return none, nil
	}
	if err != nil {
		return none, s.unreadable(err)
	}
	defer func() { _ = closer.Close() }()
	f, _, err := cutRow(value)
	if err != nil {
		return none, s.unreadable(err)
	}
	f.value = bytes.Clone(f.value)
	return f.row(t, none.Row), nil
}

// Scan calls yield for rows in key order: see store.Store.
func (s *Store) Scan(ctx context.Context, owner region.UIN, t journal.Table, r store.Range, yield func(*store.Row) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	snap, release, err := s.read()
	if err != nil {
		return err
	}
	defer release()
	prefix := appendRowKey(nil, region.PartitionOf(owner, len(s.parts)), owner, t, nil)
	bounds := &pebble.IterOptions{LowerBound: append(bytes.Clone(prefix), r.From...), UpperBound: after(prefix)}
	if r.To != nil {
		bounds.UpperBound = append(bytes.Clone(prefix), r.To...)
	}
	if bytes.Compare(bounds.LowerBound, bounds.UpperBound) >= 0 {
		return nil
	}
	it, err := snap.NewIter(bounds)
	if err != nil {
		return s.unreadable(err)
	}
	err = scan(ctx, it, t, r, yield)
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = s.unreadable(closeErr)
	}
	return err
}

func scan(ctx context.Context, it *pebble.Iterator, t journal.Table, r store.Range, yield func(*store.Row) bool) error {
	first, next := it.First, it.Next
	if r.Reverse {
		first, next = it.Last, it.Prev
	}
	left := r.Limit
	if left <= 0 {
		left = scanLimit
	}
	steps := 0
	for ok := first(); ok && left > 0; ok = next() {
		if steps++; steps%patience == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		f, _, err := cutRow(it.Value())
		if err != nil {
			return region.Errorf(region.Internal, "row %x is damaged", it.Key()).WithCause(err)
		}
		if f.deleted && !r.Deleted {
			continue
		}
		left--
		row := f.row(t, it.Key()[rowPrefix:])
		if !yield(&row) {
			return nil
		}
	}
	return nil
}

// Position returns how far a foreign stream was applied: see store.Store.
func (s *Store) Position(ctx context.Context, origin region.ID, name journal.Stream, id region.Partition) (journal.Position, error) {
	at := journal.Position{Origin: origin, Stream: name, Partition: id}
	if err := ctx.Err(); err != nil {
		return at, err
	}
	if _, err := s.part(id); err != nil {
		return at, err
	}
	snap, release, err := s.read()
	if err != nil {
		return at, err
	}
	defer release()
	key := keyPosition(id, partition.Source{Origin: origin, Stream: name})
	value, closer, err := snap.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return at, nil
	}
	if err != nil {
		return at, s.unreadable(err)
	}
	defer func() { _ = closer.Close() }()
	found, err := decodePosition(key, value)
	if err != nil {
		return at, s.unreadable(err)
	}
	return found, nil
}

// Positions returns every position, by partition, origin and stream.
func (s *Store) Positions(ctx context.Context) ([]journal.Position, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	snap, release, err := s.read()
	if err != nil {
		return nil, err
	}
	defer release()
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: []byte{'p'}, UpperBound: []byte{'p' + 1}})
	if err != nil {
		return nil, s.unreadable(err)
	}
	var all []journal.Position
	for it.First(); it.Valid(); it.Next() {
		at, err := decodePosition(it.Key(), it.Value())
		if err != nil {
			return nil, s.unreadable(errors.Join(err, it.Close()))
		}
		all = append(all, at)
	}
	if err := it.Close(); err != nil {
		return nil, s.unreadable(err)
	}
	slices.SortFunc(all, store.ComparePositions)
	return all, nil
}

// Journal returns batches as a stream carries them: see store.Store.
func (s *Store) Journal(ctx context.Context, id region.Partition, name journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := s.part(id)
	if err != nil {
		return nil, err
	}
	if err := name.Valid(); err != nil {
		return nil, region.Errorf(region.BadInput, "%v", err)
	}
	from = max(from, 1)
	head := p.durable.Load().head // before the snapshot, which is then at least as new
	last := uint64(0)
	for _, h := range head.Streams {
		if h.Stream == name {
			last = h.Last
		}
	}
	if from > last {
		return nil, nil // the stream ends before; spares a sparse stream the scan
	}
	if from >= head.First {
		if batches, err := p.recently(name, from, head.Next, maxBytes); batches != nil || err != nil {
			return batches, err
		}
	}
	snap, release, err := s.read()
	if err != nil {
		return nil, err
	}
	defer release()
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: appendJournalKey(nil, id, 0), UpperBound: appendJournalKey(nil, id, head.Next)})
	if err != nil {
		return nil, s.unreadable(err)
	}
	// The batch that holds sequence from begins at it or before it.
	if !it.SeekLT(appendJournalKey(nil, id, from+1)) {
		it.First()
	}
	batches, err := p.collect(ctx, it, name, from, maxBytes)
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = s.unreadable(closeErr)
	}
	if err == nil && len(batches) == 0 {
		err = trimmed(name, from)
	}
	if err != nil {
		return nil, err
	}
	return batches, nil
}

func trimmed(name journal.Stream, from uint64) error {
	return region.Errorf(region.NotFound, "the journal was trimmed: stream %s is gone at %d", name, from).WithHint("bootstrap the replica")
}

// recently is Journal of batches that are in memory; none when the first one is
// not.
func (p *part) recently(name journal.Stream, from, next uint64, maxBytes int) ([]*journal.Batch, error) {
	entries, ok := p.newest.since(name, from, next, maxBytes)
	if !ok {
		return nil, nil
	}
	batches := make([]*journal.Batch, 0, len(entries))
	for i := range entries {
		b, err := journal.Decode(bytes.Clone(entries[i].data)) // the caller may alter what it gets
		if err != nil {
			return nil, region.Errorf(region.Internal, "journal of partition %d is damaged at %d", p.id, entries[i].first).WithCause(err)
		}
		if f := journal.Filter(b, name); f.Last() >= from {
			batches = append(batches, f)
		}
	}
	if len(batches) == 0 { // the first one's last records are of other streams
		return nil, nil
	}
	return batches, nil
}

// collect reads batches of a stream from the iterator on, beginning with the
// first that has a record at or after from.
func (p *part) collect(ctx context.Context, it *pebble.Iterator, name journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error) {
	var batches []*journal.Batch
	size, steps := 0, 0
	for ; it.Valid() && (len(batches) == 0 || size < maxBytes); it.Next() {
		if steps++; steps%patience == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		links, err := journal.DecodeLinks(it.Value())
		if err != nil {
			return nil, p.damaged(it, err)
		}
		if !slices.ContainsFunc(links, func(l journal.Link) bool { return l.Stream == name }) {
			continue
		}
		b, err := journal.Decode(bytes.Clone(it.Value()))
		if err != nil {
			return nil, p.damaged(it, err)
		}
		size += len(it.Value())
		f := journal.Filter(b, name)
		if f.Last() < from {
			continue
		}
		// Its predecessor tells whether the stream had anything between from and
		// the oldest batch that is kept.
		if len(batches) == 0 && f.First() > from && f.Links[0].Prev >= from {
			return nil, trimmed(name, from)
		}
		batches = append(batches, f)
	}
	return batches, nil
}

func (p *part) damaged(it *pebble.Iterator, err error) error {
	return region.Errorf(region.Internal, "journal of partition %d is damaged at %d", p.id, journalSeq(it.Key())).WithCause(err)
}

// Head returns where a partition's journal stands; the zero Head for a
// partition there is not.
func (s *Store) Head(id region.Partition) store.Head {
	p, err := s.part(id)
	if err != nil {
		return store.Head{}
	}
	h := p.durable.Load().head
	h.Streams = slices.Clone(h.Streams)
	return h
}

// Changed returns a channel that is closed when the partition's journal grows.
func (s *Store) Changed(id region.Partition) <-chan struct{} {
	p, err := s.part(id)
	if err != nil {
		return nil
	}
	p.changedMu.Lock()
	defer p.changedMu.Unlock()
	return p.changed
}

// Sums returns the digests of a home's rows in a partition.
func (s *Store) Sums(id region.Partition, home region.ID) journal.Watermark {
	if p, err := s.part(id); err == nil {
		if w, ok := p.durable.Load().sums[home]; ok {
			return w
		}
	}
	return journal.Watermark{Home: home}
}
