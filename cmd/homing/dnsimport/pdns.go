package dnsimport

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"golang.org/x/text/language"

	"github.com/homing-im/homing/dns/authority/static"
)

// PDNS imports a zone of PowerDNS's geoip backend: its YAML file of domains with
// records and services. zone is which of them; empty is the only one.
func PDNS(name, src, zone string) (*Files, error) {
	f, err := parser.ParseBytes([]byte(src), 0)
	if err != nil {
		return nil, &Refusal{name, 1, firstLine(err.Error())}
	}
	if len(f.Docs) != 1 {
		return nil, &Refusal{name, 1, "want one YAML document"}
	}
	root, err := fromYAML(name, f.Docs[0].Body, 0)
	if err != nil {
		return nil, err
	}
	for _, e := range root.hash {
		if e.key != "domains" {
			return nil, &Refusal{name, e.line, e.key + " has no counterpart"}
		}
	}
	domains := root.get("domains")
	if domains == nil || domains.kind != '[' || len(domains.list) == 0 {
		return nil, &Refusal{name, 1, "there are no domains"}
	}
	d := domains.list[0]
	if zone == "" && len(domains.list) > 1 {
		return nil, &Refusal{name, domains.list[1].line, "there are several domains: say which one with --zone"}
	}
	if zone != "" {
		i := slices.IndexFunc(domains.list, func(v *value) bool { x := v.get("domain"); return x != nil && fqdn(x.scalar) == fqdn(zone) })
		if i < 0 {
			return nil, &Refusal{name, domains.line, "there is no domain " + zone}
		}
		d = domains.list[i]
	}
	p := &pdns{file: name, records: map[string][]record{}, places: map[string]*place{}}
	return p.domain(d)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func fqdn(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) + "." }

// fromYAML turns a node into the values that this package reads.
func fromYAML(file string, n ast.Node, depth int) (*value, error) {
	if n == nil || depth > maxDepth {
		return nil, &Refusal{file, 1, "the file is empty, or nested too deeply"}
	}
	v := &value{line: n.GetToken().Position.Line}
	switch n := n.(type) {
	case *ast.MappingNode:
		v.kind = '{'
		for _, m := range n.Values {
			x, err := fromYAML(file, m.Value, depth+1)
			if err != nil {
				return nil, err
			}
			v.hash = append(v.hash, entry{m.Key.GetToken().Value, m.Key.GetToken().Position.Line, x})
		}
	case *ast.MappingValueNode:
		x, err := fromYAML(file, n.Value, depth+1)
		if err != nil {
			return nil, err
		}
		v.kind, v.hash = '{', []entry{{n.Key.GetToken().Value, n.Key.GetToken().Position.Line, x}}
	case *ast.SequenceNode:
		v.kind = '['
		for _, m := range n.Values {
			x, err := fromYAML(file, m, depth+1)
			if err != nil {
				return nil, err
			}
			v.list = append(v.list, x)
		}
	case ast.ScalarNode:
		v.kind, v.scalar = 's', fmt.Sprint(n.GetValue())
	default:
		return nil, &Refusal{file, v.line, "anchors, aliases and tags are not read"}
	}
	return v, nil
}

type record struct {
	line    int
	rtype   string
	content string
	ttl     int
}

type pdns struct {
	file    string
	zone    string // with a trailing dot
	ttl     int
	records map[string][]record // by name with a trailing dot
	order   []string
	places  map[string]*place
	ids     []string
	notes   []string
}

func (p *pdns) domain(d *value) (*Files, error) {
	name := d.get("domain")
	if name == nil || name.kind != 's' {
		return nil, &Refusal{p.file, d.line, "a domain has no name"}
	}
	p.zone, p.ttl = fqdn(name.scalar), 60
	var services *value
	for _, e := range d.hash {
		switch e.key {
		case "domain":
		case "ttl":
			ttl, err := strconv.Atoi(e.value.scalar)
			if err != nil || ttl < 0 {
				return nil, &Refusal{p.file, e.line, "the TTL is no number"}
			}
			p.ttl = ttl
		case "records":
			if err := p.readRecords(e.value); err != nil {
				return nil, err
			}
		case "services":
			services = e.value
		default:
			return nil, &Refusal{p.file, e.line, e.key + " has no counterpart"}
		}
	}
	if services == nil || len(services.hash) == 0 {
		return nil, &Refusal{p.file, d.line, "the domain has no services, so nothing is steered"}
	}
	var rules []rule
	for _, s := range services.hash {
		made, err := p.service(s)
		if err != nil {
			return nil, err
		}
		for i := range made {
			made[i].name = fmt.Sprintf("%s-%d", made[i].name, len(rules)+i+1)
		}
		rules = append(rules, made...)
	}
	rest, err := p.rest()
	if err != nil {
		return nil, err
	}
	z, err := static.Parse(p.file, rest)
	if err != nil {
		return nil, err
	}
	zone := strings.TrimSuffix(p.zone, ".")
	servers, notes := serversOf(z, zone)
	places := make([]*place, 0, len(p.ids))
	for _, id := range p.ids {
		places = append(places, p.places[id])
	}
	return &Files{Zone: zone, Names: write(zone, p.file, p.ttl, servers, places, rules), Rest: rest, Notes: append(p.notes, notes...)}, nil
}

