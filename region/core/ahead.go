package core

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// ahead knows the commands of one partition, to owners of this very region, that
// took effect ahead of the command loop: whoever wrote such a command submitted
// its effect as well, without waiting until the command could be read from the
// journal. So a message within the region waits for one fsync and not for two,
// and is neither read back nor decoded.
//
// The command is in the journal all the same. After a crash, or in a region that
// takes over, the loop executes it; what took effect is not done again, because
// the message is known. And the store makes the effect durable no sooner than the
// command (store.Submitter).
//
// What the loop executes cannot be overtaken: a message goes ahead only when the
// loop is past every message of the same sender to the same target that did not
// ([head.free]).
type ahead struct {
	mu      sync.Mutex
	tail    uint64               // the loop has taken what is in the stream up to here; all while there is no loop
	through uint64               // the loop has executed everything before this sequence
	after   map[uint64]*delivery // by the record that its command follows in the stream
}

// delivery is the effect of a command that went ahead.
type delivery struct {
	last uint64 // sequence of the command

	mu    sync.Mutex
	ended bool
	err   error
	begun *begun // of the wave of the loop that waits for it; nil when none does
	wave  *wave
}

// maxAhead bounds what went ahead of one partition's loop and was not taken by it:
// a loop that is held up must not cost memory without end.
const maxAhead = 1 << 16

func newAhead() *ahead { return &ahead{tail: math.MaxUint64} }

// passed says whether the loop has executed everything up to a sequence, and so
// another command may go ahead.
func (a *ahead) passed(sequence uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return sequence < a.through && len(a.after) < maxAhead
}

// add notes that the effect of a command is submitted. It is too late when the
// loop was there already.
func (a *ahead) add(r store.Receipt, d *delivery) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Follows >= a.tail {
		d.last = r.Last
		a.after[r.Follows] = d
	}
}

// reset says where the loop begins to read, or that there is none any more.
func (a *ahead) reset(tail, through uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tail, a.through = tail, through
	a.after = map[uint64]*delivery{}
}

// reached says how far the loop has read, and executed.
func (a *ahead) reached(tail, through uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tail, a.through = max(a.tail, tail), through
}

// before returns the batches in front of the first that went ahead. The first of
// all is one that take did not find, and is executed whether or not it did.
func (a *ahead) before(stream journal.Stream, batches []*journal.Batch) []*journal.Batch {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, b := range batches {
		for _, link := range b.Links {
			switch {
			case link.Stream != stream || a.after[link.Prev] == nil:
			case i == 0:
				delete(a.after, link.Prev)
			default:
				return batches[:i]
			}
		}
	}
	return batches
}

// some says whether anything went ahead that the loop has not taken.
func (a *ahead) some() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.after) > 0
}

// take hands the loop what went ahead behind the record tail, up to a sequence
// that is durable, and where that ends: at tail when there is nothing.
func (a *ahead) take(tail, durable uint64) (some []*delivery, end uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for d := a.after[tail]; d != nil && d.last <= durable; d = a.after[tail] {
		delete(a.after, tail)
		some, tail = append(some, d), d.last
	}
	a.tail = max(a.tail, tail)
	return some, tail
}

// end says what became of a delivery.
func (d *delivery) end(err error) {
	d.mu.Lock()
	d.ended, d.err = true, err
	w, b := d.wave, d.begun
	d.mu.Unlock()
	if w != nil {
		b.err = err
		w.done()
	}
}

// await makes of what went ahead an execution that is finished when all of it is
// durable.
func (c *Core) await(some []*delivery) *execution {
	w := &wave{flies: true, ended: make(chan struct{})}
	w.left.Add(1)
	defer w.done()
	for _, d := range some {
		d.mu.Lock()
		switch {
		case !d.ended:
			d.wave, d.begun = w, new(begun)
			w.begun = append(w.begun, d.begun)
			w.left.Add(1)
		case d.err != nil:
			w.begun = append(w.begun, &begun{err: d.err})
		}
		d.mu.Unlock()
	}
	return &execution{c: c, queues: map[region.UIN][]*operation{}, wave: w}
}

// effect is what a sender's flight brings to its target, ready to go ahead. The
// target's lock is held.
type effect struct {
	t    *txn
	lock *ownerLock
	what string // outcome
}

// foresee makes the effect of the message that a sender's flight is; nil when the
// command loop has to. The sender's lock is held. The target's is not waited for:
// whoever has it may be waiting for the sender's.
func (c *Core) foresee(ctx context.Context, t *txn) *effect {
	if c.ahead == nil || t.sends == nil || t.sends.command.To != c.o.Self {
		return nil
	}
	u := t.sends.command.Target
	if !t.head.free(u, c.ahead[region.PartitionOf(t.owner, len(c.ahead))]) {
		return nil
	}
	o, _, ok := c.locks.try(u)
	if !ok {
		return nil
	}
	if e := c.foreseeAt(ctx, t.sends, u); e != nil {
		e.lock = o
		return e
	}
	c.locks.leave(u, o)
	return nil
}

func (c *Core) foreseeAt(ctx context.Context, sends *operation, u region.UIN) *effect {
	p, err := c.admit(u)
	if err == nil {
		err = c.stays(ctx, u, p)
	}
	if err != nil {
		return nil
	}
	e := &effect{t: c.newTxn(ctx, u, p, true)}
	if !e.t.isUser() {
		return nil
	}
	if e.what, err = e.t.deliverTo(sends); err != nil || e.t.empty() {
		return nil
	}
	return e
}

// goAhead submits the effect of a command that is submitted, and says whether it
// did; if not, the command loop will.
func (c *Core) goAhead(ctx context.Context, s store.Submitter, e *effect, r store.Receipt) bool {
	d, submitted := new(delivery), e.t.now
	c.ahead[r.Partition].add(r, d) // first: the loop is on its way
	_, err := c.depart(ctx, s, e.lock, e.t, func(_ *txn, err error) {
		if err == nil {
			c.m.wentAhead(e.what, c.o.Clock().Sub(time.UnixMilli(submitted)))
		}
		d.end(err)
	})
	if err != nil {
		d.end(errGrounded{})
	}
	return err == nil
}
