package access

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/wire"
)

// binary is the codec of the long connection.
type binary struct{}

func (binary) encode(m wire.Method, f wire.Flags, sequence uint64, body proto.Message) ([]byte, error) {
	return wire.AppendMessage(nil, m, f, sequence, body)
}

func (binary) decode(f wire.Frame, body proto.Message) error { return wire.Unmarshal(f, body) }

func (s *Server) acceptLong(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.closing.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: the listener lives on.
			s.o.Logger.Error("cannot accept", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-s.ctx.Done():
				return
			}
		}
		if s.conns.Add(1) > int64(s.o.MaxConnections) {
			s.conns.Add(-1)
			s.m.rejected.WithLabelValues("full").Inc()
			_ = conn.Close()
			continue
		}
		if s.greeting.Add(1) > int64(s.o.MaxHandshakes) {
			s.greeting.Add(-1)
			s.conns.Add(-1)
			s.m.rejected.WithLabelValues("handshakes").Inc()
			_ = conn.Close()
			continue
		}
		s.tasks.Add(1)
		s.workers.do(func() { s.greet(conn) })
	}
}

// long is a long connection. While it is silent it is parked, and has neither
// goroutine nor buffer; what it says is taken by a worker, in turn, which parks it
// at the next silence.
type long struct {
	*session
	q      *quiet
	conn   net.Conn // q, or TLS over it
	r      *wire.Reader
	disarm func() bool // the server's end no longer cuts the handshake short; nil when that is over

	again   func()      // turn
	rouse   func(error) // woken
	readBy  time.Time   // the read deadline; of whoever reads
	writeBy time.Time   // the write deadline; of the writer
	writers sync.WaitGroup
}

// greet begins a connection, in a worker: PROXY header, TLS, Hello and proof.
func (s *Server) greet(conn net.Conn) {
	l, reason := s.newLong(conn)
	if l == nil {
		if reason != "" {
			s.m.rejected.WithLabelValues(reason).Inc()
		}
		_ = conn.Close()
		s.greeting.Add(-1)
		s.conns.Add(-1)
		s.tasks.Done()
		return
	}
	l.turn()
}

// newLong reads what comes before the frames. Without a connection it returns
// why it is refused, which may be nothing to count.
func (s *Server) newLong(conn net.Conn) (l *long, reason string) {
	_ = conn.SetDeadline(time.Now().Add(s.o.Handshake))
	// The server's end must not wait for a client in mid-handshake.
	stop := context.AfterFunc(s.ctx, func() { _ = conn.SetDeadline(time.Now().Add(linger)) })
	defer func() {
		if l == nil {
			stop()
		}
	}()
	remote, ok := addrOf(conn.RemoteAddr()) // reads the PROXY header
	if !ok {
		return nil, "proxy-header"
	}
	pop := popOf(conn)
	q, err := newQuiet(conn)
	if err != nil {
		return nil, "no-socket"
	}
	c := net.Conn(q)
	if s.o.TLS != nil {
		t := tls.Server(q, s.o.TLS)
		if !s.shakes.enter(s.ctx) {
			return nil, "handshakes"
		}
		err := t.HandshakeContext(s.ctx)
		s.shakes.leave()
		if errors.Is(err, io.EOF) {
			return nil, "" // a health check that only connects
		} else if err != nil {
			return nil, "tls"
		}
		c = t
	}
	l = &long{session: s.newSession("long", region.Long, binary{}, core.Caller{Address: remote}), q: q, conn: c, r: wire.NewReader(c), disarm: stop}
	l.pop, l.holds, l.again, l.rouse = pop, true, l.turn, l.woken
	l.kill = func() {
		_ = conn.Close()
		s.parking.wakeUp(q, net.ErrClosed)
	}
	write := func() { defer l.writers.Done(); l.write() }
	l.out = newWrittenOutbox(s.o.MaxQueue, func() { l.writers.Add(1); s.workers.do(write) })
	l.r.Limit(maxHello)
	return l, ""
}

// turn takes what the client says until it is silent or gone.
func (l *long) turn() {
	for woken := true; ; woken = false {
		err := l.one(woken)
		switch {
		case err == nil:
			continue
		case !errors.Is(err, errNotNow{}):
			l.end(err)
			return
		case l.r.Buffered() > 0:
			continue // half a frame
		}
		l.r.Release()
		job := l.job
		l.job = nil
		l.s.parking.park(l.q, l.rouse)
		// Whoever tells it to leave wakes it if it is parked, and it looks whether it
		// was told once it is: one of the two comes last.
		if l.leaving.Load() {
			l.s.parking.wakeUp(l.q, errLeaving)
		}
		if job != nil {
			job() // in this worker: the connection is already waited for elsewhere
		}
		return
	}
}

