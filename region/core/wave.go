package core

import (
	"context"
	"sync/atomic"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// begun is what one target's operations have become while their commit is under
// way.
type begun struct {
	target   region.UIN
	outcomes []string
	kinds    []string
	err      error // valid when the wave has ended
}

// wave is commits of many targets under way, all submitted by one goroutine.
type wave struct {
	begun []*begun
	flies bool // nothing that follows can overtake what was begun
	left  atomic.Int32
	ended chan struct{}
}

// done counts one down.
func (w *wave) done() {
	if w.left.Add(-1) == 0 {
		close(w.ended)
	}
}

// submit begins the first operations of every target. It returns the targets that
// it could not begin: those that somebody else changes just now, that conflict, or
// whose operations failed, for run to deal with. Without a store.Submitter that
// is all of them.
//
// A target whose lock is taken is not waited for: two waves that wait for each
// other's targets would wait for ever.
func (c *Core) submit(ctx context.Context, order []region.UIN, queues map[region.UIN][]*operation) (w *wave, left []region.UIN) {
	w = &wave{flies: true, ended: make(chan struct{})}
	w.left.Add(1) // of this goroutine
	defer w.done()
	s, ok := c.o.Store.(store.Submitter)
	if !ok {
		return w, order
	}
	for _, u := range order {
		if !c.begin(ctx, s, w, u, queues[u]) {
			left = append(left, u)
		}
	}
	return w, left
}

// collect waits for a wave, takes what was done out of the queues, and returns the
// targets that have something left.
func (c *Core) collect(ctx context.Context, w *wave, queues map[region.UIN][]*operation) (left []region.UIN, err error) {
	select {
	case <-w.ended:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for _, b := range w.begun {
		if b.err != nil {
			err = b.err
			continue
		}
		c.stored(b.kinds)
		ops := queues[b.target]
		if queues[b.target] = ops[c.executed(ops, b.outcomes):]; len(queues[b.target]) > 0 {
			left = append(left, b.target)
		}
	}
	return left, err
}

// begin submits a target's first operations as part of a wave. It is false when
// run has to do them.
func (c *Core) begin(ctx context.Context, s store.Submitter, w *wave, u region.UIN, ops []*operation) (ok bool) {
	o, flying, ok := c.locks.try(u)
	if !ok {
		return false
	}
	stays := false // the lock, until the commit is durable
	defer func() {
		if !stays {
			c.locks.leave(u, o)
		}
	}()
	p, err := c.admit(u)
	if err == nil {
		err = c.stays(ctx, u, p)
	}
	if err != nil {
		return false
	}
	t := c.newTxn(ctx, u, p, true)
	light, some := ops[0].message != nil && t.isUser(), ops
	if light {
		some = messages(ops)
	} else if flying {
		return false
	}
	b := &begun{target: u}
	if b.outcomes, b.kinds, err = t.executeSome(some); err != nil || t.empty() {
		return false
	}
	if !light || len(b.outcomes) < len(ops) {
		w.flies = false
	}
	w.left.Add(1)
	if light {
		err = c.depart(ctx, s, o, t, func(_ *txn, err error) {
			b.err = err
			w.done()
		})
	} else {
		stays = true
		err = s.Submit(ctx, &t.batch, func(receipt store.Receipt, err error) {
			b.err = t.ended(receipt, err)
			c.locks.leave(u, o)
			w.done()
		})
		if err != nil {
			stays = false
			_ = t.ended(store.Receipt{}, err)
		}
	}
	if err != nil {
		w.left.Add(-1)
		return false
	}
	w.begun = append(w.begun, b)
	return true
}

// messages returns the operations before the first that is more than a message.
func messages(ops []*operation) []*operation {
	for i, o := range ops {
		if o.message == nil {
			return ops[:i]
		}
	}
	return ops
}
