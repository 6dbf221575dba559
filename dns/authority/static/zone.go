package static

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// maxFile is the largest zone file read, in bytes.
const maxFile = 256 << 20

// Zone is one zone, as its file has it.
type Zone struct {
	Origin string // fully qualified, lower case
	path   string
	labels int // of the origin
	nodes  map[key]*node
	soa    *dns.SOA
}

// key is a name in wire form, in lower case: no escape has two spellings there.
type key string

// node is a name that exists, also one that does so only because there are
// names below it.
type node struct {
	sets map[uint16][]dns.RR // by type; of one owner, class and TTL
}

func (n *node) has(rtype uint16) bool { return len(n.sets[rtype]) > 0 }

// Load reads a zone file. Errors are of kind region.BadInput and name the line
// where there is one.
func Load(path string) (*Zone, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bad(path, "it cannot be read").WithCause(err)
	}
	if info.Size() > maxFile {
		return nil, bad(path, "it has %d bytes; the limit is %d", info.Size(), maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, bad(path, "it cannot be read").WithCause(err)
	}
	return Parse(path, string(text))
}

func bad(path, format string, args ...any) *region.Error {
	return region.Errorf(region.BadInput, "zone file %s: %s", path, fmt.Sprintf(format, args...)).
		WithHint("a zone has one SOA record, NS records at the same name, and nothing outside")
}

// Parse reads the text of a zone file; path is for errors.
func Parse(path, text string) (*Zone, error) {
	p := dns.NewZoneParser(strings.NewReader(text), "", path)
	p.SetDefaultTTL(3600)
	var records []dns.RR
	z := &Zone{path: path, nodes: make(map[key]*node)}
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if rr.Header().Class != dns.ClassINET {
			return nil, bad(path, "%s: its class is not IN", rr.Header().Name)
		}
		if soa, ok := rr.(*dns.SOA); ok {
			if z.soa != nil {
				return nil, bad(path, "%s: there is a second SOA record", soa.Hdr.Name)
			}
			z.soa = soa
		}
		records = append(records, rr)
	}
	if err := p.Err(); err != nil {
		return nil, bad(path, "%v", err)
	}
	if z.soa == nil {
		return nil, bad(path, "there is no SOA record")
	}
	z.Origin = dns.CanonicalName(z.soa.Hdr.Name)
	z.labels = dns.CountLabel(z.Origin)
	for _, rr := range records {
		if err := z.insert(rr); err != nil {
			return nil, err
		}
	}
	return z, z.check()
}

// insert adds a record, and the empty non-terminals above it.
func (z *Zone) insert(rr dns.RR) error {
	h := rr.Header()
	if !dns.IsSubDomain(z.Origin, h.Name) {
		return bad(z.path, "%s is not in the zone %s", h.Name, z.Origin)
	}
	wire, err := wireOf(h.Name)
	if err != nil {
		return bad(z.path, "%s: %v", h.Name, err)
	}
	names := suffixes(wire)
	for _, k := range names[:len(names)-z.labels] {
		if z.nodes[k] == nil {
			z.nodes[k] = &node{sets: make(map[uint16][]dns.RR)}
		}
	}
	n := z.nodes[names[0]]
	set := n.sets[h.Rrtype]
	for _, other := range set {
		if dns.IsDuplicate(rr, other) {
			return nil
		}
		if other.Header().Ttl != h.Ttl { // RFC 2181 section 5.2
			return bad(z.path, "%s %s: the records of one set have the TTLs %d and %d", h.Name, dns.TypeToString[h.Rrtype], other.Header().Ttl, h.Ttl)
		}
	}
	n.sets[h.Rrtype] = append(set, rr)
	return nil
}

