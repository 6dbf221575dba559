package core

import (
	"context"
	"sync"

	"github.com/homing-im/homing/region"
)

// ownerLocks makes mutations of one owner wait for each other, in this process;
// the store's preconditions do the same between processes. Entries exist only
// while somebody holds or waits, so that two owners never share a lock, as
// they would with stripes: a lock is held during an fsync.
type ownerLocks struct {
	mu   sync.Mutex
	held map[region.UIN]*ownerLock
}

type ownerLock struct {
	turn    chan struct{} // holds one token while unlocked
	waiters int           // holder included
}

// try takes the owner's lock if nobody has it.
func (l *ownerLocks) try(u region.UIN) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[u] != nil {
		return nil, false
	}
	o := l.enter(u)
	<-o.turn
	return func() { l.leave(u, o) }, true
}

// lock blocks until the owner's lock is held or ctx ends.
func (l *ownerLocks) lock(ctx context.Context, u region.UIN) (unlock func(), err error) {
	l.mu.Lock()
	o := l.enter(u)
	l.mu.Unlock()
	select {
	case <-o.turn:
		return func() { l.leave(u, o) }, nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		l.forget(u, o)
		return nil, ctx.Err()
	}
}

// enter counts in who wants the lock. l.mu is held, as in forget.
func (l *ownerLocks) enter(u region.UIN) *ownerLock {
	if l.held == nil {
		l.held = make(map[region.UIN]*ownerLock)
	}
	o := l.held[u]
	if o == nil {
		o = &ownerLock{turn: make(chan struct{}, 1)}
		o.turn <- struct{}{}
		l.held[u] = o
	}
	o.waiters++
	return o
}

func (l *ownerLocks) forget(u region.UIN, o *ownerLock) {
	if o.waiters--; o.waiters == 0 {
		delete(l.held, u)
	}
}

func (l *ownerLocks) leave(u region.UIN, o *ownerLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.turn <- struct{}{} // has room: who has the lock took it out
	l.forget(u, o)
}
