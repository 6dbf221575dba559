package region

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// MaxNames is the number of steered names of a stand-alone DNS server. Aliases
// in a zone file lead any number of others to them.
const MaxNames = 256

// reserved are labels below the zone that mean something else.
var reserved = []string{"pop", "region", "ns"}

// names checks those of a stand-alone DNS server.
func (c *checker) names() {
	if len(c.w.Names) == 0 {
		c.add("pops", `give one a name: {name: www, a: 192.0.2.1}`, "no POP has a name, so there is nothing to answer")
	}
	if len(c.w.Names) > MaxNames {
		c.add("pops", "let aliases in a zone file lead to the others", "%d names, more than %d", len(c.w.Names), MaxNames)
	}
}

// listeners checks where a POP's names lead, and how it is checked.
func (c *checker) listeners(at string, p *POP) {
	seen := make(map[Service]bool)
	for i, l := range p.Serves.Named {
		here := fmt.Sprintf("%s.names[%d]", at, i)
		if msg := badLabel(string(l.Name)); msg != "" {
			c.add(here+".name", "one label below the zone, such as www", "name %q: %s", l.Name, msg)
		}
		if seen[l.Name] {
			c.add(here+".name", "another address is another POP, perhaps at the same place", "name %s is there twice", l.Name)
		}
		seen[l.Name] = true
		for _, a := range []netip.AddrPort{l.Address, l.Other} {
			if a.IsValid() && a.Addr().IsUnspecified() {
				c.add(here, "clients connect to it: give the public IP", "address %s is not one", a.Addr())
			}
		}
	}
	if k := p.Check; k != (Check{}) {
		vias := []string{string(ViaTCP), string(ViaTLS), string(ViaHTTP), string(ViaHTTPS), string(ViaHello), string(ViaNone)}
		http := k.Via == ViaHTTP || k.Via == ViaHTTPS
		switch {
		case !slices.Contains(vias, string(k.Via)):
			c.add(at+".check.via", Nearest(string(k.Via), vias), "%q is no way to check", k.Via)
		case k.Path != "" && !http:
			c.add(at+".check.path", "only http and https ask for a path", "a check via %s has a path", k.Via)
		case k.Path != "" && !strings.HasPrefix(k.Path, "/"):
			c.add(at+".check.path", "such as /healthz", "path %q does not begin with /", k.Path)
		}
	}
	if c.alone && len(p.Serves.Named) > 0 && p.Serves.Named[0].Address.Port() == 0 && p.Check.Port == 0 &&
		slices.Contains([]Via{"", ViaTCP, ViaHello}, p.Check.Via) {
		c.add(at+".check", `such as check: {via: tcp, port: 443}, or {via: none} to trust it`, "nothing says on which port %s is checked", p.ID)
	}
}

func badLabel(l string) string {
	for _, r := range reserved {
		if l == r || r == "ns" && strings.HasPrefix(l, r) && strings.Trim(l[len(r):], "0123456789") == "" {
			return "the zone needs it for something else"
		}
	}
	if l == "" {
		return "it is missing"
	}
	if strings.Contains(l, ".") {
		return "it has more than one label"
	}
	if (strings.HasPrefix(l, "u-") || strings.HasPrefix(l, "v-")) && strings.Trim(l[2:], "0123456789") == "" {
		return "it reads as a user's number or a version"
	}
	return badZone(l)
}
