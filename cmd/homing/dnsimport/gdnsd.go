package dnsimport

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/homing-im/homing/dns/authority/static"
)

// GDNSD imports gdnsd's configuration, of which the geoip plugin's maps and
// resources are read, and one of its zone files.
func GDNSD(configName, config, zoneName, zoneFile, zone string) (*Files, error) {
	root, err := parseVSCF(configName, config)
	if err != nil {
		return nil, err
	}
	g := &gdnsd{file: configName, zone: zone, places: map[string]*place{}, checks: map[string]string{}}
	if options := root.get("options"); options != nil {
		g.notes = append(g.notes, fmt.Sprintf("%s:%d: options are the server's own: say where it listens in its file", configName, options.line))
	}
	plugins := root.get("plugins")
	geoip := plugins.get("geoip")
	if geoip == nil {
		return nil, &Refusal{configName, root.line, "there is no plugin geoip, whose maps are what is imported"}
	}
	g.services, g.geoip = root.get("service_types"), geoip
	lines, err := zoneLines(zoneName, zoneFile)
	if err != nil {
		return nil, err
	}
	rest, err := g.split(zoneName, lines)
	if err != nil {
		return nil, err
	}
	if len(g.dynamic) == 0 {
		return nil, &Refusal{zoneName, 1, "no name is DYNA, so nothing is steered; use it as a zone file as it is"}
	}
	rules, err := g.rules(zoneName)
	if err != nil {
		return nil, err
	}
	rest = "$ORIGIN " + zone + ".\n" + rest
	z, err := static.Parse(zoneName, rest)
	if err != nil {
		return nil, err
	}
	servers, notes := serversOf(z, zone)
	g.notes = append(g.notes, notes...)
	places := make([]*place, 0, len(g.places))
	for _, id := range g.order {
		places = append(places, g.places[id])
	}
	return &Files{Zone: zone, Names: write(zone, configName, g.dynamic[0].ttl, servers, places, rules), Rest: rest, Notes: g.notes}, nil
}

type gdnsd struct {
	file, zone      string
	geoip, services *value
	places          map[string]*place // by datacenter
	order           []string
	checks          map[string]string // YAML by datacenter
	dynamic         []dynamic
	notes           []string
}

// dynamic is a DYNA record.
type dynamic struct {
	name     string
	ttl      int
	line     int
	resource string
	only     string // datacenter; empty for all of the resource's map
}

// zoneLine is a line of a zone file with its owner said.
type zoneLine struct {
	line  int
	owner string // empty for a directive, or inside parentheses
	rest  string
}

// zoneLines reads a file only as far as owners need it.
func zoneLines(name, text string) (out []zoneLine, err error) {
	owner, depth := "", 0
	for i, raw := range strings.Split(text, "\n") {
		line, _ := uncomment(raw)
		inside := depth > 0
		depth += strings.Count(line, "(") - strings.Count(line, ")")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case inside:
			out = append(out, zoneLine{line: i + 1, rest: line})
		case strings.HasPrefix(fields[0], "$"):
			if d := strings.ToUpper(fields[0]); d != "$TTL" && d != "$ORIGIN" {
				return nil, &Refusal{name, i + 1, "the directive " + fields[0] + " is gdnsd's own"}
			}
			if strings.EqualFold(fields[0], "$ORIGIN") {
				return nil, &Refusal{name, i + 1, "$ORIGIN inside the file is not followed: write the names out"}
			}
			out = append(out, zoneLine{line: i + 1, rest: line})
		default:
			rest := line
			if line[0] != ' ' && line[0] != '\t' {
				owner = fields[0]
				rest = line[len(owner):]
			}
			if owner == "" {
				return nil, &Refusal{name, i + 1, "a record has no name"}
			}
			if strings.Contains(owner, "@Z") || strings.Contains(owner, "@F") {
				return nil, &Refusal{name, i + 1, owner + " is gdnsd's own: write the name out"}
			}
			out = append(out, zoneLine{line: i + 1, owner: owner, rest: rest})
		}
	}
	return out, nil
}

