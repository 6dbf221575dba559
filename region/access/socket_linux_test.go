package access

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// An accepted connection has what the listener was given.
func TestAcceptedSocketsInherit(t *testing.T) {
	s := &Server{o: Options{Write: 7 * time.Second, Handshake: time.Second}, ctx: t.Context(), trusted: func(netip.Addr) bool { return false }}
	l, err := s.listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = accepted.Close() }()
	q, err := newQuiet(accepted)
	if err != nil {
		t.Fatal(err)
	}
	var timeout, alive int
	err = q.raw.Control(func(fd uintptr) {
		var e1, e2 error
		timeout, e1 = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
		alive, e2 = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		if err := errors.Join(e1, e2); err != nil {
			t.Error(err)
		}
	})
	if err != nil || timeout != 7000 || alive != 0 {
		t.Errorf("TCP_USER_TIMEOUT %d ms, SO_KEEPALIVE %d, %v", timeout, alive, err)
	}
}
