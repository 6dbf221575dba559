package pebble

import (
	"cmp"
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// Commit makes the batch durable together with its journal records: see
// store.Store.
func (s *Store) Commit(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	c, receipt, err := s.begin(ctx, b, nil)
	if err != nil {
		return store.Receipt{}, err
	}
	if err := c.wait(ctx); err != nil {
		return store.Receipt{}, err
	}
	return receipt, nil
}

// Submit begins a commit: see store.Submitter.
func (s *Store) Submit(ctx context.Context, b *store.Batch, then func(store.Receipt, error)) error {
	_, _, err := s.begin(ctx, b, then)
	return err
}

var _ store.Submitter = (*Store)(nil)

func (s *Store) begin(ctx context.Context, b *store.Batch, then func(store.Receipt, error)) (*chunk, store.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, store.Receipt{}, err
	}
	if err := b.Validate(); err != nil {
		return nil, store.Receipt{}, err
	}
	if err := s.admit(); err != nil {
		return nil, store.Receipt{}, err
	}
	p := s.parts[region.PartitionOf(b.Owner, len(s.parts))]
	c, receipt, err := p.commit(b, then)
	if err != nil {
		s.metrics.Refused(err)
		// What it conflicts with has to be there for the caller who looks.
		if c != nil && region.KindOf(err) == region.Conflict {
			err = cmp.Or(c.wait(ctx), err)
		}
		return nil, store.Receipt{}, err
	}
	return c, receipt, nil
}

// commit puts a batch into the partition's open chunk, or nothing of it; then, if
// not nil, is told what becomes of the chunk. With a
// conflict it returns the chunk that has the row, unless that is durable.
func (p *part) commit(b *store.Batch, then func(store.Receipt, error)) (*chunk, store.Receipt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.s.failed.Load(); e != nil {
		return nil, store.Receipt{}, e
	}
	p.scratch.forget()
	receipt, err := p.step.Commit(b)
	if err != nil {
		return p.holds(), store.Receipt{}, err
	}
	p.open.commits++
	if then != nil {
		p.open.told = append(p.open.told, told{receipt, then})
	}
	return p.open, receipt, nil
}

// holds returns the chunk of the row that was found last, while that is not
// known to be durable.
func (p *part) holds() *chunk {
	n := len(p.scratch.places)
	if n == 0 {
		return nil
	}
	serial := p.scratch.places[n-1].serial
	if p.open != nil && p.open.serial == serial {
		return p.open
	}
	for _, c := range p.taken {
		if c != nil && c.serial == serial {
			return c
		}
	}
	return nil
}
