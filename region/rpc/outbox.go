package rpc

import (
	"net"
	"sync"
	"time"
)

const (
	// maxQueued is how many bytes may wait for one connection. Beyond it calls
	// are refused and tells are dropped: the other end does not keep up.
	maxQueued = 32 << 20
	// writeTimeout ends a connection whose other end does not read.
	writeTimeout = 10 * time.Second
)

// outbox is what waits to be written to one connection. Frames leave in the
// order they came, as many as there are with one write.
type outbox struct {
	conn net.Conn

	mu      sync.Mutex
	some    sync.Cond
	pending []byte
	closed  bool
}

func newOutbox(c net.Conn) *outbox {
	o := &outbox{conn: c}
	o.some.L = &o.mu
	return o
}

// put adds a frame. It never blocks, and is false when the box is over its limit
// or closed.
func (o *outbox) put(f frame) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.pending) > maxQueued {
		return false
	}
	o.pending = appendFrame(o.pending, f)
	o.some.Signal()
	return true
}

// close lets what waits leave; run then returns.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.some.Signal()
}

// run writes until the box is closed and empty, or a write fails. Either way the
// box takes nothing more, and the connection is closed.
func (o *outbox) run() {
	const keep = 256 << 10 // bytes of buffer that survive a burst
	defer o.conn.Close()
	defer o.close()
	var spare []byte
	for {
		o.mu.Lock()
		for len(o.pending) == 0 && !o.closed {
			o.some.Wait()
		}
		buf := o.pending
		if cap(spare) > keep {
			spare = nil
		}
		o.pending = spare[:0]
		o.mu.Unlock()
		if len(buf) == 0 {
			return
		}
		_ = o.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := o.conn.Write(buf); err != nil {
			return
		}
		spare = buf
	}
}
