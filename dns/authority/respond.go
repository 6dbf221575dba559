package authority

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// transport names the way a question came, for metrics.
type transport string

const (
	overUDP  transport = "udp"
	overTCP  transport = "tcp"
	overHTTP transport = "http"
	overTLS  transport = "dot"
	overDoH  transport = "doh"
	overQUIC transport = "doq"

	within transport = "" // part of another answer, which is counted
)

// respond answers one packet of a peer, nil for none. It does not block, and is
// safe for concurrent use.
func (s *Server) respond(packet []byte, peer netip.Addr, via transport) []byte {
	return s.respondTold(packet, peer, via, told{})
}

// respondTold is respond to a request that says more of the client.
func (s *Server) respondTold(packet []byte, peer netip.Addr, via transport, told told) []byte {
	if s.shadow != nil && via != within {
		return s.shadowed(packet, peer, via, told)
	}
	out, _, rule := s.reply(packet, peer, via, told)
	if via != within {
		s.slow.mu.Lock()
		weight, log := s.slow.due(s.unix())
		s.slow.mu.Unlock()
		if weight > 0 || log {
			s.observe(packet, out, peer, via, rule, weight, log)
		}
	}
	return out
}

// reply is respond; trusted says that the packet has a cookie that only the
// peer can know, and rule which one steered the answer.
func (s *Server) reply(packet []byte, peer netip.Addr, via transport, told told) (out []byte, trusted bool, rule string) {
	q, verdict, rcode, why := parse(packet)
	q.told = told
	if why != "" {
		s.metrics.malformed.WithLabelValues(string(via), why).Inc()
	}
	if verdict == drop {
		return nil, false, ""
	}
	if via == overUDP && verdict == serve && q.asked && q.qtype == dns.TypeIXFR {
		if out = s.transferUDP(packet); out != nil {
			s.metrics.responses.WithLabelValues(string(via), rcodeName(dns.RcodeSuccess)).Inc()
			return out, false, ""
		}
	}
	now := s.unix()
	trusted = q.cookie != nil && s.baker.check(q.cookie, peer, now)
	m := q.reply()
	scope := uint8(0)
	switch {
	case verdict == reject:
		m.Rcode = rcode // what does not fit the header the library puts into the OPT
	case q.asked:
		scope = s.answer(m, &q, peer)
	}
	if via != within {
		s.metrics.responses.WithLabelValues(string(via), rcodeName(m.Rcode)).Inc()
	}
	var options []dns.EDNS0
	if q.opt && m.Rcode != dns.RcodeFormatError && m.Rcode != dns.RcodeBadVers {
		q.padded = q.padded && (via == overTLS || via == overDoH || via == overQUIC)
		options = s.options(&q, scope, trusted, peer, now)
	}
	return q.pack(m, options, via), trusted, q.rule
}

// options are those of the answer, in the order in which a worker writes them.
func (s *Server) options(q *query, scope uint8, trusted bool, peer netip.Addr, now uint32) []dns.EDNS0 {
	var out []dns.EDNS0
	if q.subnet != nil {
		out = append(out, q.subnet.option(scope))
	}
	if q.cookie != nil {
		out = append(out, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(s.baker.append(nil, q.cookie, trusted, peer, now))})
	}
	if q.nsid && s.o.NSID != "" {
		out = append(out, &dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: hex.EncodeToString([]byte(s.o.NSID))})
	}
	if q.padded {
		out = append(out, &dns.EDNS0_PADDING{})
	}
	if q.ede >= 0 {
		out = append(out, &dns.EDNS0_EDE{InfoCode: uint16(q.ede)})
	}
	return out
}

// padBlock is what answers on an encrypted transport are padded to a multiple
// of when the query was padded, in bytes (RFC 8467 section 4.1).
const padBlock = 468

// reply is the head of the answer.
func (q *query) reply() *dns.Msg {
	m := new(dns.Msg)
	m.Id, m.Response, m.Opcode = q.id, true, q.opcode
	m.RecursionDesired, m.CheckingDisabled = q.rd, q.cd
	m.Compress = true
	if q.asked {
		m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: q.qclass}}
	}
	return m
}

// pack adds the OPT and makes the answer fit the transport.
func (q *query) pack(m *dns.Msg, options []dns.EDNS0, via transport) []byte {
	limit := maxMessage
	if via == overUDP {
		limit = minUDP
		if q.opt {
			limit = min(max(int(q.size), minUDP), maxUDP)
		}
	}
	extra := m.Extra
	var opt []dns.RR
	if q.opt {
		o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: maxUDP}}
		o.SetDo(q.do)
		o.Option = options
		opt = []dns.RR{o}
	}
	m.Extra = append(extra[:len(extra):len(extra)], opt...)
	out, err := m.Pack()
	for _, o := range options {
		if p, ok := o.(*dns.EDNS0_PADDING); ok && err == nil {
			p.Padding = make([]byte, (padBlock-len(out)%padBlock)%padBlock)
			out, err = m.Pack()
		}
	}
	if err == nil && len(out) <= limit {
		return out
	}
	// Additional records may go silently; the others may not (RFC 2181 section 9).
	m.Extra = opt
	if out, err = m.Pack(); err == nil && len(out) <= limit {
		return out
	}
	m.Answer, m.Ns, m.Truncated = nil, nil, true
	if out, err = m.Pack(); err == nil && len(out) <= limit {
		return out
	}
	return nil // cannot be: a question and an OPT fit 512 bytes
}

