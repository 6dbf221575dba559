package core

import (
	"context"
	"sync"

	"github.com/homing-im/homing/region"
)

// ownerLocks makes mutations of one owner wait for each other, in this process;
// the store's preconditions do the same between processes. Entries exist only
// while somebody holds, waits or flies, so that two owners never share a lock, as
// they would with stripes: a lock may be held during an fsync.
//
// A mutation that reads rows holds the lock until it is durable, because reads
// show durable rows only. One that needs none, because all it has to know is
// remembered, holds it until it is submitted and then flies: the next of its kind
// goes on at once, and one that reads waits until all have landed.
type ownerLocks struct {
	mu   sync.Mutex
	held map[region.UIN]*ownerLock
	free []*ownerLock // used again
}

type ownerLock struct {
	turn    chan struct{} // holds one token while unlocked
	users   int           // who holds, waits and flies
	flights int
	landed  chan struct{} // closed when flights is 0; of who holds the lock and waits for that
}

// maxFreeLocks bounds ownerLocks.free.
const maxFreeLocks = 1024

// try takes the owner's lock if nobody has it, and says whether something flies.
func (l *ownerLocks) try(u region.UIN) (o *ownerLock, flying, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o = l.enter(u)
	select {
	case <-o.turn:
		return o, o.flights > 0, true
	default:
		l.forget(u, o)
		return nil, false, false
	}
}

// lock blocks until the owner's lock is held and nothing flies, or ctx ends.
func (l *ownerLocks) lock(ctx context.Context, u region.UIN) (unlock func(), err error) {
	o, err := l.board(ctx, u)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	var landed chan struct{}
	if o.flights > 0 {
		landed = make(chan struct{})
		o.landed = landed
	}
	l.mu.Unlock()
	if landed == nil {
		return func() { l.leave(u, o) }, nil
	}
	select {
	case <-landed:
		return func() { l.leave(u, o) }, nil
	case <-ctx.Done():
		l.leave(u, o)
		return nil, ctx.Err()
	}
}

// board blocks until the owner's lock is held, whatever flies, or ctx ends.
func (l *ownerLocks) board(ctx context.Context, u region.UIN) (*ownerLock, error) {
	l.mu.Lock()
	o := l.enter(u)
	l.mu.Unlock()
	select {
	case <-o.turn:
		return o, nil
	default:
	}
	select {
	case <-o.turn:
		return o, nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		l.forget(u, o)
		return nil, ctx.Err()
	}
}

// fly counts a flight; land ends it. The lock is held.
func (l *ownerLocks) fly(o *ownerLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.users++
	o.flights++
}

func (l *ownerLocks) land(u region.UIN, o *ownerLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.flights--; o.flights == 0 && o.landed != nil {
		close(o.landed)
		o.landed = nil
	}
	l.forget(u, o)
}

// enter counts in who wants the lock. l.mu is held, as in forget.
func (l *ownerLocks) enter(u region.UIN) *ownerLock {
	if l.held == nil {
		l.held = make(map[region.UIN]*ownerLock)
	}
	o := l.held[u]
	if o == nil {
		if n := len(l.free); n > 0 {
			o, l.free = l.free[n-1], l.free[:n-1]
		} else {
			o = &ownerLock{turn: make(chan struct{}, 1)}
			o.turn <- struct{}{}
		}
		l.held[u] = o
	}
	o.users++
	return o
}

func (l *ownerLocks) forget(u region.UIN, o *ownerLock) {
	if o.users--; o.users > 0 {
		return
	}
	delete(l.held, u)
	if len(l.free) < maxFreeLocks {
		l.free = append(l.free, o)
	}
}

func (l *ownerLocks) leave(u region.UIN, o *ownerLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.landed = nil
	o.turn <- struct{}{} // has room: who has the lock took it out
	l.forget(u, o)
}
