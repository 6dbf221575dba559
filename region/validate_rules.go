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
		c.act(at+".act", r.Name, &r.Act)
	}
	if c.ranges > MaxRuleUINs {
		c.add("rules", "move the owners instead: the overlay holds millions", "the rules list %d UIN ranges, more than %d", c.ranges, MaxRuleUINs)
	}
}

// act checks what a rule answers.
func (c *checker) act(at, rule string, a *Act) {
	for j, p := range a.POPs {
		if _, ok := c.w.POP(p); !ok {
			c.add(fmt.Sprintf("%s.pops[%d]", at, j), c.knownPOP(string(p)), "rule %s names %q, which is no POP of this world", rule, p)
		}
	}
	c.homes(at+".regions", a.Regions)
	if len(a.Pool) > 0 && len(a.POPs)+len(a.Regions) > 0 {
		c.add(at+".pool", "put all of them into the pool", "rule %s has a pool beside pops or regions", rule)
	}
	c.pool(at, rule, a)
	if a.TTL > MaxTTL {
		c.add(at+".ttl", "", "TTL %d: want at most %d seconds", a.TTL, MaxTTL)
	}
	orders := []string{string(OrderWritten), string(OrderNearest), string(OrderMeasured), string(OrderWeighted)}
	switch {
	case a.Order != "" && !slices.Contains(orders, string(a.Order)):
		c.add(at+".order", Nearest(string(a.Order), orders), "%q is no order of a pool", a.Order)
	case a.Nearest && a.Order != "" && a.Order != OrderNearest:
		c.add(at+".order", "leave one of them out", "rule %s says nearest and order %s", rule, a.Order)
	case a.Band > 0 && !a.byDistance():
		c.add(at+".band", "say `order: nearest` or `order: measured`", "rule %s has a band, which is about distances, and its order has none", rule)
	}
	if stickies := []string{string(StickyUIN), string(StickyPrefix)}; a.Sticky != "" && !slices.Contains(stickies, string(a.Sticky)) {
		c.add(at+".sticky", Nearest(string(a.Sticky), stickies), "%q is nothing that a choice can stick to", a.Sticky)
	}
	if policies := []string{string(Next), string(LastKnownGood), string(Everything), string(Nothing)}; a.AllDown != "" && !slices.Contains(policies, string(a.AllDown)) {
		c.add(at+".allDown", Nearest(string(a.AllDown), policies), "%q is no answer for when health leaves nobody", a.AllDown)
	}
	c.share(at+".spill", a.Spill)
}

// byDistance says whether the order looks at distances.
func (a *Act) byDistance() bool {
	builtIn := len(a.POPs)+len(a.Regions)+len(a.Pool) == 0
	return a.Nearest || a.Order == OrderNearest || a.Order == OrderMeasured || (a.Order == "" && builtIn)
}

func (c *checker) pool(at, rule string, a *Act) {
	seen := make(map[PoolMember]bool)
	weights := false
	for j, m := range a.Pool {
		at := fmt.Sprintf("%s.pool[%d]", at, j)
		_, isPOP := c.w.POP(m.POP)
		_, isRegion := c.w.Region(m.Region)
		switch {
		case (m.POP == "") == (m.Region == ""):
			c.add(at, "such as {pop: pop-1} or {region: sh}", "a member of rule %s's pool is either a POP or a region", rule)
		case m.POP != "" && !isPOP:
			c.add(at+".pop", c.knownPOP(string(m.POP)), "rule %s names %q, which is no POP of this world", rule, m.POP)
		case m.Region != "" && !isRegion:
			c.add(at+".region", c.known(string(m.Region)), "%q is no region of this world", m.Region)
		case seen[PoolMember{POP: m.POP, Region: m.Region}]:
			c.add(at, "name every member once; a weight gives it more clients", "%s is twice in rule %s's pool", string(m.POP)+string(m.Region), rule)
		}
		seen[PoolMember{POP: m.POP, Region: m.Region}] = true
		if m.Weight > MaxWeight {
			c.add(at+".weight", "weights count against each other: 3 and 1 give three quarters and one", "weight %d: want 1 to %d", m.Weight, MaxWeight)
		}
		c.share(at+".drain", m.Drain)
		weights = weights || m.Weight > 0
	}
	if weights && !a.byDistance() && a.Order != OrderWeighted {
		c.add(at+".pool", "say `order: weighted`, or `order: nearest` with a band", "rule %s has weights, and its order as written leaves nothing for them to decide", rule)
	}
}

func (c *checker) share(at string, hundredths uint32) {
	if hundredths > 10_000 {
		c.add(at, "write 0% to 100%", "%d hundredths of a percent are more than all", hundredths)
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
		if known := c.w.Services(); !slices.Contains(known, s) {
			names := make([]string, len(known))
			for i, k := range known {
				names[i] = string(k)
			}
			c.add(fmt.Sprintf("%s.services[%d]", at, j), Nearest(string(s), names), "%q is no service", s)
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
	for j, k := range m.Cities {
		if k == "" || len(k) > 64 {
			c.add(fmt.Sprintf("%s.cities[%d]", at, j), "as the geo database names it in English, such as Shanghai", "city %q: want 1 to 64 bytes", k)
		}
	}
	for j, k := range m.Subdivisions {
		if !isSubdivision(k) {
			c.add(fmt.Sprintf("%s.subdivisions[%d]", at, j), "ISO 3166-2, such as CN-SH", "subdivision %q: want a country, '-' and 1 to 3 letters or digits", k)
		}
	}
	for j, p := range m.HealthyPOPs {
		if _, ok := c.w.POP(p); !ok {
			c.add(fmt.Sprintf("%s.healthyPops[%d]", at, j), c.knownPOP(string(p)), "%q is no POP of this world", p)
		}
	}
	c.homes(at+".healthyRegions", m.HealthyRegions)
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
