package authority

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// glance is a question of the common form: A or AAAA of a steered name, at most
// an OPT behind it. It holds no memory of its own.
type glance struct {
	flags   uint16
	end     int // of the question
	zoneAt  int // offset of the zone's name in the question
	qtype   uint16
	service uint16 // index in the plan's services
	uin     region.UIN
	version uint32

	opt    bool
	do     bool
	size   int          // bytes the client takes
	subnet []byte       // the option without its head, nil for none
	source netip.Prefix // invalid when the option does not state any
	cookie []byte       // likewise; well formed

	trusted bool // set by who checks the cookie
}

// read reads a packet of the common form, and nothing else: what it refuses may
// be right or wrong, which parse decides. What it takes, parse takes as well.
func (g *glance) read(p []byte, at *plan) bool {
	if len(p) < headerLen+5 || len(at.zone) == 0 {
		return false
	}
	g.flags = binary.BigEndian.Uint16(p[2:])
	counts := binary.BigEndian.Uint64(p[4:])
	const one = 1 << 48
	if g.flags&0xf800 != 0 || (counts != one && counts != one+1) { // QR and opcode; one question, perhaps one additional record
		return false
	}
	if !g.readName(p, at.zone, at.services) || g.end+4 > len(p) {
		return false
	}
	g.qtype = binary.BigEndian.Uint16(p[g.end:])
	if (g.qtype != dns.TypeA && g.qtype != dns.TypeAAAA) || binary.BigEndian.Uint16(p[g.end+2:]) != dns.ClassINET {
		return false
	}
	g.end += 4
	g.opt, g.do, g.size, g.subnet, g.source, g.cookie, g.trusted = false, false, minUDP, nil, netip.Prefix{}, nil, false
	if counts == one {
		return g.end == len(p)
	}
	return g.readOPT(p[g.end:])
}

// readName reads [u-<uin>.][v-<version>.]<service>.<zone> and sets end behind it.
func (g *glance) readName(p []byte, zone []byte, services []region.Service) bool {
	g.uin, g.version = 0, 0
	at := headerLen
	for step := 0; ; {
		n := int(p[at])
		if n < 3 || n > 63 || at+1+n+len(zone) > len(p) {
			return false
		}
		label := p[at+1 : at+1+n]
		at += 1 + n
		switch kind := label[0] | 0x20; {
		case kind == 'u' && label[1] == '-' && step < 1:
			v, ok := digits(label[2:], 20)
			if !ok {
				return false
			}
			g.uin, step = region.UIN(v), 1
			continue
		case kind == 'v' && label[1] == '-' && step < 2:
			v, ok := digits(label[2:], 10)
			if !ok || v > 1<<32-1 {
				return false
			}
			g.version, step = uint32(v), 2
			continue
		}
		for i := range services {
			if foldEqual(label, string(services[i])) {
				g.service, g.zoneAt, g.end = uint16(i), at, at+len(zone)
				return g.end-headerLen <= maxName && foldEqual(p[at:at+len(zone)], string(zone))
			}
		}
		return false
	}
}

// digits reads a number from 1, written in the only way.
func digits(b []byte, most int) (uint64, bool) {
	if len(b) == 0 || len(b) > most || b[0] == '0' {
		return 0, false
	}
	n := uint64(0)
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// foldEqual compares with what has lower-case letters; lengths of labels are
// below 64 and thus never letters.
func foldEqual(b []byte, want string) bool {
	if len(b) != len(want) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != want[i] {
			return false
		}
	}
	return true
}

// readOPT reads what is left of the packet as an OPT record of version 0.
func (g *glance) readOPT(p []byte) bool {
	const fixed = 11
	if len(p) < fixed || p[0] != 0 || binary.BigEndian.Uint16(p[1:]) != dns.TypeOPT || p[6] != 0 ||
		int(binary.BigEndian.Uint16(p[9:])) != len(p)-fixed {
		return false
	}
	g.opt, g.do = true, p[7]&0x80 != 0
	g.size = min(max(int(binary.BigEndian.Uint16(p[3:])), minUDP), maxUDP)
	for p = p[fixed:]; len(p) > 0; {
		if len(p) < 4 {
			return false
		}
		code, length := binary.BigEndian.Uint16(p), int(binary.BigEndian.Uint16(p[2:]))
		if 4+length > len(p) {
			return false
		}
		switch code {
		case dns.EDNS0NSID:
			return false
		case dns.EDNS0COOKIE:
			if g.cookie != nil || !wellFormedCookie(p[4:4+length]) {
				return false
			}
			g.cookie = p[4 : 4+length]
		case dns.EDNS0SUBNET:
			s, ok := parseSubnet(p[4 : 4+length])
			if !ok || g.subnet != nil || (s.prefix.IsValid() && s.prefix.Addr().Is4In6()) {
				return false
			}
			g.subnet = p[4 : 4+length]
			if s.source > 0 {
				g.source = s.prefix
			}
		}
		p = p[4+length:]
	}
	return true
}
