package dnsimport

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// mapper makes the rules of one group.
type mapper struct {
	g     *gdnsd
	x     *group
	auto  []string
	out   []rule
	index map[string]int
}

// match is the condition for the group's names and more.
func (r *mapper) match(more string) string {
	if more != "" {
		more = ", " + more
	}
	return "{services: " + list(r.x.names) + more + "}"
}

func (r *mapper) add(kind, more string, dcs *value) error {
	act, err := r.act(dcs)
	if err == nil {
		r.out = append(r.out, rule{strings.ToLower(strings.ReplaceAll(r.x.mapName, "_", "-")) + "-" + kind, r.match(more), act})
	}
	return err
}

func (r *mapper) act(dcs *value) (string, error) {
	items, ok := dcs.items()
	switch {
	case !ok:
		return "", &Refusal{r.g.file, dcs.line, "want a list of datacenters"}
	case len(items) == 0:
		return "", &Refusal{r.g.file, dcs.line, "an empty list: a place without an answer has no counterpart"}
	}
	more := ""
	var ids []string
	if len(items) == 1 && items[0].scalar == "auto" && r.auto != nil {
		more = ", nearest: true"
		for _, id := range r.auto {
			ids = append(ids, strings.ToLower(id))
		}
	} else {
		for _, d := range items {
			ids = append(ids, strings.ToLower(d.scalar))
		}
	}
	for _, id := range ids {
		if r.g.places[id] == nil {
			return "", &Refusal{r.g.file, dcs.line, "datacenter " + id + " has no address in the resources of " + strings.Join(r.x.names, ", ")}
		}
	}
	return fmt.Sprintf("{pops: %s%s, ttl: %d}", list(ids), more, r.x.ttl), nil
}

// nets are networks, the longest first.
func (r *mapper) nets(v *value) error {
	type net struct {
		p netip.Prefix
		e entry
	}
	var all []net
	for _, e := range v.hash {
		p, err := netip.ParsePrefix(e.key)
		if err != nil {
			return &Refusal{r.g.file, e.line, strconv.Quote(e.key) + " is no network"}
		}
		all = append(all, net{p.Masked(), e})
	}
	slices.SortStableFunc(all, func(a, b net) int { return cmp.Compare(b.p.Bits(), a.p.Bits()) })
	for _, n := range all {
		if err := r.add("net", "prefixes: "+list([]string{n.p.String()}), n.e.value); err != nil {
			return err
		}
	}
	return nil
}

var continents = []string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"}

// world walks the map: cities and subdivisions, countries, continents, the rest.
func (r *mapper) world(top, fallback *value) error {
	var later []func() error
	for _, c := range top.hash {
		if c.key == "default" {
			fallback = c.value
			continue
		}
		if !slices.Contains(continents, c.key) {
			return &Refusal{r.g.file, c.line, c.key + " is no continent (" + strings.Join(continents, ", ") + ")"}
		}
		whole := c.value
		if c.value.kind == '{' {
			whole = c.value.get("default")
			for _, k := range c.value.hash {
				if k.key == "default" {
					continue
				}
				if err := r.country(k); err != nil {
					return err
				}
			}
		}
		if whole != nil {
			later = append(later, func() error { return r.add("continent", "continents: "+list([]string{c.key}), whole) })
		}
	}
	for _, f := range later {
		if err := f(); err != nil {
			return err
		}
	}
	return r.add("default", "", fallback)
}

func (r *mapper) country(k entry) error {
	if len(k.key) != 2 {
		return &Refusal{r.g.file, k.line, k.key + " is no country"}
	}
	if k.value.kind != '{' {
		return r.add("country", "countries: "+list([]string{k.key}), k.value)
	}
	whole := k.value.get("default")
	for _, s := range k.value.hash {
		if s.key == "default" {
			continue
		}
		if s.value.kind == '{' {
			return &Refusal{r.g.file, s.line, s.key + ": below a country one level is imported, cities or subdivisions"}
		}
		// A code of two or three letters or digits is a subdivision, all else a city.
		field, name := "cities", s.key
		if len(s.key) <= 3 && strings.ToUpper(s.key) == s.key {
			field, name = "subdivisions", k.key+"-"+s.key
		}
		if err := r.add("part", "countries: "+list([]string{k.key})+", "+field+": "+list([]string{name}), s.value); err != nil {
			return err
		}
	}
	if whole == nil {
		return nil // the continent's rule answers
	}
	return r.add("country", "countries: "+list([]string{k.key}), whole)
}
