package authority

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/miekg/dns"
)

// Address families of the client subnet option.
const (
	familyNone = 0 // dig +subnet=0 sends it
	familyIPv4 = 1
	familyIPv6 = 2
)

// subnet is the client subnet option of a query.
type subnet struct {
	family uint16
	source uint8
	prefix netip.Prefix // invalid for familyNone
}

// parseSubnet reads the option to the letter of RFC 7871 section 6.
func parseSubnet(b []byte) (subnet, bool) {
	if len(b) < 4 {
		return subnet{}, false
	}
	s := subnet{family: binary.BigEndian.Uint16(b), source: b[2]}
	octets, bits := b[4:], 0
	switch s.family {
	case familyNone:
		return s, s.source == 0 && b[3] == 0 && len(octets) == 0
	case familyIPv4:
		bits = 32
	case familyIPv6:
		bits = 128
	default:
		return s, false
	}
	if int(s.source) > bits || b[3] != 0 || len(octets) != (int(s.source)+7)/8 {
		return s, false
	}
	var full [16]byte
	copy(full[:], octets)
	addr := netip.AddrFrom16(full)
	if s.family == familyIPv4 {
		addr = netip.AddrFrom4([4]byte(full[:4]))
	}
	s.prefix = netip.PrefixFrom(addr, int(s.source))
	return s, s.prefix == s.prefix.Masked()
}

// option is the option of the response: the query's, with the scope.
func (s *subnet) option(scope uint8) *dns.EDNS0_SUBNET {
	o := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: s.family, SourceNetmask: s.source}
	if s.source > 0 {
		o.SourceScope = scope
	}
	switch s.family {
	case familyIPv4, familyIPv6:
		o.Address = net.IP(s.prefix.Addr().AsSlice())
	}
	return o
}

// source is the client's network as the query tells it; invalid when it does
// not, or asks not to be steered by it (source length 0).
func (q *query) source() netip.Prefix {
	if q.subnet == nil || q.subnet.source == 0 {
		return netip.Prefix{}
	}
	return q.subnet.prefix
}