// one takes one frame; woken says that there is something to read. The error is
// errNotNow when there is no frame; half a frame is waited for.
func (l *long) one(woken bool) error {
	l.q.now = false
	switch {
	case l.state != ready || l.r.Ready():
	case l.r.Buffered() > 0:
		l.pass()
	case l.s.o.TLS == nil && !woken:
		return errNotNow{} // park looks
	default:
		l.q.now = true // TLS may have read more than it gave
	}
	f, err := l.r.Next()
	if err != nil {
		return err
	}
	wasReady := l.state == ready
	if err := l.handle(f); err != nil {
		return err
	}
	if l.state != ready {
		return nil // under the handshake's deadline
	}
	if !wasReady {
		l.greeted()
		l.r.Limit(wire.MaxBody)
	}
	l.lull()
	return nil
}

// greeted ends the handshake, well or not.
func (l *long) greeted() {
	l.disarm()
	l.disarm = nil
	l.s.greeting.Add(-1)
}

// woken goes on with a connection that was parked. It does not block.
func (l *long) woken(err error) {
	if err != nil {
		l.s.workers.do(func() { l.end(err) })
		return
	}
	l.s.workers.do(l.again)
}

// lull gives a proven client its next silence. The deadline is not moved for
// every frame, but never further off than a sixteenth.
func (l *long) lull() {
	now, idle := time.Now(), l.idle()
	if l.readBy.Sub(now) < idle-idle/16 {
		l.readBy = now.Add(idle)
		_ = l.conn.SetReadDeadline(l.readBy)
	}
	// The writer sets the lingering deadline after leaving is set, so whichever
	// of the two comes last leaves the short one behind.
	if l.leaving.Load() || l.s.ctx.Err() != nil {
		_ = l.conn.SetReadDeadline(now.Add(linger))
	}
}

// end is the end of the connection.
func (l *long) end(err error) {
	defer l.s.tasks.Done()
	defer l.s.conns.Add(-1)
	l.q.now = false
	if l.disarm != nil {
		l.greeted()
	}
	l.pass()
	l.explain(err)
	// Only now is nothing fed any more: let the writer finish what was queued
	// for a client that is leaving in good order, and drop the rest.
	if l.leaving.Load() {
		_, _ = io.CopyN(io.Discard, l.conn, wire.MaxBody)
	} else {
		l.abort()
	}
	l.finish()
	_ = l.conn.Close()
	l.writers.Wait()
}

// explain counts why a connection ended, and tells the client what it sent.
func (n *session) explain(err error) {
	var e *region.Error
	switch {
	case n.leaving.Load():
	case errors.As(err, &e):
		_ = n.fatal("bad-frame", e)
	case errors.Is(err, proxyproto.ErrSuperfluousProxyHeader):
		n.s.m.rejected.WithLabelValues("proxy-header").Inc()
	case errors.Is(err, io.ErrUnexpectedEOF):
		n.s.m.cutOff.WithLabelValues("half-frame").Inc()
	case isTimeout(err) && n.state != ready:
		n.s.m.rejected.WithLabelValues("handshake-timeout").Inc()
	case isTimeout(err):
		n.s.m.cutOff.WithLabelValues("idle").Inc()
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// gather bounds the bytes of one write, in which small frames share a TLS record
// and a packet.
const gather = 64 << 10

// gathers are buffers for it, used again by whoever writes next.
var gathers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// write writes what is queued until nothing is, in a worker. At the end it leaves
// the connection half closed and with a short time to read.
func (l *long) write() {
	for {
		batch, more := l.out.next()
		switch {
		case !more:
			return
		case batch != nil:
			if err := l.writeAll(batch); err != nil {
				if isTimeout(err) {
					l.s.m.cutOff.WithLabelValues("slow").Inc()
				}
				l.abort()
				_ = l.conn.Close()
				return
			}
		case l.ctx.Err() != nil && !l.s.closing.Load():
			_ = l.conn.Close() // aborted
		default:
			closeWrite(l.conn)
			_ = l.conn.SetReadDeadline(time.Now().Add(linger))
			l.s.parking.wakeUp(l.q, errLeaving)
		}
	}
}

// writeAll writes frames, many at once.
func (l *long) writeAll(batch [][]byte) error {
	// A quarter less than Write is enough: a timer need not be moved every time.
	if now := time.Now(); l.writeBy.Sub(now) < l.s.o.Write*3/4 {
		l.writeBy = now.Add(l.s.o.Write)
		_ = l.conn.SetWriteDeadline(l.writeBy)
	}
	if len(batch) == 1 {
		_, err := l.conn.Write(batch[0])
		return err
	}
	buf := gathers.Get().(*[]byte)
	defer gathers.Put(buf)
	for i := 0; i < len(batch); {
		*buf = append((*buf)[:0], batch[i]...)
		for i++; i < len(batch) && len(*buf)+len(batch[i]) <= gather; i++ {
			*buf = append(*buf, batch[i]...)
		}
		if _, err := l.conn.Write(*buf); err != nil {
			return err
		}
	}
	return nil
}

// closeWrite tells the client that nothing follows.
func closeWrite(conn net.Conn) {
	if q, ok := conn.(*quiet); ok {
		conn = q.Conn
	}
	if p, ok := conn.(*proxyproto.Conn); ok {
		conn = p.Raw()
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}