// check finds what single records do not show.
func (z *Zone) check() error {
	apex := z.nodes[z.apex()]
	if apex == nil || !apex.has(dns.TypeNS) {
		return bad(z.path, "%s has no NS record", z.Origin)
	}
	for k, n := range z.nodes {
		others := len(n.sets)
		for _, of := range []uint16{dns.TypeRRSIG, dns.TypeNSEC} { // may stand beside a CNAME (RFC 4035 section 2.5)
			if n.has(of) {
				others--
			}
		}
		name := func() string { return owner(n) }
		switch {
		case n.has(dns.TypeCNAME) && (len(n.sets[dns.TypeCNAME]) > 1 || others > 1):
			return bad(z.path, "%s has a CNAME record and others (RFC 1034 section 3.6.2)", name())
		case len(n.sets[dns.TypeDNAME]) > 1:
			return bad(z.path, "%s has two DNAME records (RFC 6672 section 2.4)", name())
		case n.has(dns.TypeDNAME) && n.has(dns.TypeNS) && k != z.apex():
			return bad(z.path, "%s has a DNAME record and is delegated (RFC 6672 section 2.3)", name())
		}
	}
	return nil
}

// owner is the name that the records of a node have.
func owner(n *node) string {
	for _, set := range n.sets {
		return set[0].Header().Name
	}
	return ""
}

// apex is the key of the zone itself.
func (z *Zone) apex() key {
	wire, _ := wireOf(z.Origin) // it was read from a record
	return key(wire)
}

// Serial is that of the SOA record.
func (z *Zone) Serial() uint32 { return z.soa.Serial }

// Servers are the zone's name servers in the file's order, and those addresses of
// theirs that the zone knows, IPv4 rather than IPv6.
func (z *Zone) Servers() (hosts []string, addrs map[string]netip.Addr) {
	addrs = map[string]netip.Addr{}
	for _, rr := range z.nodes[z.apex()].sets[dns.TypeNS] {
		host := dns.CanonicalName(rr.(*dns.NS).Ns)
		hosts = append(hosts, host)
		wire, err := wireOf(host)
		if err != nil {
			continue
		}
		n := z.nodes[key(wire)]
		if n == nil {
			continue
		}
		for _, glue := range append(slices.Clone(n.sets[dns.TypeA]), n.sets[dns.TypeAAAA]...) {
			var raw []byte
			switch glue := glue.(type) {
			case *dns.A:
				raw = glue.A.To4()
			case *dns.AAAA:
				raw = glue.AAAA
			}
			if a, ok := netip.AddrFromSlice(raw); ok && !addrs[host].IsValid() {
				addrs[host] = a
			}
		}
	}
	return hosts, addrs
}

// Records lists all records, the SOA first, as a transfer has them (RFC 5936),
// in an order that only the records decide.
func (z *Zone) Records() []dns.RR {
	keys := make([]key, 0, len(z.nodes))
	for k := range z.nodes {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := []dns.RR{z.soa}
	for _, k := range keys {
		out = append(out, z.nodes[k].all()...)
	}
	return out
}

// all are the records of a node, by type, but for the SOA.
func (n *node) all() []dns.RR {
	types := make([]uint16, 0, len(n.sets))
	for t := range n.sets {
		if t != dns.TypeSOA {
			types = append(types, t)
		}
	}
	slices.Sort(types)
	var out []dns.RR
	for _, t := range types {
		out = append(out, n.sets[t]...)
	}
	return out
}

// wireOf is a name in wire form, in lower case.
func wireOf(name string) (string, error) {
	b := make([]byte, 256)
	n, err := dns.PackDomainName(dns.Fqdn(name), b, 0, nil, false)
	if err != nil {
		return "", err
	}
	for i, c := range b[:n] { // lengths of labels are below 64 and never letters
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b[:n]), nil
}

// suffixes are a name and all names above it but the root, from the bottom.
func suffixes(wire string) []key {
	var out []key
	for at := 0; wire[at] != 0; at += 1 + int(wire[at]) {
		out = append(out, key(wire[at:]))
	}
	return append(out, "\x00")
}
