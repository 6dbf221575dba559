package authority

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/dns/steer"
)

// memory is one worker's table of answers, which it shares with nobody and thus
// needs no lock for. A slot holds the answer of one class for as much of one
// block of addresses as the answer's scope covers; where more than two of them
// meet, the later ones win.
type memory struct {
	s       *Server
	plan    *plan
	index   []uint16 // 1 + the number of a slot, by hash; 0 for none
	slots   []slot   // as they were filled: next to each other, however few they are
	victim  bool     // which of two full slots was given away last
	g       glance
	decider steer.Decider
	now     uint32 // Unix seconds, of the batch
	nanos   int64  // the same time in nanoseconds

	// Counted here and handed over once per batch: counters that all workers
	// write would cost more than the answers.
	answered uint64
	total    prometheus.Counter // of what was answered
	tallies  map[string]*tally
	touched  []*tally // those used since begin
	used     string   // the rule of the last answer
	budget   budget
	sampler  sampler
}

// remembered is the most slots.
const remembered = 1 << 15

// maxTallies are found again by what they count; orders by weight are many.
const maxTallies = 1 << 12

type slot struct {
	class class
	scope uint8 // bits of addr that the answer holds for
	// denials is the number of records in the authority section, where rrs has them: of
	// a signed negative answer.
	denials uint8
	count   uint16 // of records in the answer section
	addr    netip.Addr
	tally   *tally
	rrs     []byte // what stands below a question; empty for a negative answer that is not signed
}

// tally collects the uses of answers that one rule gave with the same members in
// the same order, between two batches.
type tally struct {
	rule     string
	n        uint64
	counters []prometheus.Counter
}

func newMemory(s *Server) *memory {
	return &memory{s: s, total: s.metrics.answeredUDP, sampler: sampler{every: s.o.LogEvery}, tallies: make(map[string]*tally)}
}

// begin takes the newest plan, for as many questions as come together.
func (m *memory) begin() {
	p := m.s.current()
	now := m.s.now()
	m.now, m.nanos = uint32(now.Unix()), now.UnixNano()
	if p == m.plan {
		return
	}
	m.plan = p
	clear(m.index)
	clear(m.slots)
	m.slots = m.slots[:0]
	clear(m.tallies)
}

// end hands over what was counted since begin.
func (m *memory) end() {
	if m.answered == 0 {
		return
	}
	m.total.Add(float64(m.answered))
	m.answered = 0
	for _, t := range m.touched {
		for _, c := range t.counters {
			c.Add(float64(t.n))
		}
		t.n = 0
	}
	m.touched = m.touched[:0]
}

// serve appends what goes out for a packet that came over UDP: the answer, less
// when the client's network has had enough, or nothing.
func (m *memory) serve(room, packet []byte, peer netip.Addr) []byte {
	out := m.answer(room, packet, peer)
	trusted, rule := m.g.trusted, m.used
	if out == nil {
		var slow []byte
		slow, trusted, rule = m.s.reply(packet, peer, overUDP, told{})
		out = append(room, slow...)
	}
	if weight, log := m.sampler.due(m.now); weight > 0 || log {
		m.s.observe(packet, out, peer, overUDP, rule, weight, log)
	}
	switch l := m.s.limiter; {
	case l == nil:
	case trusted:
		l.prove(peer, m.nanos)
	case len(out) > 0:
		return l.limit(peer, len(packet), out, m.nanos)
	}
	return out
}

// answer appends the answer to a packet that came over UDP, and returns nil
// when it takes respond to answer it. Both give the same bytes.
func (m *memory) answer(out, packet []byte, peer netip.Addr) []byte {
	g := &m.g
	if m.plan == nil || !g.read(packet, m.plan) {
		return nil
	}
	c, ok := m.plan.classOf(g)
	if !ok {
		return nil
	}
	if g.do && m.plan.signer != nil {
		if g.uin != 0 {
			return nil // it needs a signature of its own, which nobody else asks for
		}
		c.signed, c.version = 1, g.version
	}
	addr := peer
	if g.source.IsValid() {
		addr = g.source.Addr()
	} else if addr = peer.Unmap().WithZone(""); !addr.IsValid() {
		return nil
	}
	found, held := m.slot(c, addr)
	if !held && !m.recall(found, c, addr) {
		return nil
	}
	if m.budget.allows(m.now) {
		m.note(addr)
	}
	g.trusted = g.cookie != nil && m.s.baker.check(g.cookie, peer, m.now)
	return m.write(out, packet, peer, found)
}

// note remembers the question for [Server.Questions].
func (m *memory) note(addr netip.Addr) {
	g := &m.g
	client := g.source
	if !client.IsValid() {
		client = whole(addr)
	}
	m.s.questions.add(Question{At: int64(m.now), Service: m.plan.services[g.service], UIN: g.uin, Version: g.version, Client: client})
}

