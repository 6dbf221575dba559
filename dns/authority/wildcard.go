package authority

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// On a socket bound to the wildcard address the kernel would choose the source
// of an answer by route, and a client drops an answer that does not come from
// where it asked. So the destination of each packet is asked for, as ancillary
// data, and used as the source of its answer. A socket bound to one address
// needs none of this.

// controlLen has room for the ancillary data of both address families.
const controlLen = 128

// isWildcard says whether the socket is bound to no particular address.
func isWildcard(conn *net.UDPConn) bool {
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().IsUnspecified()
}

// askDestinations turns on the ancillary data. A socket has one family or both,
// so one of the two calls may fail.
func askDestinations(conn *net.UDPConn) error {
	err6 := ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst, true)
	if err4 := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true); err4 == nil {
		return nil
	}
	return err6
}

// sourceFor turns the ancillary data of a packet into that of its answer; nil
// leaves the choice to the kernel. On a socket of both families an IPv4 packet
// has a mapped destination, and its answer wants the IPv4 form.
func sourceFor(control []byte) []byte {
	var dst net.IP
	var m6 ipv6.ControlMessage
	var m4 ipv4.ControlMessage
	if m6.Parse(control) == nil && m6.Dst != nil {
		dst = m6.Dst
	} else if m4.Parse(control) == nil {
		dst = m4.Dst
	}
	switch {
	case !usable(dst):
		return nil
	case dst.To4() != nil:
		return (&ipv4.ControlMessage{Src: dst}).Marshal()
	}
	return (&ipv6.ControlMessage{Src: dst}).Marshal()
}

// usable says whether a packet may come from the address it was sent to.
func usable(ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	return ok && !a.Unmap().IsMulticast() && a.Unmap() != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
