package authority

import (
	"net"
	"strings"

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
//
// A stand-alone server's names are their own targets: a place may have another
// address for each name, so its host says nothing about one of them.
func (z *zone) bindings(m *dns.Msg, name string, qtype uint16, a steer.Answer) {
	give := func(priority int, target string, ends []steer.Endpoint) {
		svcb := dns.SVCB{Hdr: header(name, qtype, a.TTL), Priority: uint16(priority), Target: target, Value: parameters(ends)}
		if qtype == dns.TypeHTTPS {
			m.Answer = append(m.Answer, &dns.HTTPS{SVCB: svcb})
		} else {
			m.Answer = append(m.Answer, &svcb)
		}
	}
	if len(z.world.Names) > 0 {
		if len(a.Endpoints) > 0 {
			give(1, ".", a.Endpoints)
		}
		return
	}
	zone := strings.ToLower(z.name) // the case of a target is signed (RFC 4034 section 6.2 knows older types only)
	for i := range a.Endpoints {
		give(i+1, hostOf(a.Endpoints[i], zone), a.Endpoints[i:i+1])
	}
}

// parameters are the port, where all have the same, and the addresses.
func parameters(ends []steer.Endpoint) (out []dns.SVCBKeyValue) {
	port := ends[0].Address.Port()
	for _, e := range ends {
		if e.Address.Port() != port {
			port = 0
		}
	}
	if port != 0 {
		out = append(out, &dns.SVCBPort{Port: port})
	}
	var v4, v6 []net.IP
	for _, addr := range addrsOf(ends) {
		if addr.Is4() {
			v4 = append(v4, addr.AsSlice())
		} else {
			v6 = append(v6, addr.AsSlice())
		}
	}
	if len(v4) > 0 {
		out = append(out, &dns.SVCBIPv4Hint{Hint: v4})
	}
	if len(v6) > 0 {
		out = append(out, &dns.SVCBIPv6Hint{Hint: v6})
	}
	return out
}