// slot is where the answer of a class for an address is, or where it goes when it
// is not held: one of two places. With a single one each, some of a thousand networks would always
// throw each other out, and with many rules steering anew is what costs.
func (m *memory) slot(c class, addr netip.Addr) (_ *slot, held bool) {
	if m.index == nil {
		m.index = make([]uint16, remembered)
	}
	const odd1, odd2 = 0x9e3779b97f4a7c15, 0xff51afd7ed558ccd
	h := blockOf(addr) * odd1
	h = (h ^ h>>32 ^ uint64(c.version)<<32 ^ uint64(c.uin)) * odd2
	h = (h ^ h>>32 ^ uint64(c.sticky)<<24 ^ uint64(c.share[0])<<48 ^ uint64(c.share[1])<<32 ^ uint64(c.home)<<16 ^ uint64(c.qtype)<<4 ^ uint64(c.signed)<<3 ^ uint64(c.service)) * odd1
	i := h >> 32 & (remembered - 1)
	one, two := m.at(i), m.at(i^1)
	switch {
	case one != nil && one.holds(c, addr):
		return one, true
	case two != nil && two.holds(c, addr):
		return two, true
	case one == nil:
		return m.fresh(i), false
	case two == nil:
		return m.fresh(i ^ 1), false
	}
	if m.victim = !m.victim; m.victim {
		return two, false
	}
	return one, false
}

// at is the slot of a place in the index, nil for none.
func (m *memory) at(i uint64) *slot {
	n := m.index[i]
	if n == 0 {
		return nil
	}
	return &m.slots[n-1]
}

// fresh gives a place in the index a slot. It holds nothing: no class is zero.
func (m *memory) fresh(i uint64) *slot {
	m.slots = append(m.slots, slot{})
	m.index[i] = uint16(len(m.slots))
	return &m.slots[len(m.slots)-1]
}

// blockOf numbers the block of addresses among which an answer is looked for.
func blockOf(addr netip.Addr) uint64 {
	raw := addr.As16()
	if addr.Is4() {
		return 1<<63 | uint64(binary.BigEndian.Uint32(raw[12:])>>8) // a /24
	}
	return binary.BigEndian.Uint64(raw[:]) >> 8 // a /56
}

// holds says whether a slot has the answer of a class for an address.
func (s *slot) holds(c class, addr netip.Addr) bool {
	return s.class == c && covers(s.addr, s.scope, addr)
}

// covers says whether an answer that was given for one address, with so many
// bits of scope, holds for another.
func covers(given netip.Addr, scope uint8, addr netip.Addr) bool {
	if given == addr {
		return true
	}
	if given.Is4() != addr.Is4() {
		return false
	}
	a, b := given.As16(), addr.As16()
	bits := int(scope)
	if addr.Is4() {
		x := binary.BigEndian.Uint32(a[12:]) ^ binary.BigEndian.Uint32(b[12:])
		return uint64(x)>>(32-bits) == 0
	}
	hi := binary.BigEndian.Uint64(a[:]) ^ binary.BigEndian.Uint64(b[:])
	if bits <= 64 {
		return hi>>(64-bits) == 0
	}
	lo := binary.BigEndian.Uint64(a[8:]) ^ binary.BigEndian.Uint64(b[8:])
	return hi == 0 && lo>>(128-bits) == 0
}

// decide asks steer what to remember for a class, false for nothing. The answer
// holds until the next call.
func (m *memory) decide(c class, addr netip.Addr, platform string) (steer.Answer, bool) {
	m.s.metrics.misses.Inc()
	t := target{kind: steered, service: m.plan.services[m.g.service], uin: m.g.uin, version: m.g.version}
	client := m.s.client(t, netip.PrefixFrom(addr, addr.BitLen()), platform)
	a := m.decider.Decide(m.plan.view, m.plan.health, client)
	return a, c.uin == 0 || m.homeOf(a) == c.home // else the overlay has moved the owner in between
}

// recall fills the slot by asking steer.
func (m *memory) recall(into *slot, c class, addr netip.Addr) bool {
	a, ok := m.decide(c, addr, "")
	if !ok {
		return false
	}
	*into = slot{class: c, scope: a.Scope, addr: addr, tally: m.tallyOf(&a)}
	if c.signed != 0 {
		return m.sign(into, &a)
	}
	rrs := make([]byte, 0, 64)
	for _, ip := range addrsOf(a.Endpoints) {
		if ip.Is4() != (c.qtype == dns.TypeA) {
			continue
		}
		raw := ip.AsSlice()
		rrs = append(rrs, 0xc0, headerLen, 0, byte(c.qtype), 0, dns.ClassINET)
		rrs = binary.BigEndian.AppendUint32(rrs, a.TTL)
		rrs = append(append(rrs, 0, byte(len(raw))), raw...)
		into.count++
	}
	into.rrs = rrs
	return true
}