func (p *pdns) readRecords(v *value) error {
	for _, e := range v.hash {
		name := fqdn(e.key)
		if name != p.zone && !strings.HasSuffix(name, "."+p.zone) {
			return &Refusal{p.file, e.line, e.key + " is not in the zone"}
		}
		p.order = append(p.order, name)
		list := e.value.list
		if e.value.kind == '{' {
			list = []*value{e.value}
		}
		for _, item := range list {
			for _, r := range item.hash {
				out := record{line: r.line, rtype: strings.ToUpper(r.key), content: r.value.scalar, ttl: p.ttl}
				if r.value.kind == '{' {
					for _, x := range r.value.hash {
						switch x.key {
						case "content":
							out.content = x.value.scalar
						case "ttl":
							ttl, err := strconv.Atoi(x.value.scalar)
							if err != nil {
								return &Refusal{p.file, x.line, "the TTL is no number"}
							}
							out.ttl = ttl
						default:
							return &Refusal{p.file, x.line, x.key + ": weights of single records have no counterpart here; a pool has them"}
						}
					}
				}
				if strings.Contains(out.content, "%") {
					return &Refusal{p.file, r.line, "a record that says something about who asks (%) has no counterpart"}
				}
				p.records[name] = append(p.records[name], out)
			}
		}
	}
	return nil
}

// rest is the zone file of all records.
func (p *pdns) rest() (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL %d\n", p.ttl)
	for _, name := range p.order {
		for _, r := range p.records[name] {
			content := r.content
			f := strings.Fields(content)
			at := map[string][]int{"NS": {0}, "CNAME": {0}, "PTR": {0}, "DNAME": {0}, "MX": {1}, "SRV": {3}, "SOA": {0, 1}}[r.rtype]
			for _, i := range at {
				if i >= len(f) {
					return "", &Refusal{p.file, r.line, "the record is too short"}
				}
				f[i] = fqdn(f[i])
			}
			if at != nil {
				content = strings.Join(f, " ")
			}
			if r.rtype == "TXT" && !strings.HasPrefix(content, `"`) {
				content = strconv.Quote(content)
			}
			fmt.Fprintf(&b, "%s %d IN %s %s\n", name, r.ttl, r.rtype, content)
		}
	}
	return b.String(), nil
}

// service makes the rules of one service.
func (p *pdns) service(s entry) ([]rule, error) {
	label := strings.TrimSuffix(strings.TrimSuffix(fqdn(s.key), p.zone), ".")
	switch {
	case fqdn(s.key) == p.zone:
		return nil, &Refusal{p.file, s.line, "the zone's own name cannot be steered; steer www and let clients ask for that"}
	case label+"."+p.zone != fqdn(s.key):
		return nil, &Refusal{p.file, s.line, s.key + " is not in the zone"}
	case strings.ContainsAny(label, ".*"):
		return nil, &Refusal{p.file, s.line, s.key + " has several labels or a wildcard; a steered name is one label below the zone, and aliases lead to it"}
	}
	if s.value.kind != '{' {
		return p.formats(label, "", s.value)
	}
	type net struct {
		p netip.Prefix
		e entry
	}
	var nets []net
	var fallback *value
	for _, e := range s.value.hash {
		if e.key == "default" {
			fallback = e.value
			continue
		}
		prefix, err := netip.ParsePrefix(e.key)
		if err != nil {
			return nil, &Refusal{p.file, e.line, e.key + " is no network"}
		}
		nets = append(nets, net{prefix.Masked(), e})
	}
	if fallback == nil {
		return nil, &Refusal{p.file, s.line, s.key + " has no default"}
	}
	slices.SortStableFunc(nets, func(a, b net) int { return cmp.Compare(b.p.Bits(), a.p.Bits()) })
	var out []rule
	for _, n := range nets {
		made, err := p.formats(label, "prefixes: "+list([]string{n.p.String()}), n.e.value)
		if err != nil {
			return nil, err
		}
		out = append(out, made...)
	}
	made, err := p.formats(label, "", fallback)
	return append(out, made...), err
}

