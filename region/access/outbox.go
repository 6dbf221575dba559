package access

import (
	"context"
	"sync"
)

// outbox holds what waits to be written to one client. Invariants:
//
//  1. Encoded frames leave in the order they came.
//  2. offer never blocks; put blocks only while the box is over its limit.
//  3. After close nothing comes in and everything in it still leaves; after
//     abort nothing leaves either.
type outbox struct {
	limit int           // bytes
	some  chan struct{} // of capacity 1: something to take, or closed

	mu      sync.Mutex
	room    sync.Cond
	pending [][]byte
	bytes   int
	closed  bool
}

func newOutbox(limit int) *outbox {
	o := &outbox{limit: limit, some: make(chan struct{}, 1)}
	o.room.L = &o.mu
	return o
}

// offer adds a frame unless the box is full or closed.
func (o *outbox) offer(b []byte) (ok, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false, false
	}
	if o.bytes > o.limit {
		return false, true
	}
	o.add(b)
	return true, false
}

// put adds a frame, waiting for room. It is false when the box was closed.
func (o *outbox) put(b []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.bytes > o.limit && !o.closed {
		o.room.Wait()
	}
	if o.closed {
		return false
	}
	o.add(b)
	return true
}

func (o *outbox) add(b []byte) {
	o.pending = append(o.pending, b)
	o.bytes += len(b)
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.some <- struct{}{}:
	default:
	}
}

// take returns everything that waits, blocking for at least one frame. It is
// false when the box is closed and empty, or ctx ended.
func (o *outbox) take(ctx context.Context) ([][]byte, bool) {
	for {
		o.mu.Lock()
		if len(o.pending) > 0 {
			batch := o.pending
			o.pending, o.bytes = nil, 0
			o.room.Broadcast()
			o.mu.Unlock()
			return batch, true
		}
		closed := o.closed
		o.mu.Unlock()
		if closed {
			o.signal() // for the next taker
			return nil, false
		}
		select {
		case <-o.some:
		case <-ctx.Done():
			return nil, false
		}
	}
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.room.Broadcast()
	o.signal()
}

func (o *outbox) abort() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.pending, o.bytes = true, nil, 0
	o.room.Broadcast()
	o.signal()
}