// uncomment cuts a comment off, but not one in quotes.
func uncomment(line string) (string, bool) {
	quoted := false
	for i := range len(line) {
		switch line[i] {
		case '\\':
			continue
		case '"':
			quoted = !quoted
		case ';':
			if !quoted {
				return line[:i], true
			}
		}
	}
	return line, false
}

// split takes the dynamic records out of the lines and returns the others.
func (g *gdnsd) split(name string, lines []zoneLine) (string, error) {
	var b strings.Builder
	defaultTTL := 86400
	for _, l := range lines {
		f := strings.Fields(l.rest)
		if l.owner == "" {
			if len(f) == 2 && strings.EqualFold(f[0], "$TTL") {
				if ttl, ok := seconds(f[1]); ok {
					defaultTTL = ttl
				}
			}
			b.WriteString(l.rest + "\n")
			continue
		}
		at := slices.IndexFunc(f, func(s string) bool { return strings.EqualFold(s, "DYNA") || strings.EqualFold(s, "DYNC") })
		if at < 0 || at > 2 {
			b.WriteString(l.owner + " " + strings.TrimSpace(l.rest) + "\n")
			continue
		}
		if strings.EqualFold(f[at], "DYNC") {
			return "", &Refusal{name, l.line, "DYNC may answer with an alias; a steered name has addresses"}
		}
		d := dynamic{name: strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(l.owner, "."), "."+g.zone)), ttl: defaultTTL, line: l.line}
		for _, s := range f[:at] {
			longest, _, _ := strings.Cut(s, "/")
			if ttl, ok := seconds(longest); ok {
				d.ttl = ttl
			} else if !strings.EqualFold(s, "IN") {
				return "", &Refusal{name, l.line, s + " is no TTL"}
			}
		}
		if d.name == "@" || d.name == g.zone {
			return "", &Refusal{name, l.line, "the zone's own name cannot be steered; steer www and let clients ask for that"}
		}
		if strings.ContainsAny(d.name, ".*") {
			return "", &Refusal{name, l.line, d.name + " has several labels or a wildcard; a steered name is one label below the zone, and aliases lead to it"}
		}
		if len(f) != at+2 || !strings.HasPrefix(f[at+1], "geoip!") {
			return "", &Refusal{name, l.line, strings.Join(f[at+1:], " ") + ": only the plugin geoip is imported"}
		}
		d.resource, d.only, _ = strings.Cut(strings.TrimPrefix(f[at+1], "geoip!"), "/")
		g.dynamic = append(g.dynamic, d)
	}
	return b.String(), nil
}

// seconds reads a TTL such as 600, 10m or 1h30m.
func seconds(s string) (int, bool) {
	total, n, digits := 0, 0, false
	for _, c := range strings.ToLower(s) {
		unit := map[rune]int{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}[c]
		switch {
		case '0' <= c && c <= '9':
			n, digits = n*10+int(c-'0'), true
		case unit > 0 && digits:
			total, n, digits = total+n*unit, 0, false
		default:
			return 0, false
		}
		if n > 1<<30 || total > 1<<30 {
			return 0, false
		}
	}
	return total + n, s != ""
}

// group is the names that are steered alike.
type group struct {
	mapName string
	only    string
	ttl     int
	names   []string
	line    int
}

func (g *gdnsd) rules(zoneName string) ([]rule, error) {
	var groups []*group
	for _, d := range g.dynamic {
		r := g.geoip.get("resources").get(d.resource)
		if r == nil || r.kind != '{' {
			return nil, &Refusal{zoneName, d.line, "there is no resource " + d.resource}
		}
		if err := g.resource(r, d); err != nil {
			return nil, err
		}
		mapName := r.get("map")
		if mapName == nil {
			mapName = g.geoip.get("map")
		}
		if mapName == nil || mapName.kind != 's' {
			return nil, &Refusal{g.file, r.line, "resource " + d.resource + " has no map"}
		}
		i := slices.IndexFunc(groups, func(x *group) bool { return x.mapName == mapName.scalar && x.ttl == d.ttl && x.only == d.only })
		if i < 0 {
			i = len(groups)
			groups = append(groups, &group{mapName: mapName.scalar, only: d.only, ttl: d.ttl, line: mapName.line})
		}
		groups[i].names = append(groups[i].names, d.name)
	}
	var out []rule
	for _, x := range groups {
		m := g.geoip.get("maps").get(x.mapName)
		if m == nil || m.kind != '{' {
			return nil, &Refusal{g.file, x.line, "there is no map " + x.mapName}
		}
		made, err := g.mapRules(x, m)
		if err != nil {
			return nil, err
		}
		for i := range made {
			made[i].name = fmt.Sprintf("%s-%d", made[i].name, len(out)+i+1)
		}
		out = append(out, made...)
	}
	return out, nil
}

