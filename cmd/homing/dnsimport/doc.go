// Package dnsimport reads what other geo DNS servers are configured with and
// writes the files of a stand-alone one: names, places and rules, and a zone file
// of what is not steered.
//
// # Guarantees
//
//   - What is written answers the same clients with the same addresses, given the
//     same geo database.
//   - What Homing has no words for is refused, with file and line and the reason;
//     nothing is left out silently. What only is elsewhere here (how often checks
//     are made, who the name servers are) is a note.
package dnsimport

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Files is what was made of a configuration.
type Files struct {
	Zone  string   // its name, without a trailing dot
	Names string   // YAML of names, places and rules (worldfile.CompileAlone)
	Rest  string   // zone file of the records that are not steered
	Notes []string // what the operator has to know
}

// Refusal says what cannot be expressed, and where it stands.
type Refusal struct {
	File string
	Line int
	Why  string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s:%d: %s", r.File, r.Line, r.Why) }

// place is a POP to be written.
type place struct {
	id    string
	coord [2]float64
	check string // YAML; empty trusts it
	names []placeName
}

type placeName struct {
	name   string
	v4, v6 netip.Addr
}

// rule is a rule to be written. match and act are YAML in flow style.
type rule struct{ name, match, act string }

// server is one of the zone's name servers.
type server struct{ name, address string }

// write makes the YAML.
func write(zone, from string, ttl int, servers []server, places []*place, rules []rule) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# Made from %s by homing dns import.\nzone: %s\n", from, zone)
	p("steering: {ttl: %d, answers: 1, all-down: everything}\n", ttl)
	if len(servers) > 0 {
		p("dns:\n")
		for _, s := range servers {
			p("  - {name: %s, address: %q}\n", s.name, s.address)
		}
	}
	p("pops:\n")
	for _, x := range places {
		check := x.check
		if check == "" {
			check = "{via: none}"
		}
		p("  - id: %s\n    place: {lat: %s, lon: %s}\n    check: %s\n    names:\n", x.id, number(x.coord[0]), number(x.coord[1]), check)
		for _, n := range x.names {
			var at []string
			if n.v4.IsValid() {
				at = append(at, "a: "+n.v4.String())
			}
			if n.v6.IsValid() {
				at = append(at, fmt.Sprintf("aaaa: %q", n.v6))
			}
			p("      - {name: %q, %s}\n", n.name, strings.Join(at, ", "))
		}
	}
	p("rules:\n")
	for _, r := range rules {
		p("  - name: %s\n    match: %s\n    act: %s\n", r.name, r.match, r.act)
	}
	return b.String()
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// list is a YAML list in flow style.
func list(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
