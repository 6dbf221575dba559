package static

import (
	"errors"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxChain bounds the names that one answer leads through.
const maxChain = 16

// Answer is what a zone says to a question.
type Answer struct {
	Rcode         int
	Authoritative bool // false for a referral
	Records       []dns.RR
	Authority     []dns.RR
	Additional    []dns.RR
	// Next is the name in the zone at which a chain of aliases leaves the file: it
	// is not there, or somebody else's. The answer ends with the alias.
	Next string
}

// Lookup answers a question about a name in the zone. A chain of aliases stops
// at names that elsewhere says are somebody else's; nil says it of none.
func (z *Zone) Lookup(name string, qtype uint16, elsewhere func(name string) bool) Answer {
	a := Answer{Authoritative: true}
	passed := []string{dns.CanonicalName(name)}
	for range maxChain {
		wire, err := wireOf(name)
		if err != nil {
			a.Rcode = dns.RcodeFormatError
			return a
		}
		target, again := z.step(&a, name, wire, qtype)
		if a.Rcode == dns.RcodeNameError && len(a.Records) > 0 {
			a.Next = name
		}
		lower := dns.CanonicalName(target)
		if !again || !dns.IsSubDomain(z.Origin, lower) || slices.Contains(passed, lower) {
			break
		}
		passed = append(passed, lower)
		name = target
		if elsewhere != nil && elsewhere(name) {
			a.Next = name
			break
		}
	}
	z.additional(&a)
	return a
}

// Types are the types of the records that a name has, by itself or by a
// wildcard, and whether it exists. Nothing below a delegation does.
func (z *Zone) Types(name string) (types []uint16, exists bool) {
	a := Answer{}
	wire, err := wireOf(name)
	if err != nil {
		return nil, false
	}
	names := suffixes(wire)
	n := z.nodes[names[0]]
	if n == nil {
		if a = z.Lookup(name, dns.TypeNone, nil); a.Rcode == dns.RcodeNameError && a.Next == "" {
			return nil, false
		}
		for _, above := range names[1:] {
			if z.nodes[above] != nil {
				n = z.nodes["\x01*"+above]
				break
			}
		}
		if n == nil {
			return nil, true // by a DNAME, or delegated
		}
	}
	for t := range n.sets {
		types = append(types, t)
	}
	slices.Sort(types)
	return types, true
}

// step looks one name up. When it finds an alias it returns the name that goes on.
func (z *Zone) step(a *Answer, name, wire string, qtype uint16) (target string, again bool) {
	names := suffixes(wire)
	names = names[:len(names)-z.labels] // of the zone, the apex last
	encloser := z.nodes[names[len(names)-1]]
	for i := len(names) - 1; i >= 0; i-- {
		n := z.nodes[names[i]]
		if n == nil {
			return z.wildcard(a, name, names[i+1], qtype)
		}
		encloser = n
		atName := i == 0
		if i < len(names)-1 && n.has(dns.TypeNS) && !(atName && qtype == dns.TypeDS) { // a zone cut (RFC 1034 section 4.2.1)
			z.refer(a, n)
			return "", false
		}
		if !atName && n.has(dns.TypeDNAME) {
			return z.redirect(a, name, n.sets[dns.TypeDNAME][0].(*dns.DNAME))
		}
	}
	return z.found(a, name, encloser, qtype, false)
}

// wildcard answers for a name that does not exist below its closest encloser
// (RFC 4592 section 3.3.1).
func (z *Zone) wildcard(a *Answer, name string, encloser key, qtype uint16) (string, bool) {
	n := z.nodes["\x01*"+encloser]
	if n == nil {
		a.Rcode = dns.RcodeNameError
		a.Authority = []dns.RR{z.negative()}
		return "", false
	}
	return z.found(a, name, n, qtype, true)
}

// found answers from a node; synthesized records get the name asked for.
func (z *Zone) found(a *Answer, name string, n *node, qtype uint16, synthesized bool) (string, bool) {
	give := func(set []dns.RR) {
		for _, rr := range set {
			if synthesized || rr.Header().Name != name {
				rr = dns.Copy(rr)
				rr.Header().Name = name // in the case it was asked in
			}
			a.Records = append(a.Records, rr)
		}
	}
	if alias := n.sets[dns.TypeCNAME]; len(alias) > 0 && qtype != dns.TypeCNAME && qtype != dns.TypeANY {
		give(alias)
		return alias[0].(*dns.CNAME).Target, true
	}
	if qtype == dns.TypeANY { // one set, whichever (RFC 8482 section 4.1)
		if all := n.all(); len(all) > 0 {
			qtype = all[0].Header().Rrtype
		} else if n.has(dns.TypeSOA) {
			qtype = dns.TypeSOA
		}
	}
	if n.has(qtype) {
		give(n.sets[qtype])
	} else {
		a.Authority = []dns.RR{z.negative()}
	}
	return "", false
}

// refer points at the name servers of a delegated zone, with their addresses as
// far as they are known here.
func (z *Zone) refer(a *Answer, n *node) {
	if len(a.Records) == 0 {
		a.Authoritative = false
	}
	a.Authority = append(slices.Clone(n.sets[dns.TypeNS]), n.sets[dns.TypeDS]...)
}

// redirect answers by a DNAME with the CNAME that it stands for (RFC 6672
// section 3.1).
func (z *Zone) redirect(a *Answer, name string, d *dns.DNAME) (string, bool) {
	a.Records = append(a.Records, d)
	target, err := substitute(name, d)
	if err != nil {
		a.Rcode = dns.RcodeYXDomain
		return "", false
	}
	a.Records = append(a.Records, &dns.CNAME{
		Hdr:    dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: d.Hdr.Ttl},
		Target: target,
	})
	return target, true
}

// substitute puts the target of a DNAME in the place of its owner.
func substitute(name string, d *dns.DNAME) (string, error) {
	labels := dns.SplitDomainName(name)
	kept := labels[:len(labels)-dns.CountLabel(d.Hdr.Name)]
	target := strings.Join(kept, ".") + "." + d.Target
	if d.Target == "." {
		target = strings.Join(kept, ".") + "."
	}
	if _, err := wireOf(target); err != nil {
		return "", errors.New("the name becomes longer than 255 bytes")
	}
	return target, nil
}

// negative is the SOA record of negative answers: its TTL is how long they may
// be kept (RFC 2308 section 5).
func (z *Zone) negative() dns.RR {
	soa := *z.soa
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	return &soa
}

// additional adds the addresses of hosts that the answer names and the zone
// knows, the glue of delegations included.
func (z *Zone) additional(a *Answer) {
	seen := map[string]bool{}
	for _, rr := range slices.Concat(a.Records, a.Authority) {
		host := ""
		switch rr := rr.(type) {
		case *dns.NS:
			host = rr.Ns
		case *dns.MX:
			host = rr.Mx
		case *dns.SRV:
			host = rr.Target
		case *dns.SVCB:
			host = rr.Target
		case *dns.HTTPS:
			host = rr.Target
		}
		lower := dns.CanonicalName(host)
		if host == "" || seen[lower] || !dns.IsSubDomain(z.Origin, lower) {
			continue
		}
		seen[lower] = true
		wire, err := wireOf(host)
		if err != nil {
			continue
		}
		if n := z.nodes[key(wire)]; n != nil {
			a.Additional = append(append(a.Additional, n.sets[dns.TypeA]...), n.sets[dns.TypeAAAA]...)
		}
	}
}