// resource adds a name's addresses to the places.
func (g *gdnsd) resource(r *value, d dynamic) error {
	for _, e := range r.hash {
		switch e.key {
		case "map", "dcmap", "service_types":
		case "up_thresh", "ignore_health", "multi":
			return &Refusal{g.file, e.line, e.key + " is for several addresses in a datacenter"}
		case "skip_first":
			return &Refusal{g.file, e.line, "skip_first: a rule's pool has a first member"}
		default:
			return &Refusal{g.file, e.line, e.key + " is not known"}
		}
	}
	dcmap := r.get("dcmap")
	if dcmap == nil || dcmap.kind != '{' {
		return &Refusal{g.file, r.line, "resource " + d.resource + " has no dcmap"}
	}
	check, err := g.check(r)
	if err != nil {
		return err
	}
	for _, e := range dcmap.hash {
		id := strings.ToLower(e.key)
		values, ok := e.value.items()
		if e.value.kind == '{' {
			ok = true
			for _, x := range e.value.hash { // by family, or by names of their own
				some, ok := x.value.items()
				if !ok || x.value.kind != 's' && x.key != "addrs_v4" && x.key != "addrs_v6" {
					return &Refusal{g.file, x.line, x.key + ": a datacenter of another plugin's is not imported"}
				}
				values = append(values, some...)
			}
		}
		if !ok {
			return &Refusal{g.file, e.line, "want addresses for datacenter " + e.key}
		}
		n := placeName{name: d.name}
		for _, v := range values {
			a, err := netip.ParseAddr(v.scalar)
			switch {
			case err != nil:
				return &Refusal{g.file, v.line, strconv.Quote(v.scalar) + " is no address: aliases and other plugins are not imported"}
			case a.Is4() && !n.v4.IsValid():
				n.v4 = a
			case a.Is6() && !n.v6.IsValid():
				n.v6 = a
			default:
				return &Refusal{g.file, v.line, "datacenter " + e.key + " has several addresses of a family; here each is a place of its own, and an answer has as many as steering.answers says"}
			}
		}
		p := g.places[id]
		if p == nil {
			p = &place{id: id, check: check}
			g.places[id] = p
			g.order = append(g.order, id)
			g.checks[id] = check
		}
		if g.checks[id] != check {
			return &Refusal{g.file, r.line, "datacenter " + e.key + " is checked in two ways; a place has one check"}
		}
		p.names = append(p.names, n)
	}
	return nil
}

// check is the YAML of a resource's service type.
func (g *gdnsd) check(r *value) (string, error) {
	t := r.get("service_types")
	if t == nil {
		t = g.geoip.get("service_types")
	}
	if t == nil {
		return "", nil
	}
	types, ok := t.items()
	if !ok || len(types) != 1 {
		return "", &Refusal{g.file, t.line, "a place has one check, and not several or none"}
	}
	name := types[0].scalar
	if name == "up" {
		return "", nil
	}
	s := g.services.get(name)
	if s == nil || s.kind != '{' {
		return "", &Refusal{g.file, t.line, "there is no service type " + name + " (down is none that answers)"}
	}
	for _, e := range s.hash {
		switch e.key {
		case "plugin", "port", "url_path", "vhost":
		case "interval", "timeout", "up_thresh", "ok_thresh", "down_thresh":
			g.note(e.line, "how often is checked, and how long, is said once for all places: health in the server's file")
		case "ok_codes":
			if codes, ok := e.value.items(); !ok || len(codes) != 1 || codes[0].scalar != "200" {
				return "", &Refusal{g.file, e.line, "ok_codes: a check is well when the answer is 200"}
			}
		default:
			return "", &Refusal{g.file, e.line, e.key + " has no counterpart"}
		}
	}
	text := func(key, otherwise string) string {
		if v := s.get(key); v != nil && v.kind == 's' {
			return v.scalar
		}
		return otherwise
	}
	switch text("plugin", "") {
	case "http_status":
		host := ""
		if h := text("vhost", ""); h != "" {
			host = ", host: " + h
		}
		return fmt.Sprintf("{via: http, port: %s, path: %q%s}", text("port", "80"), text("url_path", "/"), host), nil
	case "tcp_connect":
		if port := text("port", ""); port != "" {
			return "{via: tcp, port: " + port + "}", nil
		}
	}
	return "", &Refusal{g.file, s.line, "service type " + name + ": only http_status and tcp_connect are imported"}
}

