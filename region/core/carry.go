package core

import (
	"context"

	"github.com/homing-im/homing/region"
)

// Abroad is how a move of an owner reaches the region that acts for the new
// home, and then everybody. Receive, Arrive and HeldUpTo are those of that
// region's [Core]. Every call blocks until it is answered, and may be made again.
type Abroad interface {
	Receive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, rows []MovedRow) (region.Epoch, error)
	Arrive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, sent region.Epoch) (Arrival, error)
	HeldUpTo(ctx context.Context, home region.ID, p region.Partition, m Mark) (bool, error)

	// Flip signs that the owner lives in the new home, takes that up here, durably,
	// and tells the other regions as far as they can be reached.
	Flip(ctx context.Context, m Move) error
}

// Carriage is a move that is being carried out: a [Move], and how far this
// process has taken it. A new one goes on where the owner's records say.
type Carriage struct {
	Move
	Rows, Bytes int // of the last copy

	copied, arrived bool
	epoch           region.Epoch // at which the copy was received
	there           Mark         // the new home's record up to which everything is in
}

// Progress says what a step of a move did.
type Progress int

// The kinds of progress.
const (
	Waiting Progress = iota // a backup has to catch up first
	Moved                   // there is more to do
	Ended                   // the owner has moved, and nothing is left here
)

// Carry takes the next step of a move: fence, copy, arrival, flip, departure, in
// this order, each only when the one before it cannot be lost. After an error the
// same step is to be taken again; what was copied is copied anew then, because
// another region, or another term, may act for the new home by now.
//
// Errors: WrongRegion when another region acts for the old home by now, and goes
// on; those of Abroad.
func (c *Core) Carry(ctx context.Context, a Abroad, m *Carriage) (Progress, error) {
	p, err := c.carry(ctx, a, m)
	if err != nil {
		m.copied, m.arrived = false, false
	}
	return p, err
}

func (c *Core) carry(ctx context.Context, a Abroad, m *Carriage) (Progress, error) {
	switch {
	case !m.Gone && !m.Sent:
		if err := c.fenceHere(ctx, &m.Move); err != nil {
			return Waiting, err
		}
		if s, err := c.journaled(); err != nil {
			return Waiting, err
		} else if h := s.Head(m.Part); h.Incarnation != m.Fence.Incarnation {
			// A home was taken over in this partition meanwhile. What is newer than the
			// fence covers it.
			m.Fence = Mark{h.Incarnation, h.Next - 1}
		}
		if !c.HeldUpTo(m.From, m.Part, m.Fence) {
			return Waiting, nil
		}
		if err := c.MarkSent(ctx, m.Move); err != nil {
			return Waiting, err
		}
		m.Sent = true
	case !m.Gone && !m.copied:
		return Moved, c.copyOwner(ctx, a, m)
	case !m.arrived:
		there, err := a.Arrive(ctx, m.Owner, m.To, m.Moves, m.epoch)
		if err != nil {
			return Waiting, err
		}
		if there.Missing { // whoever had the rows was lost, or serves another term
			return Moved, c.copyOwner(ctx, a, m)
		}
		m.arrived, m.there = true, there.Mark
	case !m.Gone:
		if err := a.Flip(ctx, m.Move); err != nil {
			return Waiting, err
		}
		m.Gone = true
	default:
		held, err := a.HeldUpTo(ctx, m.To, m.Part, m.there)
		if err != nil || !held {
			// The region that acts for the new home may be another one by now, which
			// has the arrival or not.
			m.arrived = false
			return Waiting, err
		}
		if err := c.Depart(ctx, m.Owner, m.Moves); err != nil {
			return Waiting, err
		}
		return Ended, nil
	}
	return Moved, nil
}

// copyOwner sends the owner's rows. All of them have to arrive at one epoch.
func (c *Core) copyOwner(ctx context.Context, a Abroad, m *Carriage) error {
	m.Rows, m.Bytes, m.copied, m.epoch = 0, 0, false, region.Epoch{}
	err := c.Rows(ctx, m.Owner, func(rows []MovedRow) error {
		e, err := a.Receive(ctx, m.Owner, m.To, m.Moves, rows)
		if err == nil && m.Rows > 0 && e != m.epoch {
			err = region.Errorf(region.Unavailable, "who acts for %s has changed while the rows of %d were sent", m.To, m.Owner).WithHint("it is tried again")
		}
		for _, r := range rows {
			m.Rows++
			m.Bytes += len(r.Row) + len(r.Value)
		}
		m.epoch = e
		return err
	})
	m.copied = err == nil
	return err
}
