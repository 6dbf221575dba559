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
//  4. Of a box with a writer, one goroutine at most runs the writer, and one runs
//     whenever there is something to write or the end to be told. So a
//     connection that is silent has none.
//
// A box without a writer is emptied by take.
type outbox struct {
	limit int           // bytes
	start func()        // runs the writer, which calls next until that is false; nil: take
	some  chan struct{} // of capacity 1: something to take, or closed; nil with a writer

	mu      sync.Mutex
	room    sync.Cond
	pending [][]byte
	bytes   int
	closed  bool
	aborted bool
	writing bool
	ended   bool // the writer was told of the end
}

// newOutbox makes a box that is emptied by take.
func newOutbox(limit int) *outbox {
	o := &outbox{limit: limit, some: make(chan struct{}, 1)}
	o.room.L = &o.mu
	return o
}

// newWrittenOutbox makes a box with a writer. start must not block.
func newWrittenOutbox(limit int, start func()) *outbox {
	o := &outbox{limit: limit, start: start}
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
	if o.start != nil {
		if !o.writing && !o.aborted {
			o.writing = true
			o.start()
		}
		return
	}
	select {
	case o.some <- struct{}{}:
	default:
	}
}

// next is take for the writer: it does not block. With nothing to write the
// writer has to return when more is false, and to end the connection when it is
// true.
func (o *outbox) next() (batch [][]byte, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pending) > 0 {
		return o.empty(), true
	}
	if o.closed && !o.ended {
		o.ended = true
		return nil, true
	}
	o.writing = false
	return nil, false
}

// empty returns what waits. o.mu is held.
func (o *outbox) empty() [][]byte {
	batch := o.pending
	o.pending, o.bytes = nil, 0
	o.room.Broadcast()
	return batch
}

// take returns everything that waits, blocking for at least one frame. It is
// false when the box is closed and empty, or ctx ended.
func (o *outbox) take(ctx context.Context) ([][]byte, bool) {
	for {
		o.mu.Lock()
		if len(o.pending) > 0 {
			batch := o.empty()
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
	o.closed, o.aborted, o.pending, o.bytes = true, true, nil, 0
	o.room.Broadcast()
	o.signal()
}
