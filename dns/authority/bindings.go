package authority

import (
	"net"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// steeredTypes are the types that a service's name has, for some client.
func steeredTypes(s region.Service) []uint16 {
	out := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeSVCB}
	if s != region.Long { // what is reached by HTTP
		out = append(out, dns.TypeHTTPS)
	}
	return out
}

// bindings makes SVCB or HTTPS records (RFC 9460): an endpoint in each, with its
// port and its address, so that a client connects after one question. Priority
// keeps the order; the protocol is what the service's scheme says, so there is no
// alpn.
func (z *zone) bindings(m *dns.Msg, name string, qtype uint16, a steer.Answer) {
	for i, e := range a.Endpoints {
		svcb := dns.SVCB{
			Hdr: header(name, qtype, a.TTL), Priority: uint16(i + 1), Target: hostOf(e, z.name),
			Value: []dns.SVCBKeyValue{&dns.SVCBPort{Port: e.Address.Port()}, hint(e.Address.Addr().Unmap())},
		}
		if qtype == dns.TypeHTTPS {
			m.Answer = append(m.Answer, &dns.HTTPS{SVCB: svcb})
		} else {
			m.Answer = append(m.Answer, &svcb)
		}
	}
}

func hint(a netip.Addr) dns.SVCBKeyValue {
	if a.Is4() {
		return &dns.SVCBIPv4Hint{Hint: []net.IP{a.AsSlice()}}
	}
	return &dns.SVCBIPv6Hint{Hint: []net.IP{a.AsSlice()}}
}
