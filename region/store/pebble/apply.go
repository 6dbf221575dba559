package pebble

import (
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Apply replays batches of a foreign stream and moves its position, in one
// transaction: see store.Store.
func (s *Store) Apply(ctx context.Context, name journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	if err := ctx.Err(); err != nil {
		return store.Applied{}, err
	}
	if err := store.ValidateApply(s.options.Region, len(s.parts), name, batches); err != nil {
		return store.Applied{}, err
	}
	if err := s.admit(); err != nil {
		return store.Applied{}, err
	}
	var report store.Applied
	c, err := s.parts[batches[0].Partition].work(func(p *part) (wrote bool, err error) {
		report, err = p.step.Apply(name, batches)
		return report.Batches > 0, err
	})
	if err != nil {
		return store.Applied{}, err
	}
	if err := c.wait(ctx); err != nil {
		return store.Applied{}, err
	}
	s.metrics.Mismatches.Add(float64(len(report.Mismatches)))
	return report, nil
}

// Mend changes a partition's replica of one origin: see store.Mender.
func (s *Store) Mend(ctx context.Context, id region.Partition, m *store.Mending) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.ValidateMending(s.options.Region, len(s.parts), id, m); err != nil {
		return err
	}
	if err := s.admit(); err != nil {
		return err
	}
	c, err := s.parts[id].work(func(p *part) (bool, error) { return true, p.step.Mend(m) })
	if err != nil {
		return err
	}
	return c.wait(ctx)
}

// work takes a step in the partition, and returns the chunk to wait for. When
// there was nothing to write, that is the newest: what was repeated may be in
// it, and not durable yet.
func (p *part) work(step func(*part) (wrote bool, err error)) (*chunk, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scratch.forget()
	wrote, err := step(p)
	switch {
	case err != nil:
		return nil, err
	case wrote || p.open != nil:
		return p.open, nil
	}
	return p.taken[0], nil
}

// SetPosition moves the position of a command stream: see store.Store.
func (s *Store) SetPosition(ctx context.Context, at journal.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.ValidatePosition(len(s.parts), at); err != nil {
		return err
	}
	if err := s.admit(); err != nil {
		return err
	}
	c, err := s.parts[at.Partition].work(func(p *part) (bool, error) { return p.step.SetPosition(at) })
	if err != nil {
		return err
	}
	return c.wait(ctx)
}

// Watermark appends the sums of the homes whose rows this region changed since
// their last watermark, in one batch: see store.Store.
func (s *Store) Watermark(ctx context.Context, id region.Partition) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p, err := s.part(id)
	if err != nil {
		return 0, err
	}
	if err := s.admit(); err != nil {
		return 0, err
	}
	n := 0
	c, err := p.work(func(p *part) (bool, error) {
		n, err = p.step.Watermark()
		return n > 0, err
	})
	if err != nil || n == 0 {
		return 0, err
	}
	return n, c.wait(ctx)
}
