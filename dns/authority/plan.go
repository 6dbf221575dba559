package authority

import (
	"encoding/binary"
	"reflect"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// plan is all that answers to steered names depend on, but for the overlay:
// one world, one health, one set of geo databases. It never changes; a worker
// forgets what it remembers when there is another one.
//
// It also sorts UINs and versions into classes which no rule tells apart, so
// that what is remembered for one client serves every other like it.
type plan struct {
	view   *region.View
	health steer.Health
	geo    uint64 // generation
	serial uint32 // of the zone
	signer *signer
	hour   int64 // of signatures; 0 where there are none

	services  []region.Service
	zone      []byte // wire form, lower case
	soa       []byte // the record that negative answers carry, with holes for pointers to the zone's name
	homes     map[region.ID]uint16
	versions  []uint64 // first versions of the classes after the first
	uins      []uint64 // likewise
	platforms []string // that rules name
	shares    []share
	sticky    bool // answers may stick to a UIN's share
}

// share is a salt of the rules' percentages with the bounds they are compared to.
type share struct {
	salt   string
	bounds []uint64
}

// maxShares is the number of different salts that fit a class; worlds with more
// serve clients with a UIN the slow way.
const maxShares = 2

// class is what clients with the same answers have in common, but for the address.
type class struct {
	version uint32
	uin     uint32 // 0: none stated
	share   [maxShares]uint16
	sticky  uint16 // what choices that stick to the UIN go by; 0 where there are none
	home    uint16 // 0: in nobody's segment
	qtype   uint16
	service uint16
	// platform is 0 when none is stated, which over DNS none is, and 1 for those
	// that no rule names.
	platform uint16
	// signed is 1 for signed answers. They are of one name: no UIN, and version is the
	// very one.
	signed uint16
}

// current returns the plan for this moment, or nil when there is no world or
// the health cannot be compared with what comes next.
func (s *Server) current() *plan {
	v, h, g := s.o.View(), s.o.Health(), s.o.Geo.Generation()
	if v == nil || h == nil || !reflect.TypeOf(h).Comparable() {
		return nil
	}
	serial, signer, hour := s.serial(v.World), s.signer.Load(), int64(0)
	if signer != nil {
		hour = s.now().Unix() / int64(signEvery/time.Second)
	}
	if p := s.plan.Load(); p != nil && p.view == v && p.geo == g && p.serial == serial && p.signer == signer && p.hour == hour && p.health == h {
		return p
	}
	p := newPlan(v, h, g, serial) // two workers may do so at once; either result is right
	p.signer, p.hour = signer, hour
	s.plan.Store(p)
	return p
}

func newPlan(v *region.View, h steer.Health, geo uint64, serial uint32) *plan {
	p := &plan{view: v, health: h, geo: geo, serial: serial, services: v.World.Services(), homes: make(map[region.ID]uint16)}
	zone := make([]byte, maxName)
	n, err := dns.PackDomainName(dns.CanonicalName(v.World.Zone), zone, 0, nil, false)
	if err != nil || n == 1 {
		n = 0 // the root is never compressed, a broken zone has no names: all go the slow way
	}
	p.zone = zone[:n]
	p.soa = soaTemplate(v.World, serial)
	for i := range v.World.Regions {
		p.homes[v.World.Regions[i].ID] = uint16(i + 1)
	}
	p.sticky = steer.Sticks(v.World)
	for i := range v.World.Rules {
		p.consult(&v.World.Rules[i].Match)
	}
	p.versions, p.uins = sorted(p.versions), sorted(p.uins)
	slices.Sort(p.platforms)
	p.platforms = slices.Compact(p.platforms)
	for i := range p.shares {
		p.shares[i].bounds = sorted(p.shares[i].bounds)
	}
	return p
}

func sorted(bounds []uint64) []uint64 {
	slices.Sort(bounds)
	return slices.Compact(bounds)
}

// consult notes where the conditions of a rule cut versions and UINs. An upper
// bound that nothing lies beyond wraps to 0, where no class begins anyway.
func (p *plan) consult(m *region.Match) {
	for _, r := range m.Versions {
		p.versions = append(p.versions, uint64(r.From), uint64(r.To)+1)
	}
	for _, r := range m.UINs {
		p.uins = append(p.uins, uint64(r.First), uint64(r.Last)+1)
	}
	p.platforms = append(p.platforms, m.Platforms...)
	if m.Percent != nil {
		i := slices.IndexFunc(p.shares, func(s share) bool { return s.salt == m.Percent.Salt })
		if i < 0 {
			i = len(p.shares)
			p.shares = append(p.shares, share{salt: m.Percent.Salt})
		}
		p.shares[i].bounds = append(p.shares[i].bounds, uint64(m.Percent.Below))
	}
	for i := range m.All {
		p.consult(&m.All[i])
	}
	for i := range m.Any {
		p.consult(&m.Any[i])
	}
	if m.Not != nil {
		p.consult(m.Not)
	}
}

// classOf says which class a question is of; false when it has none.
func (p *plan) classOf(g *glance) (class, bool) {
	c := class{qtype: g.qtype, service: g.service}
	if g.version != 0 {
		c.version = 1 + uint32(after(p.versions, uint64(g.version)))
	}
	if g.uin == 0 {
		return c, true
	}
	if len(p.shares) > maxShares {
		return c, false
	}
	if p.sticky {
		c.sticky = 1 + uint16(steer.Share(steer.StickySalt, g.uin))
	}
	c.uin = 1 + uint32(after(p.uins, uint64(g.uin)))
	if at, ok := p.view.Placement(g.uin); ok {
		c.home = p.homes[at.Home]
	}
	for i := range p.shares {
		c.share[i] = uint16(after(p.shares[i].bounds, uint64(steer.Share(p.shares[i].salt, g.uin))))
	}
	return c, true
}

// platformOf is the class of a platform.
func (p *plan) platformOf(name string) uint16 {
	if name == "" {
		return 0
	}
	if i, found := slices.BinarySearch(p.platforms, name); found {
		return uint16(i + 2)
	}
	return 1
}

// after counts the bounds that are at most n.
func after(bounds []uint64, n uint64) int {
	i, found := slices.BinarySearch(bounds, n)
	if found {
		i++
	}
	return i
}

// Where the SOA record has pointers to the zone's name.
const (
	soaOwner = 0
	soaNS    = 2 + 10 + len("\x03ns1")
	soaMbox  = soaNS + 2 + len("\x0ahostmaster")
	soaLen   = soaMbox + 2 + 5*4
)

// soaTemplate has the record as the library packs it below a question in the zone.
func soaTemplate(w *region.World, serial uint32) []byte {
	z := zone{world: w, name: dns.Fqdn(w.Zone), serial: serial}
	soa := z.soa()
	b := make([]byte, 2, soaLen)
	b = binary.BigEndian.AppendUint16(b, dns.TypeSOA)
	b = binary.BigEndian.AppendUint16(b, dns.ClassINET)
	b = binary.BigEndian.AppendUint32(b, soa.Hdr.Ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(soaLen-12))
	b = append(append(b, "\x03ns1"...), 0, 0)
	b = append(append(b, "\x0ahostmaster"...), 0, 0)
	for _, n := range []uint32{soa.Serial, soa.Refresh, soa.Retry, soa.Expire, soa.Minttl} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// appendSOA appends the record below a question whose zone begins at an offset.
func (p *plan) appendSOA(out []byte, zoneAt int) []byte {
	at := len(out)
	out = append(out, p.soa...)
	for _, hole := range [...]int{soaOwner, soaNS, soaMbox} {
		binary.BigEndian.PutUint16(out[at+hole:], 0xc000|uint16(zoneAt))
	}
	return out
}
