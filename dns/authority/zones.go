package authority

import (
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/authority/static"
	"github.com/homing-im/homing/region"
)

// fileFor returns the zone file that knows a name, or nil.
func (s *Server) fileFor(q *query) *static.Zone {
	if s.o.Static == nil {
		return nil
	}
	return s.o.Static().Find(q.name, q.qtype)
}

// fromFile answers from a zone that is not the world's.
func fromFile(m *dns.Msg, q *query, file *static.Zone) {
	a := file.Lookup(q.name, q.qtype, nil)
	m.Rcode, m.Authoritative = a.Rcode, a.Authoritative
	m.Answer, m.Ns, m.Extra = a.Records, a.Authority, a.Additional
}

// besides answers from a file of the world's zone what the world does not say:
// names that it does not have, and types at the zone's own name. It returns the
// scope where an alias leads to a steered name.
func (s *Server) besides(m *dns.Msg, q *query, z *zone, t target, v *region.View, file *static.Zone, peer netip.Addr) (scope uint8) {
	a := file.Lookup(q.name, q.qtype, func(name string) bool {
		at := find(v.World, labelsOf(name)).kind
		return at == steered || at == host
	})
	m.Rcode, m.Answer, m.Extra = dns.RcodeSuccess, a.Records, a.Additional
	switch {
	case a.Next != "": // www CNAME web; what the world does not have either, a resolver asks for by itself
		next := *q
		next.name, next.labels = a.Next, labelsOf(a.Next)
		switch at := find(v.World, next.labels); at.kind {
		case steered:
			reply := new(dns.Msg)
			scope = s.steered(reply, &next, z, at, v, peer)
			m.Answer, m.Extra = append(m.Answer, reply.Answer...), append(m.Extra, reply.Extra...)
		case host:
			m.Answer = append(m.Answer, addresses(a.Next, z.ttl(), q.qtype, at.addrs)...)
		}
	case !a.Authoritative:
		m.Authoritative, m.Ns = false, a.Authority
	case t.kind == missing:
		m.Rcode = a.Rcode
	}
	return scope
}

// labelsOf are the lower-case labels of a name that a file holds.
func labelsOf(name string) []string {
	var room [maxName]byte
	n, err := dns.PackDomainName(name, room[:], 0, nil, false)
	if err != nil {
		return nil
	}
	var out []string
	for at := 0; at < n && room[at] != 0; at += 1 + int(room[at]) {
		out = append(out, lower(room[at+1:at+1+int(room[at])]))
	}
	return out
}

// inFile says whether a type at the zone's own name is the file's to answer:
// what the world, or signing, makes is not.
func inFile(qtype uint16, signed bool) bool {
	switch qtype {
	case dns.TypeSOA, dns.TypeNS, dns.TypeANY:
		return false
	case dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY, dns.TypeNSEC, dns.TypeRRSIG:
		return !signed
	}
	return true
}

// existing adds what a file knows of a name to what the world does, for denials.
func existing(t target, name string, file *static.Zone) target {
	if file == nil || t.kind != missing && t.kind != empty && t.kind != apex {
		return t
	}
	types, exists := file.Types(name)
	if t.kind == apex {
		types = slices.DeleteFunc(types, func(rtype uint16) bool { return !inFile(rtype, true) })
	} else if exists {
		t.kind = listed
		if slices.Contains(types, dns.TypeNS) { // the parent's side of a delegation (RFC 4035 section 2.3)
			types = slices.DeleteFunc(types, func(rtype uint16) bool { return rtype != dns.TypeNS && rtype != dns.TypeDS })
		}
	}
	t.types = types
	return t
}
