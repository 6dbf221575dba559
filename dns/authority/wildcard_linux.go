package authority

import (
	"encoding/binary"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// On a socket bound to the wildcard address the kernel would choose the source
// of an answer by route, and a client drops an answer that does not come from
// where it asked. So the destination of each packet is asked for, as ancillary
// data, and sent back with its answer as the source (ip(7), ipv6(7)). A socket
// bound to one address needs none of this.

// controlLen has room for the ancillary data of one packet.
const controlLen = 64

// askDestinations turns on the ancillary data. Go binds the wildcard to a
// socket of both families where there is IPv6, and IPv4 destinations come mapped.
func askDestinations(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
		if failed != nil {
			failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// sourceFor turns the ancillary data of a packet, in place, into that of its
// answer. The interface is left to routing, which need not be symmetric.
func sourceFor(control []byte) []byte {
	head, data, rest, err := unix.ParseOneSocketControlMessage(control)
	if err != nil || len(rest) > 0 {
		return nil
	}
	const in6, in4 = syscall.SizeofInet6Pktinfo, syscall.SizeofInet4Pktinfo
	switch {
	case head.Level == syscall.IPPROTO_IPV6 && head.Type == syscall.IPV6_PKTINFO && len(data) == in6:
		binary.NativeEndian.PutUint32(data[16:], 0) // behind the address
	case head.Level == syscall.IPPROTO_IP && head.Type == syscall.IP_PKTINFO && len(data) == in4:
		binary.NativeEndian.PutUint32(data, 0) // before both addresses, the local one of which becomes the source
	default:
		return nil
	}
	return control
}
