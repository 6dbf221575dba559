package steer

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/homing-im/homing/region"
)

// Step is one thing that was consulted on the way to an answer: first where the
// client is at home, then every rule in order until one answered.
type Step struct {
	Rule       string      `json:"rule"` // "home", the rule's name, [BuiltIn] or [AllDown]
	Matched    bool        `json:"matched"`
	Answered   bool        `json:"answered"` // it gave the answer; a rule that matched with nobody usable did not
	Why        string      `json:"why"`
	Scope      uint8       `json:"scope"` // of the answer so far, in bits
	Candidates []Candidate `json:"candidates,omitempty"`
}

func (d *decision) step(s Step) {
	s.Scope = d.answer.Scope
	d.answer.Trace = append(d.answer.Trace, s)
}

// String is the step as lines of text, without a newline at the end.
func (s Step) String() string {
	var b strings.Builder
	verdict := "no"
	switch {
	case s.Answered:
		verdict = "answers"
	case s.Matched:
		verdict = "yes"
	}
	fmt.Fprintf(&b, "%-12s %-8s %s (scope /%d)", s.Rule, verdict, s.Why, s.Scope)
	for _, c := range s.Candidates {
		fmt.Fprintf(&b, "\n  %s", c)
	}
	return b.String()
}

// String is the candidate as one line of text.
func (c Candidate) String() string {
	mark, note := "+", "chosen"
	if c.Skipped != "" {
		mark, note = "-", c.Skipped
	}
	address := "-"
	if c.Address.IsValid() {
		address = written(c.Address)
	}
	distance := ""
	switch {
	case c.Millis > 0:
		distance = fmt.Sprintf("%d ms", c.Millis)
	case c.KM >= 0:
		distance = fmt.Sprintf("%.0f km", c.KM)
	}
	if c.Load > 0 {
		note += fmt.Sprintf(", load %d.%02d%%", c.Load/100, c.Load%100)
	}
	if c.Spilled {
		note += ", spills over"
	}
	kind := "POP"
	if c.POP == "" {
		kind = "region"
	}
	return fmt.Sprintf("%s %-6s %-12s %-22s %9s  %s", mark, kind, c.Name(), address, distance, note)
}

// Text is the trace and the answer for people, one line each.
func (a Answer) Text() string {
	var b strings.Builder
	for _, s := range a.Trace {
		fmt.Fprintln(&b, s)
	}
	fallback := ""
	if a.Fallback != "" {
		fallback = fmt.Sprintf(" (all down: %s)", a.Fallback)
	}
	led := ""
	if a.Home != "" {
		led = fmt.Sprintf(" home %s, acting %s,", a.Home, a.Acting)
	}
	fmt.Fprintf(&b, "answer: rule %s%s,%s ttl %d s, scope /%d\n", a.Rule, fallback, led, a.TTL, a.Scope)
	for i, e := range a.Endpoints {
		fmt.Fprintf(&b, "  %d. %s %s\n", i+1, e.Name(), written(e.Address))
	}
	return b.String()
}

func (d *decision) describeHome() string {
	where := "unknown place"
	if f := d.client.Facts; f.Known {
		where = strings.TrimSpace(f.Place.City + " " + f.Place.Country)
	}
	if asn := d.client.Facts.ASN; asn != 0 {
		where += fmt.Sprintf(", AS%d", asn)
	}
	if p := d.client.Facts.Prefix; p.IsValid() {
		where += " by " + p.String()
	}
	from := "no address"
	if d.client.Prefix.IsValid() {
		from = fmt.Sprintf("%s in %s", d.client.Prefix, where)
	}
	switch {
	case len(d.view.World.Regions) == 0:
		return "client " + from
	case d.placed:
		return fmt.Sprintf("UIN %d is at home in %s, served by %s; client %s", d.client.UIN, d.answer.Home, d.answer.Acting, from)
	case d.client.UIN != 0:
		return fmt.Sprintf("UIN %d belongs to no region; a newcomer would go to %s, served by %s; client %s", d.client.UIN, d.answer.Home, d.answer.Acting, from)
	}
	return fmt.Sprintf("no UIN; a newcomer would go to %s, served by %s; client %s", d.answer.Home, d.answer.Acting, from)
}