// target is a record that a format can lead to.
type target struct {
	name    string
	match   string // YAML fields; empty for whoever is left
	unknown bool   // for clients of whom nothing is known
	labels  int    // of a wildcard's; more for one without
}

// formats makes the rules of a service's formats, in the network that within says.
func (p *pdns) formats(label, within string, v *value) ([]rule, error) {
	items, ok := v.items()
	if !ok || len(items) == 0 {
		return nil, &Refusal{p.file, v.line, "want a name with placeholders, or a list of them"}
	}
	var out []rule
	closed := false // a rule answers whoever is left
	for _, item := range items {
		targets, err := p.targets(item, len(items) == 1)
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			if closed {
				break
			}
			if err := p.place(t.name, label, item.line); err != nil {
				return nil, err
			}
			parts := []string{"services: " + list([]string{label})}
			for _, more := range []string{within, t.match} {
				if more != "" {
					parts = append(parts, more)
				}
			}
			ttl := p.records[t.name][0].ttl
			out = append(out, rule{label, "{" + strings.Join(parts, ", ") + "}", fmt.Sprintf("{pops: %s, ttl: %d}", list([]string{p.id(t.name)}), ttl)})
			closed = t.match == ""
			if t.unknown {
				p.notes = append(p.notes, fmt.Sprintf("%s:%d: clients of places that have no record get what those get of whom nothing is known (%s)", p.file, item.line, t.name))
			}
		}
	}
	if !closed {
		return nil, &Refusal{p.file, v.line, "no record answers clients elsewhere: add one that any name falls to (*), or for unknown"}
	}
	return out, nil
}

// targets are the records that a format leads to, the most specific first.
func (p *pdns) targets(format *value, wildcards bool) ([]target, error) {
	want := strings.Split(fqdn(format.scalar), ".")
	var out []target
	for _, name := range p.order {
		have := strings.Split(name, ".")
		tail := want
		t := target{name: name, labels: len(have) + 1}
		if have[0] == "*" {
			if len(have)-1 >= len(want) {
				continue
			}
			have, t.labels = have[1:], len(have)
			tail = want[len(want)-len(have):]
			if !strings.Contains(strings.Join(want[:len(want)-len(have)], "."), "%") {
				continue
			}
		}
		if len(have) != len(tail) {
			continue
		}
		says := map[string]string{}
		fits := true
		for i := range have {
			if fits = fits && labelFits(tail[i], have[i], says); !fits {
				break
			}
		}
		if !fits {
			continue
		}
		if name[0] == '*' && !wildcards {
			return nil, &Refusal{p.file, format.line, "several formats and a wildcard (" + name + "): write the formats out"}
		}
		var err error
		if t.match, t.unknown, err = p.conditions(format.line, says); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	if err := p.placeholders(format); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, &Refusal{p.file, format.line, format.scalar + " leads to no record"}
	}
	if err := p.covered(format, want, out); err != nil {
		return nil, err
	}
	rank := func(t target) int { // who is left comes last
		if t.match == "" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(out, func(a, b target) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.labels, a.labels))
	})
	if n := len(out); n > 1 && out[n-2].match == "" { // a wildcard for all, and one for unknown
		out = slices.DeleteFunc(out, func(t target) bool { return t.unknown })
	}
	return out, nil
}

// covered refuses a format of which some names have no record although a wildcard
// further up has: a name that exists, if only because there are names below it,
// keeps that from reaching below (RFC 4592 section 3.3.1).
func (p *pdns) covered(format *value, want []string, found []target) error {
	for _, wide := range found {
		suffix, ok := strings.CutPrefix(wide.name, "*.")
		if !ok {
			continue
		}
		for _, name := range p.order {
			left, ok := strings.CutSuffix(name, "."+suffix)
			labels := strings.Split(left, ".")
			child := labels[len(labels)-1]
			if !ok || len(labels) < 2 || strings.Count(suffix, ".")+2 > len(want)-1 {
				continue
			}
			if at := want[len(want)-strings.Count(suffix, ".")-2]; !labelFits(at, child, map[string]string{}) {
				continue
			}
			if _, has := p.records["*."+child+"."+suffix]; !has {
				return &Refusal{p.file, format.line, "clients that " + name + " is not for get no answer, because " + child + "." + suffix + " exists: add *." + child + "." + suffix}
			}
		}
	}
	return nil
}