func (g *gdnsd) note(line int, text string) {
	text = fmt.Sprintf("%s:%d: %s", g.file, line, text)
	if !slices.Contains(g.notes, text) {
		g.notes = append(g.notes, text)
	}
}

// mapRules makes the rules of a map, the most specific first.
func (g *gdnsd) mapRules(x *group, m *value) ([]rule, error) {
	var datacenters, auto []string
	for _, e := range m.hash {
		switch e.key {
		case "datacenters":
			dcs, ok := e.value.items()
			if !ok {
				return nil, &Refusal{g.file, e.line, "want a list of datacenters"}
			}
			for _, d := range dcs {
				datacenters = append(datacenters, d.scalar)
			}
		case "auto_dc_coords":
			for _, c := range e.value.hash {
				xy, ok := c.value.items()
				if !ok || len(xy) != 2 {
					return nil, &Refusal{g.file, c.line, "want [latitude, longitude]"}
				}
				lat, err1 := strconv.ParseFloat(xy[0].scalar, 64)
				lon, err2 := strconv.ParseFloat(xy[1].scalar, 64)
				if err1 != nil || err2 != nil {
					return nil, &Refusal{g.file, c.line, "want [latitude, longitude]"}
				}
				auto = append(auto, c.key)
				if p := g.places[strings.ToLower(c.key)]; p != nil {
					if p.coord != [2]float64{} && p.coord != [2]float64{lat, lon} {
						return nil, &Refusal{g.file, c.line, c.key + " is at two places"}
					}
					p.coord = [2]float64{lat, lon}
				}
			}
		case "geoip2_db":
			g.note(e.line, "name the geo database in the server's file, geo: ["+e.value.scalar+"]")
		case "map", "nets":
		case "auto_dc_limit":
			g.note(e.line, "all datacenters are tried, not only the nearest "+e.value.scalar)
		case "ignore_ecs":
			if e.value.scalar == "true" {
				return nil, &Refusal{g.file, e.line, "ignore_ecs: the client subnet is always looked at"}
			}
		default:
			return nil, &Refusal{g.file, e.line, e.key + " is not known"}
		}
	}
	r := &mapper{g: g, x: x, auto: auto, index: map[string]int{}}
	if x.only != "" {
		act, err := r.act(&value{kind: 's', scalar: x.only, line: x.line})
		if err != nil {
			return nil, err
		}
		return []rule{{name: "only-" + strings.ToLower(x.only), match: r.match(""), act: act}}, nil
	}
	if nets := m.get("nets"); nets != nil {
		if nets.kind != '{' {
			return nil, &Refusal{g.file, nets.line, "nets in a file of their own are not read: put them here"}
		}
		if err := r.nets(nets); err != nil {
			return nil, err
		}
	}
	fallback := &value{kind: '[', line: m.line}
	for _, d := range datacenters {
		fallback.list = append(fallback.list, &value{kind: 's', scalar: d, line: m.line})
	}
	if auto != nil {
		fallback = &value{kind: 's', scalar: "auto", line: m.line}
	}
	top := m.get("map")
	if top == nil {
		top = &value{kind: '{', line: m.line}
	}
	if err := r.world(top, fallback); err != nil {
		return nil, err
	}
	return r.out, nil
}
