package access

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
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
		s.tasks.Go(func() {
			defer s.conns.Add(-1)
			s.serveLong(conn)
		})
	}
}

// serveLong is one long connection from its first byte to its last. This
// goroutine reads; another one writes.
func (s *Server) serveLong(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(s.o.Handshake))
	// The server's end must not wait for a client in mid-handshake.
	stop := context.AfterFunc(s.ctx, func() { _ = conn.SetDeadline(time.Now().Add(linger)) })
	defer stop()

	remote, ok := addrOf(conn.RemoteAddr()) // reads the PROXY header
	if !ok {
		s.m.rejected.WithLabelValues("proxy-header").Inc()
		return
	}
	pop := popOf(conn)
	if s.o.TLS != nil {
		t := tls.Server(conn, s.o.TLS)
		if err := t.HandshakeContext(s.ctx); err != nil {
			if !errors.Is(err, io.EOF) { // a health check that only connects
				s.m.rejected.WithLabelValues("tls").Inc()
			}
			return
		}
		conn = t
	}
	n := s.newSession("long", region.Long, binary{}, core.Caller{Address: remote})
	n.pop = pop
	n.kill = func() { _ = conn.Close() }
	r := wire.NewReader(conn)
	r.Limit(maxHello)
	written := make(chan struct{})
	go func() {
		defer close(written)
		n.writeLong(conn)
	}()
	err := n.readLong(conn, r)
	n.explain(err)
	// Only now is nothing fed any more: let the writer finish what was queued
	// for a client that is leaving in good order, and drop the rest.
	if n.leaving.Load() {
		_, _ = io.CopyN(io.Discard, conn, wire.MaxBody)
	} else {
		n.abort()
	}
	n.finish()
	_ = conn.Close()
	<-written
}

// readLong feeds the session until the connection or the session ends.
func (n *session) readLong(conn net.Conn, r *wire.Reader) error {
	for {
		f, err := r.Next()
		if err != nil {
			return err
		}
		wasReady := n.state == ready
		if err := n.handle(f); err != nil {
			return err
		}
		if n.state != ready {
			continue // under the handshake's deadline
		}
		if !wasReady {
			r.Limit(wire.MaxBody)
		}
		n.lull(conn)
	}
}

// lull gives a proven client its next silence.
func (n *session) lull(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(n.s.o.idle()))
	// The writer sets the lingering deadline after leaving is set, so whichever
	// of the two comes last leaves the short one behind.
	if n.leaving.Load() || n.s.ctx.Err() != nil {
		_ = conn.SetReadDeadline(time.Now().Add(linger))
	}
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

// writeLong writes what is queued, many frames at once, until the outbox ends.
// It leaves the connection half closed and with a short time to read.
func (n *session) writeLong(conn net.Conn) {
	const gather = 64 << 10 // bytes of one write, so that small frames share a TLS record and a packet
	var buf []byte
	for {
		batch, ok := n.out.take(context.Background())
		if !ok {
			break
		}
		for i := 0; i < len(batch); {
			buf = append(buf[:0], batch[i]...)
			for i++; i < len(batch) && len(buf)+len(batch[i]) <= gather; i++ {
				buf = append(buf, batch[i]...)
			}
			_ = conn.SetWriteDeadline(time.Now().Add(n.s.o.Write))
			if _, err := conn.Write(buf); err != nil {
				if isTimeout(err) {
					n.s.m.cutOff.WithLabelValues("slow").Inc()
				}
				n.abort()
				_ = conn.Close()
				return
			}
		}
		if cap(buf) > gather/4 {
			buf = nil
		}
	}
	if n.ctx.Err() != nil && !n.s.closing.Load() {
		_ = conn.Close() // aborted
		return
	}
	closeWrite(conn)
	_ = conn.SetReadDeadline(time.Now().Add(linger))
}

// closeWrite tells the client that nothing follows.
func closeWrite(conn net.Conn) {
	if p, ok := conn.(*proxyproto.Conn); ok {
		conn = p.Raw()
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}
