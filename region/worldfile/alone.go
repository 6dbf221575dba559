package worldfile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/homing-im/homing/region"
)

// CompileAlone reads the file of a stand-alone DNS server: a world of names in
// place of regions, which nobody signs and which has the steering of any other.
//
//	zone: geo.example.com
//	steering: {ttl: 30, answers: 2, all-down: everything}
//	dns:                       # the zone's name servers: name, address
//	pops:
//	  - id: fra
//	    place: {city: Frankfurt, country: DE, continent: EU, lat: 50.11, lon: 8.68}
//	    names: [{name: www, a: 192.0.2.10, aaaa: "2001:db8::10"}]
//	    check: {via: http, port: 80, path: /healthz, host: www.example.com}
//	    drain: false
//	carriers: places: rules:   # as in a world; services are the names
//
// version becomes the zone's serial. Errors are a [*Mistake].
func CompileAlone(name string, src []byte, version uint64) (*region.World, error) {
	s, err := parse(name, src)
	if err != nil {
		return nil, err
	}
	c := &compiler{source: s, keys: func(string) (region.PublicKey, error) { return nil, nil }}
	f := &c.file
	for _, x := range []struct {
		field string
		there bool
	}{
		{"name", f.Name != ""}, {"partitions", f.Partitions != 0}, {"threshold", f.Threshold != nil}, {"operators", f.Operators != nil}, {"root", f.Root != ""},
		{"regions", f.Regions != nil}, {"ids", f.IDs != nil}, {"segments", f.Segments != nil}, {"retired", f.Retired != nil},
	} {
		if x.there {
			c.fail(x.field, "delete it, or run a world of regions (homing world init)", "a stand-alone DNS server has no %s", x.field)
		}
	}
	w := c.world()
	w.Version, w.Name, w.Partitions, w.Operators, w.Root = version, "alone", 1, nil, nil
	for i, p := range f.POPs {
		at := fmt.Sprintf("pops[%d]", i)
		if p.Serves != (serves{}) || p.Witness || p.Key != "" || p.Admin != "" {
			c.fail(at, "it has names: {name: www, a: 192.0.2.1}", "%s has what only a POP of a region has: serves, witness, key or admin", p.ID)
		}
		w.POPs[i].Serves.Named = c.named(at, p.Names)
		for _, n := range p.Names {
			w.Names = append(w.Names, region.Service(n.Name))
		}
	}
	slices.Sort(w.Names)
	w.Names = slices.Compact(w.Names)
	if c.err != nil {
		return nil, c.err
	}
	if ps := w.ProblemsAlone(); len(ps) > 0 {
		return nil, s.problem(ps[0])
	}
	return w, nil
}

// refuseNames is for a world of regions.
func (c *compiler) refuseNames() {
	for i, p := range c.file.POPs {
		if len(p.Names) > 0 {
			c.fail(fmt.Sprintf("pops[%d].names", i), "a POP of a region serves long, short and web", "names are for a stand-alone DNS server")
		}
	}
}

// named reads where a POP's names lead.
func (c *compiler) named(at string, names []nameY) (out []region.Listener) {
	for i, n := range names {
		here := fmt.Sprintf("%s.names[%d]", at, i)
		address := func(field, text string, right func(netip.Addr) bool) (p netip.AddrPort) {
			if text == "" {
				return p
			}
			a, err := netip.ParseAddr(text)
			if err != nil || !right(a) || a.Zone() != "" {
				c.fail(here+"."+field, "a: 192.0.2.1, aaaa: \"2001:db8::1\"", "%q is no address for %s", text, field)
				return p
			}
			return netip.AddrPortFrom(a, n.Port)
		}
		l := region.Listener{
			Name:    region.Service(n.Name),
			Address: address("a", n.A, netip.Addr.Is4),
			Other:   address("aaaa", n.AAAA, func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }),
		}
		if !l.Address.IsValid() {
			l.Address, l.Other = l.Other, netip.AddrPort{}
		}
		if !l.Address.IsValid() {
			c.fail(here, "a: 192.0.2.1, aaaa: \"2001:db8::1\", or both", "name %q leads nowhere", n.Name)
		}
		out = append(out, l)
	}
	return out
}
