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

// lock blocks until the owner's lock is held or ctx ends.
func (l *ownerLocks) lock(ctx context.Context, u region.UIN) (unlock func(), err error) {
	l.mu.Lock()
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
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if o.waiters--; o.waiters == 0 {
			delete(l.held, u)
		}
	}
	select {
	case <-o.turn:
		return func() { o.turn <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
