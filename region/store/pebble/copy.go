package pebble

import (
	"context"
	"maps"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Handover writes down that a home changes hands: see store.Store.
func (s *Store) Handover(ctx context.Context, id region.Partition, h store.Handover) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.ValidateHandover(h); err != nil {
		return err
	}
	p, err := s.part(id)
	if err != nil {
		return err
	}
	if err := s.admit(); err != nil {
		return err
	}
	c, err := p.work(func(p *part) (bool, error) { return p.step.Handover(h) })
	if err != nil {
		return err
	}
	return c.wait(ctx)
}

// Turns returns how ownership stands in a partition, by home.
func (s *Store) Turns(id region.Partition) map[region.ID]store.Turn {
	p, err := s.part(id)
	if err != nil {
		return nil
	}
	return maps.Clone(p.durable.Load().turns)
}

// Copy returns batches that were kept of another region's full stream: see
// store.Store.
func (s *Store) Copy(ctx context.Context, origin region.ID, id region.Partition, name journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := store.ValidateCopy(s.options.Region, len(s.parts), origin, id, name); err != nil {
		return nil, err
	}
	from = max(from, 1)
	at, err := s.Position(ctx, origin, journal.Full, id)
	if err != nil || from > at.Seq {
		return nil, err
	}
	snap, release, err := s.read()
	if err != nil {
		return nil, err
	}
	defer release()
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: appendCopyKey(nil, id, origin, 0), UpperBound: appendCopyKey(nil, id, origin, at.Seq+1)})
	if err != nil {
		return nil, s.unreadable(err)
	}
	// The batch that holds sequence from begins at it or before it.
	if !it.SeekLT(appendCopyKey(nil, id, origin, from+1)) {
		it.First()
	}
	batches, err := s.parts[id].collect(ctx, it, name, from, maxBytes)
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = s.unreadable(closeErr)
	}
	if err == nil && len(batches) == 0 && name == journal.Full {
		err = trimmed(name, from)
	}
	if err != nil {
		return nil, err
	}
	return batches, nil
}

// TrimCopy forgets kept batches that end before a sequence.
func (s *Store) TrimCopy(ctx context.Context, origin region.ID, id region.Partition, before uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.ValidateCopy(s.options.Region, len(s.parts), origin, id, journal.Full); err != nil {
		return err
	}
	cut, err := s.copyBeginning(origin, id, before)
	if err != nil || cut == 0 {
		return err
	}
	c := s.newChunk(nil)
	_ = c.ops.DeleteRange(appendCopyKey(nil, id, origin, 0), appendCopyKey(nil, id, origin, cut), nil) // of a batch without index: never an error
	if err := s.submit(c); err != nil {
		return err
	}
	return c.wait(ctx)
}

// copyBeginning returns the first sequence of the kept batch that holds seq or
// is the last before it; 0 when there is none.
func (s *Store) copyBeginning(origin region.ID, id region.Partition, seq uint64) (uint64, error) {
	snap, release, err := s.read()
	if err != nil {
		return 0, err
	}
	defer release()
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: appendCopyKey(nil, id, origin, 0), UpperBound: appendCopyKey(nil, id, origin, seq+1)})
	if err != nil {
		return 0, s.unreadable(err)
	}
	first := uint64(0)
	if it.Last() {
		first = copySeq(it.Key())
	}
	if err := it.Close(); err != nil {
		return 0, s.unreadable(err)
	}
	return first, nil
}
