package region

import (
	"fmt"
	"slices"
	"strings"
)

func (c *checker) rules() {
	names := make(map[string]bool)
	for i, r := range c.w.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if err := validName("rule", r.Name, 64); err != nil {
			c.add(at+".name", "traces show it", "%v", err)
		}
		if names[r.Name] {
			c.add(at+".name", "every rule has a name of its own", "rule %s is there twice", r.Name)
		}
		names[r.Name] = true
		c.match(at+".match", r.Match, 1)
		for j, p := range r.Act.POPs {
			if _, ok := c.w.POP(p); !ok {
				c.add(fmt.Sprintf("%s.act.pops[%d]", at, j), c.knownPOP(string(p)), "rule %s names %q, which is no POP of this world", r.Name, p)
			}
		}
		c.homes(at+".act.regions", r.Act.Regions)
		if r.Act.TTL > MaxTTL {
			c.add(at+".act.ttl", "", "TTL %d: want at most %d seconds", r.Act.TTL, MaxTTL)
		}
	}
	if c.ranges > MaxRuleUINs {
		c.add("rules", "move the owners instead: the overlay holds millions", "the rules list %d UIN ranges, more than %d", c.ranges, MaxRuleUINs)
	}
}

func (c *checker) knownPOP(wrong string) string {
	var ids []string
	for _, p := range c.w.POPs {
		ids = append(ids, string(p.ID))
	}
	return Nearest(wrong, ids)
}

func (c *checker) homes(at string, ids []ID) {
	for j, id := range ids {
		if _, ok := c.w.Region(id); !ok {
			c.add(fmt.Sprintf("%s[%d]", at, j), c.known(string(id)), "%q is no region of this world", id)
		}
	}
}

func (c *checker) match(at string, m Match, depth int) {
	if depth > MaxRuleDepth {
		c.add(at, "", "all, any and not are more than %d deep", MaxRuleDepth)
		return
	}
	for j, n := range m.All {
		c.match(fmt.Sprintf("%s.all[%d]", at, j), n, depth+1)
	}
	for j, n := range m.Any {
		c.match(fmt.Sprintf("%s.any[%d]", at, j), n, depth+1)
	}
	if m.Not != nil {
		c.match(at+".not", *m.Not, depth+1)
	}
	for j, s := range m.Services {
		if s != Long && s != Short && s != Web {
			c.add(fmt.Sprintf("%s.services[%d]", at, j), Nearest(string(s), []string{"long", "short", "web"}), "%q is no service", s)
		}
	}
	c.ranges += len(m.UINs)
	for j, u := range m.UINs {
		if u.First == 0 || u.First > u.Last {
			c.add(fmt.Sprintf("%s.uins[%d]", at, j), "first to last, both included, from 1", "UIN range %d-%d is empty or begins with 0", u.First, u.Last)
		}
	}
	if m.Percent != nil && m.Percent.Below > 10_000 {
		c.add(at+".percent", "it counts hundredths of a percent", "%d is more than 10000, which is everybody", m.Percent.Below)
	}
	for j, v := range m.Versions {
		if v.To != 0 && v.From > v.To {
			c.add(fmt.Sprintf("%s.versions[%d]", at, j), "", "version range %d-%d is empty", v.From, v.To)
		}
	}
	for j, p := range m.Prefixes {
		c.prefix(fmt.Sprintf("%s.prefixes[%d]", at, j), p)
	}
	for j, k := range m.Countries {
		if !isCountry(k) {
			c.add(fmt.Sprintf("%s.countries[%d]", at, j), "ISO 3166-1, such as CN", "country %q: want two capital letters", k)
		}
	}
	for j, k := range m.Continents {
		if !slices.Contains(continents, k) {
			c.add(fmt.Sprintf("%s.continents[%d]", at, j), Nearest(k, continents), "continent %q is none of %s", k, strings.Join(continents, " "))
		}
	}
	for j, k := range m.Carriers {
		var names []string
		for _, known := range c.w.Carriers {
			names = append(names, known.Name)
		}
		if !slices.Contains(names, k) {
			c.add(fmt.Sprintf("%s.carriers[%d]", at, j), Nearest(k, names), "%q is no carrier of this world", k)
		}
	}
	c.homes(at+".homes", m.Homes)
	c.homes(at+".acting", m.Acting)
}

// Nearest is a hint: what the writer may have meant, or what there is.
func Nearest(wrong string, known []string) string {
	best, distance := "", 1+len(wrong)/3
	for _, k := range known {
		if d := editDistance(wrong, k); d <= distance {
			best, distance = k, d-1
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("did you mean %s?", best)
	case len(known) == 0:
		return "there are none"
	case len(known) > 12:
		return "it is none of the " + fmt.Sprint(len(known)) + " there are"
	}
	return "known: " + strings.Join(known, ", ")
}

// editDistance counts insertions, deletions and substitutions (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			d := diagonal
			if a[i-1] != b[j-1] {
				d = 1 + min(diagonal, row[j-1], row[j])
			}
			diagonal, row[j] = row[j], d
		}
	}
	return row[len(b)]
}
