package core

import (
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// begun is what one target's operations have become while their commit is under
// way. It holds the target's lock.
type begun struct {
	target   region.UIN
	t        *txn
	pending  store.Pending
	outcomes []string
	kinds    []string
	unlock   func()
}

// wavesOf executes the first operations of many targets with one goroutine:
// those of a wave are all submitted, and then all waited for. It takes what was
// done out of the queues and returns the targets that have something left, in
// order: those with more than fits one commit, and those that somebody else
// changes just now, that conflict, or whose operations failed, for run to deal
// with. Without a store.Submitter that is all of them.
//
// A target whose lock is taken is not waited for: two waves that wait for each
// other's targets would wait for ever.
func (c *Core) wavesOf(ctx context.Context, order []region.UIN, queues map[region.UIN][]*operation) ([]region.UIN, error) {
	s, ok := c.o.Store.(store.Submitter)
	if !ok {
		return order, nil
	}
	left, err := c.waves(ctx, s, order, queues)
	if err != nil || len(left) == 0 {
		return left, err
	}
	// Who was busy a moment ago has mostly finished with the same fsync.
	return c.waves(ctx, s, left, queues)
}

func (c *Core) waves(ctx context.Context, s store.Submitter, order []region.UIN, queues map[region.UIN][]*operation) (left []region.UIN, err error) {
	for len(order) > 0 {
		n := min(len(order), c.o.Parallel)
		var wave []begun
		for _, u := range order[:n] {
			if b, ok := c.begin(ctx, s, u, queues[u]); ok {
				wave = append(wave, b)
			} else {
				left = append(left, u)
			}
		}
		var failed error
		for i := range wave {
			b := &wave[i]
			receipt, err := b.pending.Wait(ctx)
			err = b.t.ended(receipt, err)
			b.unlock()
			if err != nil {
				failed = err
				continue
			}
			c.stored(b.kinds)
			ops := queues[b.target]
			if queues[b.target] = ops[c.executed(ops, b.outcomes):]; len(queues[b.target]) > 0 {
				left = append(left, b.target)
			}
		}
		if failed != nil {
			return nil, failed
		}
		order = order[n:]
	}
	return left, nil
}

// begin submits a target's first operations. It is false when run has to do
// them.
func (c *Core) begin(ctx context.Context, s store.Submitter, u region.UIN, ops []*operation) (b begun, ok bool) {
	unlock, ok := c.locks.try(u)
	if !ok {
		return b, false
	}
	defer func() {
		if !ok {
			unlock()
		}
	}()
	p, err := c.admit(u)
	if err != nil {
		return b, false
	}
	t := c.newTxn(ctx, u, p, true)
	outcomes, kinds, err := t.executeSome(ops)
	if err != nil || t.empty() {
		return b, false
	}
	pending, err := s.Submit(ctx, &t.batch)
	if err != nil {
		_ = t.ended(store.Receipt{}, err)
		return b, false
	}
	return begun{target: u, t: t, pending: pending, outcomes: outcomes, kinds: kinds, unlock: unlock}, true
}
