package pebble

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
)

// Fence refuses commits for the home at older terms: see store.Store.
//
// Every partition refuses from the moment its copy of the fence is raised. What
// it let pass before is in a chunk that is open or being written then, and the
// fence's own chunk goes with or behind those: when the fence is durable, so is
// every commit it let pass.
func (s *Store) Fence(ctx context.Context, home region.ID, t region.Term) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := home.Valid(); err != nil {
		return region.Errorf(region.BadInput, "fence: %v", err)
	}
	s.fenceMu.Lock()
	defer s.fenceMu.Unlock()
	raised := false
	for _, p := range s.parts {
		p.mu.Lock()
		raised = p.step.State.Fence.Raise(home, t) || raised
		p.mu.Unlock()
	}
	if !raised {
		t = s.fenceTerm(home) // an earlier call may have ended before it was durable
	}
	if t == (region.Term{}) {
		return nil
	}
	c := s.newChunk(nil)
	c.set(keyFence(home), appendTerm(nil, t), nil)
	if err := s.submit(c); err != nil {
		return err
	}
	return c.wait(ctx)
}

func (s *Store) fenceTerm(home region.ID) region.Term {
	p := s.parts[0]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.step.State.Fence[home]
}

// Trim forgets whole batches before a sequence: see store.Store.
func (s *Store) Trim(ctx context.Context, id region.Partition, before uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := s.part(id)
	if err != nil {
		return err
	}
	// Only what is durable is trimmed: the batch that holds sequence before
	// stays whole.
	next := p.durable.Load().head.Next
	cut := min(before, next)
	if cut < next {
		if cut, err = s.beginning(id, cut); err != nil {
			return err
		}
	}
	p.mu.Lock()
	if cut <= p.step.State.First {
		p.mu.Unlock()
		return nil
	}
	c, err := p.chunk()
	if err == nil {
		from := appendJournalKey(nil, id, p.step.State.First)
		_ = c.ops.DeleteRange(from, appendJournalKey(nil, id, cut), nil) // of a batch without index: never an error
		p.step.Trim(cut)
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return c.wait(ctx)
}

// beginning returns the first sequence of the batch that holds seq, or 0 when
// there is none.
func (s *Store) beginning(id region.Partition, seq uint64) (uint64, error) {
	snap, release, err := s.read()
	if err != nil {
		return 0, err
	}
	defer release()
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: appendJournalKey(nil, id, 0), UpperBound: appendJournalKey(nil, id, seq+1)})
	if err != nil {
		return 0, s.unreadable(err)
	}
	first := uint64(0)
	if it.Last() {
		first = journalSeq(it.Key())
	}
	if err := it.Close(); err != nil {
		return 0, s.unreadable(err)
	}
	return first, nil
}