// answer fills in the answer to a well-formed query and returns its scope.
func (s *Server) answer(m *dns.Msg, q *query, peer netip.Addr) (scope uint8) {
	v, file, signer := s.o.View(), s.fileFor(q), s.signer.Load()
	switch {
	case v == nil && file == nil:
		m.Rcode, q.ede = dns.RcodeServerFailure, int(dns.ExtendedErrorCodeNotReady)
		return 0
	case q.qclass != dns.ClassINET: // version.bind and the like, too: what runs here is nobody's business
		m.Rcode, q.ede = dns.RcodeRefused, int(dns.ExtendedErrorCodeProhibited)
		return 0
	case q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR:
		m.Rcode, q.ede = dns.RcodeRefused, int(dns.ExtendedErrorCodeProhibited)
		return 0
	case q.qtype == typeNXNAME && signer != nil:
		m.Rcode = dns.RcodeFormatError // it is in bitmaps only (RFC 9824 section 3.5)
		return 0
	case q.qtype == dns.TypeOPT || (q.qtype >= 128 && q.qtype < dns.TypeANY): // meta types (RFC 6895 section 3.1)
		m.Rcode, q.ede = dns.RcodeNotImplemented, int(dns.ExtendedErrorCodeNotSupported)
		return 0
	}
	t := target{kind: outside}
	if v != nil {
		t = find(v.World, q.labels)
	}
	if file != nil && (t.kind == outside || file.Labels() > dns.CountLabel(dns.Fqdn(v.World.Zone))) {
		fromFile(m, q, file)
		return 0
	}
	if t.kind == outside {
		m.Rcode, q.ede = dns.RcodeRefused, int(dns.ExtendedErrorCodeNotAuthoritative)
		return 0
	}
	m.Authoritative = true
	z := zone{world: v.World, name: zoneSuffix(q.name, v.World.Zone), serial: s.serial(v.World)}
	switch t.kind {
	case missing:
		m.Rcode = dns.RcodeNameError
		if file != nil {
			scope = s.besides(m, q, &z, t, v, file, peer)
		}
	case empty:
		if file != nil {
			scope = s.besides(m, q, &z, t, v, file, peer)
		}
	case apex:
		z.apex(m, q)
		if signer != nil {
			signer.apex(m, &z, q.qtype)
		}
		if file != nil && inFile(q.qtype, signer != nil) {
			scope = s.besides(m, q, &z, t, v, file, peer)
		}
	case host:
		m.Answer = addresses(q.name, z.ttl(), q.qtype, t.addrs)
	case steered:
		scope = s.steered(m, q, &z, t, v, peer)
	}
	if q.qtype == dns.TypeANY && m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 {
		// A minimal answer (RFC 8482 section 4.2): nobody steers by ANY.
		m.Answer = []dns.RR{&dns.HINFO{Hdr: header(q.name, dns.TypeHINFO, z.ttl()), Cpu: "RFC8482"}}
	}
	if len(m.Answer) == 0 && len(m.Ns) == 0 {
		m.Ns = []dns.RR{z.soa()} // NXDOMAIN and NODATA are cached by it (RFC 2308)
		scope = 0
	}
	if signer != nil && q.do {
		signer.finish(m, q, existing(t, q.name, file), &z)
	}
	return scope
}

// steered answers a steered name.
func (s *Server) steered(m *dns.Msg, q *query, z *zone, t target, v *region.View, peer netip.Addr) uint8 {
	if !slices.Contains(steeredTypes(t.service), q.qtype) {
		return 0
	}
	prefix := q.source()
	if !prefix.IsValid() {
		prefix = whole(peer)
	}
	if t.uin == 0 {
		t.uin = q.told.uin
	}
	if t.version == 0 {
		t.version = q.told.version
	}
	s.note(t, prefix)
	a := steer.Decide(v, s.o.Health(), s.client(t, prefix, q.told.platform))
	s.countSteered(a)
	q.rule = a.Rule
	switch q.qtype {
	case dns.TypeSRV:
		z.services(m, q.name, a)
	case dns.TypeSVCB, dns.TypeHTTPS:
		z.bindings(m, q.name, q.qtype, a)
	default:
		m.Answer = addresses(q.name, a.TTL, q.qtype, addrsOf(a.Endpoints))
	}
	if prefix.Addr().Is4In6() {
		return a.Scope + 96 // steer counts the bits of the IPv4 address, the option those of IPv6
	}
	return a.Scope
}

func (s *Server) countSteered(a steer.Answer) {
	for _, c := range s.metrics.steered(&a) {
		c.Inc()
	}
}

