package authority

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	udpBuffer = 4 << 20 // bytes the kernel may keep while all workers are busy
	udpRead   = 4096    // bytes of the longest query read; a longer one is cut and thus malformed
)

// serveTCP accepts while there are slots. With a TLS configuration it is DNS
// over TLS (RFC 7858); the handshake has to end within the time of a message.
func (s *Server) serveTCP(l *net.TCPListener, config *tls.Config) {
	for {
		select {
		case s.slots <- struct{}{}:
		case <-s.stop:
			return
		}
		conn, err := l.AcceptTCP()
		if err != nil {
			<-s.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.metrics.socketErrors.Inc()
			select { // out of file descriptors: give others time to end
			case <-time.After(10 * time.Millisecond):
			case <-s.stop:
				return
			}
			continue
		}
		if !s.track(conn) {
			<-s.slots
			continue
		}
		s.running.Go(func() {
			defer func() { <-s.slots }()
			defer s.untrack(conn)
			peer := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
			if config == nil {
				s.serveConn(conn, peer, overTCP)
				return
			}
			secure := tls.Server(conn, config)
			if conn.SetDeadline(time.Now().Add(readTimeout)) != nil || secure.Handshake() != nil {
				return
			}
			s.serveConn(secure, peer, overTLS)
		})
	}
}

// track registers a connection for Close, which it loses to when it is late.
func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *Server) untrack(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	_ = conn.Close()
}

// serveConn answers the questions of a connection in order, each prefixed with
// its length (RFC 1035 section 4.2.2), until the client is done, idle, or sends
// something that is no question.
func (s *Server) serveConn(conn net.Conn, peer netip.Addr, via transport) {
	var head [2]byte
	for {
		if conn.SetDeadline(time.Now().Add(idleTimeout)) != nil {
			return
		}
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		if conn.SetDeadline(time.Now().Add(readTimeout)) != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(conn, packet); err != nil {
			return
		}
		s.limiter.prove(peer, s.now().UnixNano())
		if transfers(packet) {
			if s.transfer(conn, packet, via) != nil {
				return
			}
			continue
		}
		out := s.respond(packet, peer, via)
		if out == nil {
			return
		}
		// One write: two would be two packets, and wait for each other.
		framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(out)), uint16(len(out)))
		if _, err := conn.Write(append(framed, out...)); err != nil {
			return
		}
	}
}

// isWildcard says whether the socket is bound to no particular address.
func isWildcard(conn *net.UDPConn) bool {
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().IsUnspecified()
}