// known are the placeholders that have a counterpart.
var known = []string{"%cn", "%cc", "%co", "%as", "%ci"}

func (p *pdns) placeholders(format *value) error {
	for rest := format.scalar; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			return nil
		}
		if len(after) < 2 || !slices.Contains(known, "%"+after[:2]) {
			return &Refusal{p.file, format.line, format.scalar + ": of the placeholders " + strings.Join(known, ", ") + " have a counterpart"}
		}
		rest = after[2:]
	}
}

// labelFits matches a label of a format with one of a name. A placeholder stands
// for a whole label, or for what is between fixed text.
func labelFits(format, label string, says map[string]string) bool {
	before, after, found := strings.Cut(format, "%")
	if !found {
		return format == label
	}
	if len(after) < 2 || strings.Contains(after[2:], "%") {
		return false
	}
	value, ok := strings.CutPrefix(label, before)
	if !ok {
		return false
	}
	if value, ok = strings.CutSuffix(value, after[2:]); !ok || value == "" {
		return false
	}
	says["%"+after[:2]] = value
	return true
}

// conditions are what a name's placeholders say of a client.
func (p *pdns) conditions(line int, says map[string]string) (match string, unknown bool, err error) {
	var parts []string
	for _, key := range known {
		v, ok := says[key]
		if !ok {
			continue
		}
		if v == "unknown" {
			unknown = true
			continue
		}
		switch key {
		case "%cn":
			if says["%cc"] == "" && says["%co"] == "" {
				parts = append(parts, "continents: "+list([]string{strings.ToUpper(v)}))
			}
		case "%cc", "%co": // two letters, or with databases of the old form three
			r, err := language.ParseRegion(v)
			if err != nil || !r.IsCountry() {
				return "", false, &Refusal{p.file, line, v + " is no country"}
			}
			parts = append(parts, "countries: "+list([]string{r.String()}))
		case "%as":
			if _, err := strconv.ParseUint(v, 10, 32); err != nil {
				return "", false, &Refusal{p.file, line, v + " is no AS number"}
			}
			parts = append(parts, "asns: ["+v+"]")
		case "%ci":
			return "", false, &Refusal{p.file, line, "%ci: cities are written by their own names here; write the rule by hand"}
		}
	}
	if unknown && len(parts) > 0 {
		unknown = false // a known continent with an unknown country: the wildcard of the continent
	}
	return strings.Join(parts, ", "), unknown, nil
}

// id is the place that a record stands for.
func (p *pdns) id(name string) string {
	id := strings.TrimSuffix(strings.TrimSuffix(name, p.zone), ".")
	return strings.NewReplacer("*", "any", ".", "-", "_", "-").Replace(id)
}

// place adds a service's addresses to the place of a record.
func (p *pdns) place(name, label string, line int) error {
	id := p.id(name)
	x := p.places[id]
	if x == nil {
		x = &place{id: id}
		p.places[id] = x
		p.ids = append(p.ids, id)
	}
	if slices.ContainsFunc(x.names, func(n placeName) bool { return n.name == label }) {
		return nil
	}
	n := placeName{name: label}
	for _, r := range p.records[name] {
		if first := p.records[name][0]; r.ttl != first.ttl {
			return &Refusal{p.file, r.line, name + " has addresses with different TTLs; a steered answer has one"}
		}
		switch r.rtype {
		case "A", "AAAA":
			a, err := netip.ParseAddr(r.content)
			switch {
			case err != nil:
				return &Refusal{p.file, r.line, r.content + " is no address"}
			case a.Is4() && !n.v4.IsValid():
				n.v4 = a
			case a.Is6() && !n.v6.IsValid():
				n.v6 = a
			default:
				return &Refusal{p.file, r.line, name + " has several addresses of a family; here each is a place of its own, and an answer has as many as steering.answers says"}
			}
		default:
			return &Refusal{p.file, r.line, "a service leads to " + r.rtype + " of " + name + "; a steered name has addresses only"}
		}
	}
	if !n.v4.IsValid() && !n.v6.IsValid() {
		return &Refusal{p.file, line, name + " has no address"}
	}
	x.names = append(x.names, n)
	return nil
}