// client is the one place where a question becomes steer's client, whatever
// transport it came over.
func (s *Server) client(t target, prefix netip.Prefix, platform string) steer.Client {
	c := steer.Client{Service: t.service, UIN: t.uin, Version: t.version, Platform: platform, Prefix: prefix}
	if prefix.IsValid() {
		c.Facts = s.o.Geo.Lookup(prefix.Masked().Addr())
	}
	return c
}

// whole is an address as a network of one.
func whole(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// addrsOf are the different addresses of the endpoints, in order.
func addrsOf(endpoints []steer.Endpoint) []netip.Addr {
	out := make([]netip.Addr, 0, len(endpoints))
	for i := range endpoints {
		for _, at := range [...]netip.AddrPort{endpoints[i].Address, endpoints[i].Other} {
			if a := at.Addr().Unmap(); a.IsValid() && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

func header(name string, rtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rtype, Class: dns.ClassINET, Ttl: ttl}
}

// addresses makes A or AAAA records, whichever is asked for.
func addresses(name string, ttl uint32, qtype uint16, addrs []netip.Addr) []dns.RR {
	var out []dns.RR
	for _, a := range addrs {
		switch {
		case qtype == dns.TypeA && a.Is4():
			out = append(out, &dns.A{Hdr: header(name, dns.TypeA, ttl), A: net.IP(a.AsSlice())})
		case qtype == dns.TypeAAAA && a.Is6():
			out = append(out, &dns.AAAA{Hdr: header(name, dns.TypeAAAA, ttl), AAAA: net.IP(a.AsSlice())})
		}
	}
	return out
}

// zone makes the records of the zone itself. Its name has the case of the
// question, so that compression keeps that (and 0x20 checks pass).
type zone struct {
	world  *region.World
	name   string // with a trailing dot
	serial uint32
}

// serial is that of the world's zone: the world's version. Where secondaries have
// it signed it moves on with the hour as well, because they look at nothing else
// and would serve signatures that have ended, and keys that are gone.
func (s *Server) serial(w *region.World) uint32 {
	n := uint32(w.Version)
	if len(s.o.TransferKeys) > 0 && s.signer.Load() != nil {
		n += uint32(s.now().Unix() / int64(signEvery/time.Second))
	}
	return n
}

// zoneSuffix is the zone's name as the question spells it.
func zoneSuffix(qname, zone string) string {
	if n := len(qname) - len(zone) - 1; n >= 0 {
		return qname[n:]
	}
	return dns.Fqdn(zone)
}

func (z *zone) ttl() uint32 {
	if t := z.world.Steering.TTL; t != 0 {
		return t
	}
	return steer.DefaultTTL
}

// zoneTTL is the TTL of SOA and NS in seconds: the zone's own records change
// with the world's DNS nodes, which is rare and never urgent.
const zoneTTL = 300

func (z *zone) soa() *dns.SOA {
	return &dns.SOA{
		Hdr: header(z.name, dns.TypeSOA, min(zoneTTL, z.ttl())), // the smaller of the two is how long a negative answer is kept
		Ns:  z.ns(0), Mbox: "hostmaster." + z.name,
		Serial:  z.serial,
		Refresh: 60, Retry: 10, Expire: 86400, Minttl: z.ttl(),
	}
}

func (z *zone) ns(i int) string { return "ns" + strconv.Itoa(i+1) + "." + z.name }

func (z *zone) apex(m *dns.Msg, q *query) {
	switch q.qtype {
	case dns.TypeSOA:
		m.Answer = []dns.RR{z.soa()}
	case dns.TypeNS:
		for i, node := range z.world.DNS {
			m.Answer = append(m.Answer, &dns.NS{Hdr: header(q.name, dns.TypeNS, zoneTTL), Ns: z.ns(i)})
			m.Extra = append(m.Extra, bothFamilies(z.ns(i), zoneTTL, nodeAddrs(node))...)
		}
	}
}

// services makes SRV records. Priority keeps the order; a weight would make
// clients choose at random what steering has ordered.
func (z *zone) services(m *dns.Msg, name string, a steer.Answer) {
	for i, e := range a.Endpoints {
		if e.Address.Port() == 0 {
			continue // a name of a stand-alone server need not say one
		}
		host := hostOf(e, z.name)
		m.Answer = append(m.Answer, &dns.SRV{
			Hdr: header(name, dns.TypeSRV, a.TTL), Priority: uint16(i + 1), Port: e.Address.Port(), Target: host,
		})
		m.Extra = append(m.Extra, bothFamilies(host, a.TTL, []netip.Addr{e.Address.Addr().Unmap()})...)
	}
}

// hostOf is the name of an endpoint's host in the zone, which ends in a dot.
func hostOf(e steer.Endpoint, zone string) string {
	if e.POP == "" {
		return string(e.Region) + ".region." + zone
	}
	return string(e.POP) + ".pop." + zone
}

func bothFamilies(name string, ttl uint32, addrs []netip.Addr) []dns.RR {
	return append(addresses(name, ttl, dns.TypeA, addrs), addresses(name, ttl, dns.TypeAAAA, addrs)...)
}
