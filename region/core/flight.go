package core

import (
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// errGrounded is that a change cannot fly and has to go by mutate.
type errGrounded struct{}

func (errGrounded) Error() string { return "core: the change needs rows" }

// flight makes a change of a user's records that only appends to the inbox,
// without waiting until it is durable: then is told. Flights of one owner follow
// each other at once, so that an owner is not bound to one commit for each fsync,
// and share fsyncs. They are durable, and end, in their order.
//
// It is sound because it reads nothing that another flight writes. Where the inbox
// ends is remembered, flights under way included; the store makes one durable
// after the other, or none of those that follow (store.Submitter), so the sequence
// stays dense; and who reads the owner's rows to change them waits until all have
// landed.
//
// It is errGrounded when the store cannot do it, when the owner is not remembered
// as a user, and when a precondition does not hold, as that of a message that is
// known already; nothing happened then. ctx bounds the wait for the owner's turn.
func (c *Core) flight(ctx context.Context, owner region.UIN, change func(*txn) error, then func(*txn, error)) error {
	s, ok := c.o.Store.(store.Submitter)
	if !ok {
		return errGrounded{}
	}
	o, err := c.locks.board(ctx, owner)
	if err != nil {
		return region.Errorf(region.Unavailable, "waiting for the owner's turn").WithHint("retry").WithCause(err)
	}
	defer c.locks.leave(owner, o)
	p, err := c.admit(owner)
	if err == nil {
		err = c.stays(ctx, owner, p)
	}
	if err != nil {
		return err
	}
	t := c.newTxn(ctx, owner, p, true)
	if !t.isUser() {
		return errGrounded{}
	}
	if err := change(t); err != nil {
		return err
	}
	return c.depart(ctx, s, o, t, then)
}

// depart submits what a flight consists of. The owner's lock is held.
func (c *Core) depart(ctx context.Context, s store.Submitter, o *ownerLock, t *txn, then func(*txn, error)) error {
	if !c.join() {
		return region.Errorf(region.Unavailable, "region %s is stopping", c.o.Self).WithHint("retry")
	}
	t.flies = true
	t.keepHead()
	c.locks.fly(o)
	err := s.Submit(ctx, &t.batch, func(receipt store.Receipt, err error) {
		err = t.ended(receipt, err)
		c.locks.land(t.owner, o)
		then(t, err)
		c.running.Done()
	})
	if err == nil {
		return nil
	}
	c.heads.Remove(t.owner)
	c.locks.land(t.owner, o)
	c.running.Done()
	if region.KindOf(err) == region.Conflict {
		return errGrounded{}
	}
	return err
}
