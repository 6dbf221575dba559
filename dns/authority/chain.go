package authority

import (
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// A signed zone goes to its secondaries signed: they have no key, and answer with
// the signatures and the chain of NSEC records that were transferred. What this
// server answers itself denies by one name at a time, see [signer]; a validator
// takes either.

// owned is a name of a zone with its records.
type owned struct {
	name   string   // lower case
	labels []string // from the right, for the order of RFC 4034 section 6.1
	sets   map[uint16][]dns.RR
	hidden bool // below a delegation or a DNAME: not this zone's to sign
}

// signZone adds to the records of a zone, of which the SOA is the first, its keys,
// the chain of its names and all signatures. The order stays that of a transfer:
// the SOA comes first.
func (s *signer) signZone(records []dns.RR, z *zone) ([]dns.RR, error) {
	for _, qtype := range []uint16{dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY} {
		m := new(dns.Msg)
		s.apex(m, z, qtype)
		records = append(records[:len(records):len(records)], m.Answer...)
	}
	records = slices.DeleteFunc(records, func(rr dns.RR) bool { // of a file that somebody has signed
		return rr.Header().Rrtype == dns.TypeRRSIG || rr.Header().Rrtype == dns.TypeNSEC
	})
	names := namesOf(records)
	apex := dns.CanonicalName(z.name)
	cut := ""
	var chain []*owned
	for _, n := range names {
		if n.hidden = cut != "" && n.name != cut && dns.IsSubDomain(cut, n.name); n.hidden {
			continue
		}
		cut = ""
		if n.name != apex && (len(n.sets[dns.TypeNS]) > 0 || len(n.sets[dns.TypeDNAME]) > 0) {
			cut = n.name
		}
		chain = append(chain, n)
	}
	for i, n := range chain {
		var types []uint16
		for t := range n.sets {
			if s.signs(n, t, apex) || t == dns.TypeNS {
				types = append(types, t)
			}
		}
		types = append(types, dns.TypeRRSIG, dns.TypeNSEC)
		slices.Sort(types)
		n.sets[dns.TypeNSEC] = []dns.RR{&dns.NSEC{
			Hdr: header(n.name, dns.TypeNSEC, z.soa().Hdr.Ttl), NextDomain: chain[(i+1)%len(chain)].name, TypeBitMap: types,
		}}
	}
	var out []dns.RR
	for _, n := range names {
		for _, t := range n.types() {
			out = append(out, n.sets[t]...)
			if n.hidden || !s.signs(n, t, apex) {
				continue
			}
			for key := range s.signing(t) {
				sig, err := s.make(n.sets[t], z.name, key)
				if err != nil {
					return nil, region.Errorf(region.Internal, "%s %s cannot be signed", n.name, dns.TypeToString[t]).WithCause(err)
				}
				out = append(out, sig)
			}
		}
	}
	return out, nil
}

// signs says whether the set of a type at a name that is not hidden is signed: at
// a delegation the name servers are the child's (RFC 4035 section 2.2).
func (s *signer) signs(n *owned, rtype uint16, apex string) bool {
	if n.name == apex || len(n.sets[dns.TypeNS]) == 0 {
		return true
	}
	return rtype == dns.TypeDS || rtype == dns.TypeNSEC
}

// types are those of a name's sets, the SOA first.
func (n *owned) types() []uint16 {
	var out []uint16
	for t := range n.sets {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b uint16) int {
		switch {
		case a == dns.TypeSOA:
			return -1
		case b == dns.TypeSOA:
			return 1
		}
		return int(a) - int(b)
	})
	return out
}

// namesOf sorts records by their names, in canonical order: the zone itself comes
// first, and what is below a name right behind it.
func namesOf(records []dns.RR) []*owned {
	byName := map[string]*owned{}
	var out []*owned
	for _, rr := range records {
		name := dns.CanonicalName(rr.Header().Name)
		n := byName[name]
		if n == nil {
			n = &owned{name: name, labels: labelsOf(name), sets: map[uint16][]dns.RR{}}
			slices.Reverse(n.labels)
			byName[name] = n
			out = append(out, n)
		}
		rr = dns.Copy(rr)
		rr.Header().Name = name
		n.sets[rr.Header().Rrtype] = append(n.sets[rr.Header().Rrtype], rr)
	}
	slices.SortFunc(out, func(a, b *owned) int { return slices.CompareFunc(a.labels, b.labels, strings.Compare) })
	return out
}