// sign fills in what the library makes of a signed answer. Below the question it is
// the same however that is spelled: names are pointers to it, or in lower case.
func (m *memory) sign(into *slot, a *steer.Answer) bool {
	g, w := &m.g, m.plan.view.World
	z := zone{world: w, name: dns.CanonicalName(w.Zone), serial: m.plan.serial}
	t := target{kind: steered, service: m.plan.services[g.service], version: g.version}
	q := query{asked: true, name: string(t.service) + "." + z.name, qtype: g.qtype, qclass: dns.ClassINET, do: true}
	if t.version != 0 {
		q.name = "v-" + strconv.FormatUint(uint64(t.version), 10) + "." + q.name
	}
	reply := q.reply()
	reply.Authoritative = true
	reply.Answer = addresses(q.name, a.TTL, q.qtype, addrsOf(a.Endpoints))
	if len(reply.Answer) == 0 {
		reply.Ns = []dns.RR{z.soa()}
	}
	m.plan.signer.finish(reply, &q, t, &z)
	packed, err := reply.Pack()
	if err != nil || reply.Rcode != dns.RcodeSuccess || len(packed) <= g.end {
		*into = slot{}
		return false
	}
	into.count, into.denials, into.rrs = uint16(len(reply.Answer)), uint8(len(reply.Ns)), packed[g.end:]
	return true
}

// homeOf is the class of the home that an answer was given for. A UIN in
// nobody's segment gets a newcomer's home, which says nothing.
func (m *memory) homeOf(a steer.Answer) uint16 {
	if at, ok := m.plan.view.Placement(m.g.uin); !ok || at.Home != a.Home {
		return 0
	}
	return m.plan.homes[a.Home]
}

// tallyOf finds or makes the tally that an answer's uses are counted in.
func (m *memory) tallyOf(a *steer.Answer) *tally {
	key := a.Rule
	for i := range a.Endpoints {
		key += "\x00" + a.Endpoints[i].Name()
	}
	t := m.tallies[key]
	if t == nil {
		if len(m.tallies) >= maxTallies {
			clear(m.tallies) // slots keep theirs
		}
		t = &tally{rule: a.Rule, counters: m.s.metrics.steered(a)}
		m.tallies[key] = t
	}
	return t
}

// write appends the answer: the question as it was asked, what the slot holds,
// and an OPT when there was one.
func (m *memory) write(out, packet []byte, peer netip.Addr, found *slot) []byte {
	g := &m.g
	const answered = 1<<15 | 1<<10 // QR, AA
	const kept = 1<<8 | 1<<4       // RD, CD
	start := len(out)
	length := g.end + len(found.rrs)
	if len(found.rrs) == 0 {
		length = g.end + soaLen
	}
	if g.opt {
		length += 11 + g.optionsLen()
	}
	if length > g.size {
		return nil // to be truncated
	}
	out = append(out, packet[:g.end]...)
	head := out[start : start+headerLen]
	binary.BigEndian.PutUint16(head[2:], answered|g.flags&kept)
	binary.BigEndian.PutUint16(head[6:], found.count)
	head[8], head[9], head[10], head[11] = 0, found.denials, 0, 0
	scope := found.scope
	if found.count == 0 {
		scope = 0
	}
	if len(found.rrs) == 0 {
		head[9] = 1
		out = m.plan.appendSOA(out, g.zoneAt)
	} else {
		out = append(out, found.rrs...)
	}
	if g.opt {
		out[start+11] = 1
		out = m.appendOPT(out, peer, scope)
	}
	m.count(found.tally)
	return out
}

// count counts one more use of an answer.
func (m *memory) count(t *tally) {
	m.answered++
	m.used = t.rule
	if t.n++; t.n == 1 {
		m.touched = append(m.touched, t)
	}
}

// optionsLen is the size of the answer's options.
func (g *glance) optionsLen() int {
	n := 0
	if g.subnet != nil {
		n += 4 + len(g.subnet)
	}
	if g.cookie != nil {
		n += 4 + cookieLen
	}
	return n
}

func (m *memory) appendOPT(out []byte, peer netip.Addr, scope uint8) []byte {
	g := &m.g
	do := byte(0)
	if g.do {
		do = 0x80
	}
	out = append(out, 0, 0, byte(dns.TypeOPT), maxUDP>>8, maxUDP&0xff, 0, 0, do, 0, 0, byte(g.optionsLen()))
	if g.subnet != nil {
		out = append(out, 0, dns.EDNS0SUBNET, 0, byte(len(g.subnet)))
		at := len(out)
		out = append(out, g.subnet...)
		if g.source.IsValid() {
			out[at+3] = scope
		}
	}
	if g.cookie != nil {
		out = append(out, 0, dns.EDNS0COOKIE, 0, cookieLen)
		out = m.s.baker.append(out, g.cookie, g.trusted, peer, m.now)
	}
	return out
}