// written leaves out a port that nobody stated.
func written(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

func describePool(held string, policy region.AllDown, chosen, of int) string {
	if held != "" {
		held += ": "
	}
	switch {
	case policy == Nothing:
		return held + "health leaves nobody, and the policy says nothing"
	case policy != "":
		return fmt.Sprintf("%shealth leaves nobody, and the policy says %s: %d of %d", held, policy, chosen, of)
	case chosen == 0:
		return fmt.Sprintf("%snone of %d can take the client", held, of)
	}
	return fmt.Sprintf("%s%d of %d", held, chosen, of)
}

// describe says why the match did not hold.
func (d *decision) describe(why condition, m *region.Match) string {
	c := &d.client
	f := &c.Facts
	switch why {
	case missService:
		return fmt.Sprintf("service %s is not one of %v", c.Service, m.Services)
	case missUIN:
		return fmt.Sprintf("%s is not in %s", stated("UIN", uint64(c.UIN)), uinRanges(m.UINs))
	case missPercent:
		if c.UIN == 0 {
			return "no UIN stated, so no share of the UINs"
		}
		return fmt.Sprintf("UIN %d has share %d of salt %q, not below %d", c.UIN, Share(m.Percent.Salt, c.UIN), m.Percent.Salt, m.Percent.Below)
	case missVersion:
		return fmt.Sprintf("%s is not in %s", stated("version", uint64(c.Version)), versionRanges(m.Versions))
	case missPlatform:
		return fmt.Sprintf("platform %q is not one of %q", c.Platform, m.Platforms)
	case missHome, missActing:
		if !d.placed {
			return "the client has no home"
		}
		if why == missHome {
			return fmt.Sprintf("home %s is not one of %v", d.answer.Home, m.Homes)
		}
		return fmt.Sprintf("acting region %s is not one of %v", d.answer.Acting, m.Acting)
	case missHealth:
		return "none of " + strings.Join(healthNames(m), ", ") + " is healthy"
	case missSubdivision:
		return fmt.Sprintf("subdivision %q is not one of %q", f.Place.Subdivision, m.Subdivisions)
	case missCity:
		return fmt.Sprintf("city %q is not one of %q", f.Place.City, m.Cities)
	case missCountry:
		return fmt.Sprintf("country %q is not one of %q", f.Place.Country, m.Countries)
	case missContinent:
		return fmt.Sprintf("continent %q is not one of %q", f.Place.Continent, m.Continents)
	case missASN:
		return fmt.Sprintf("%s is not one of %v", stated("AS", uint64(f.ASN)), m.ASNs)
	case missCarrier:
		return fmt.Sprintf("%s is not of a carrier in %q", stated("AS", uint64(f.ASN)), m.Carriers)
	case missPrefix:
		if !d.addr.IsValid() {
			return "no address stated"
		}
		return fmt.Sprintf("%s is not in %v", d.addr, m.Prefixes)
	case missAny:
		return fmt.Sprintf("none of its %d alternatives holds", len(m.Any))
	case missNot:
		return "what it excludes holds"
	}
	return ""
}

// healthNames are whom a match wants to be healthy, of which kind nobody is.
func healthNames(m *region.Match) []string {
	var out []string
	for _, id := range m.HealthyPOPs {
		out = append(out, "POP "+string(id))
	}
	for _, id := range m.HealthyRegions {
		out = append(out, "region "+string(id))
	}
	return out
}

// describeHit says why the match holds.
func (d *decision) describeHit(m *region.Match) string {
	c, f := &d.client, &d.client.Facts
	var out []string
	add := func(set bool, format string, args ...any) {
		if set {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(len(m.Services) > 0, "service %s", c.Service)
	add(len(m.UINs) > 0, "UIN %d", c.UIN)
	if m.Percent != nil {
		add(true, "share %d of salt %q", Share(m.Percent.Salt, c.UIN), m.Percent.Salt)
	}
	add(len(m.Versions) > 0, "version %d", c.Version)
	add(len(m.Platforms) > 0, "platform %s", c.Platform)
	add(len(m.Homes) > 0, "home %s", d.answer.Home)
	add(len(m.Acting) > 0, "acting region %s", d.answer.Acting)
	for _, id := range m.HealthyPOPs {
		add(d.health.POP(id), "POP %s is healthy", id)
	}
	for _, id := range m.HealthyRegions {
		add(d.health.Region(id), "region %s is healthy", id)
	}
	add(len(m.Countries) > 0, "country %s", f.Place.Country)
	add(len(m.Subdivisions) > 0, "subdivision %s", f.Place.Subdivision)
	add(len(m.Cities) > 0, "city %s", f.Place.City)
	add(len(m.Continents) > 0, "continent %s", f.Place.Continent)
	add(len(m.ASNs) > 0 || len(m.Carriers) > 0, "AS%d", f.ASN)
	add(len(m.Prefixes) > 0, "address %s", d.addr)
	for i := range m.All {
		add(true, "%s", d.describeHit(&m.All[i]))
	}
	if len(m.Any) > 0 {
		add(true, "%s", d.describeHit(&m.Any[d.alternative(m)]))
	}
	add(m.Not != nil, "what it excludes does not hold")
	if len(out) == 0 {
		return "everybody"
	}
	return strings.Join(out, ", ")
}

func stated(what string, n uint64) string {
	if n == 0 {
		return "no " + what
	}
	return fmt.Sprintf("%s %d", what, n)
}

func uinRanges(ranges []region.UINRange) string {
	var out []string
	for _, r := range ranges {
		out = append(out, fmt.Sprintf("%d-%d", r.First, r.Last))
	}
	return shorten(out)
}

func versionRanges(ranges []region.VersionRange) string {
	var out []string
	for _, r := range ranges {
		if r.To == 0 {
			out = append(out, fmt.Sprintf("%d-", r.From))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", r.From, r.To))
		}
	}
	return shorten(out)
}

// shorten keeps a trace readable when a rule lists thousands.
func shorten(items []string) string {
	const most = 8
	if len(items) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
	}
	return strings.Join(items, ", ")
}
