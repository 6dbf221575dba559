//go:build !linux || !(amd64 || arm64)

package authority

import (
	"errors"
	"net"
	"net/netip"
)

// listenUDP binds the one socket that all workers would share.
func listenUDP(at netip.AddrPort, _ int) ([]*net.UDPConn, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	return []*net.UDPConn{conn}, nil
}

// serveUDP is the only worker on a socket, packet by packet.
func (s *Server) serveUDP(conn *net.UDPConn) {
	m := newMemory(s)
	in, room := make([]byte, udpRead), make([]byte, 0, maxUDP)
	var control []byte
	if isWildcard(conn) {
		control = make([]byte, controlLen)
	}
	for {
		n, controls, _, peer, err := conn.ReadMsgUDPAddrPort(in, control)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.metrics.socketErrors.Inc() // such as an ICMP error of an earlier answer
			continue
		}
		m.begin()
		out := m.serve(room, in[:n], peer.Addr())
		m.end()
		if len(out) == 0 {
			continue
		}
		if _, _, err := conn.WriteMsgUDPAddrPort(out, sourceFor(control[:controls]), peer); err != nil {
			s.metrics.socketErrors.Inc()
		}
	}
}

// startUDP starts a worker, which closing the socket ends.
func (s *Server) startUDP(conn *net.UDPConn) { s.running.Go(func() { s.serveUDP(conn) }) }

func (s *Server) wakeUDP() {}

func (s *Server) closeUDP() {}
