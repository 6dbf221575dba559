package authority

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
)

// Error codes of DNS over QUIC (RFC 9250 section 4.3).
const (
	doqNoError       = 0x0
	doqProtocolError = 0x2
	doqExcessiveLoad = 0x4
)

// doqStreams bounds the questions under way on one connection.
const doqStreams = 64

// doq is a listener for DNS over QUIC with the socket below it.
type doq struct {
	*quic.Listener
	transport *quic.Transport
	socket    *net.UDPConn
}

// listenDoQ listens for DNS over QUIC (RFC 9250). 0-RTT is off: what is asked
// that early can be replayed by somebody else.
func (s *Server) listenDoQ(address string) (*doq, error) {
	addr, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, err
	}
	config := s.o.TLS.Clone()
	config.NextProtos, config.MinVersion = []string{"doq"}, tls.VersionTLS13
	t := &quic.Transport{
		Conn: socket,
		// With many clients a new one proves its address before the server keeps
		// anything of it, for one more round trip: forged ones cost no handshake.
		VerifySourceAddress: func(net.Addr) bool { return len(s.slots) > maxConns/4 },
	}
	l, err := t.Listen(config, &quic.Config{
		HandshakeIdleTimeout: readTimeout, MaxIdleTimeout: idleTimeout,
		MaxIncomingStreams: doqStreams, MaxIncomingUniStreams: -1,
		InitialStreamReceiveWindow: 2 + maxMessage, MaxStreamReceiveWindow: 2 + maxMessage,
		InitialConnectionReceiveWindow: 4 * maxMessage, MaxConnectionReceiveWindow: 4 * maxMessage,
	})
	if err != nil {
		_ = t.Close()
		_ = socket.Close()
		return nil, err
	}
	return &doq{Listener: l, transport: t, socket: socket}, nil
}

// Close ends the listener, its connections and its socket.
func (d *doq) Close() error {
	return errors.Join(d.Listener.Close(), d.transport.Close(), d.socket.Close())
}

// serveDoQ accepts until the listener is closed. Connections take slots as TCP's do.
func (s *Server) serveDoQ(l *doq) {
	for {
		conn, err := l.Accept(context.Background())
		if err != nil {
			return // closed
		}
		select {
		case s.slots <- struct{}{}:
		default:
			_ = conn.CloseWithError(doqExcessiveLoad, "too many connections")
			continue
		}
		s.running.Go(func() {
			defer func() { <-s.slots }()
			s.serveQUIC(conn)
		})
	}
}

// serveQUIC answers each stream's question, until the client is done or idle.
func (s *Server) serveQUIC(conn *quic.Conn) {
	peer := conn.RemoteAddr().(*net.UDPAddr).AddrPort().Addr()
	for {
		stream, err := conn.AcceptStream(context.Background())
		if err != nil {
			return // idle, closed by the client, or by the transport's Close
		}
		s.running.Go(func() {
			if !s.serveStream(stream, peer) {
				_ = conn.CloseWithError(doqProtocolError, "")
			}
		})
	}
}

// serveStream answers the one question of a stream (RFC 9250 section 4.2): a
// length, a message with ID 0, and nothing behind it. false means that the
// client does not keep to the protocol, which ends its connection.
func (s *Server) serveStream(stream *quic.Stream, peer netip.Addr) bool {
	defer func() { _ = stream.Close() }()
	if stream.SetDeadline(time.Now().Add(readTimeout)) != nil {
		return true
	}
	framed, err := io.ReadAll(io.LimitReader(stream, 2+maxMessage+1))
	if err != nil {
		stream.CancelRead(doqNoError)
		stream.CancelWrite(doqNoError)
		return true // slow, or gone
	}
	if len(framed) < 2+headerLen || int(binary.BigEndian.Uint16(framed)) != len(framed)-2 || framed[2] != 0 || framed[3] != 0 {
		return false
	}
	out := s.respond(framed[2:], peer, overQUIC)
	if out == nil {
		return false
	}
	_, _ = stream.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(out)), uint16(len(out))), out...))
	return true
}
