package steer

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/homing-im/homing/region"
)

// Fault is something in a world that is well-formed and cannot be meant.
type Fault struct {
	Path  string `json:"path"`  // in the world, as of a region.Problem
	Where string `json:"where"` // "rule NAME" or "region ID"
	Why   string `json:"why"`
	Hint  string `json:"hint"`
}

func (f Fault) String() string { return f.Where + ": " + f.Why + " (" + f.Hint + ")" }

// Problem is the fault as one of the world's problems, which can be placed in its
// file.
func (f Fault) Problem() region.Problem {
	return region.Problem{Path: f.Path, Message: f.Where + ": " + f.Why, Hint: f.Hint}
}

// Faults lists what would break steering although everything works: rules that
// can never answer, that no client reaches, or parts of whose scope no client
// reaches, and regions whose users nothing leads home. That the scopes of answers
// never overlap is not looked at: [Steer] cannot give any that do (guarantee 5).
func Faults(w *region.World) []Fault {
	f := faults{w: w, out: []Fault{}}
	for i := range w.Regions {
		f.region(i)
	}
	for i := range w.Rules {
		f.rule(i)
	}
	return f.out
}

type faults struct {
	w   *region.World
	out []Fault
}

func (f *faults) add(path, where, hint, format string, args ...any) {
	f.out = append(f.out, Fault{Path: path, Where: where, Why: fmt.Sprintf(format, args...), Hint: hint})
}

// region looks for a front door: its own, or a POP's that takes clients.
func (f *faults) region(i int) {
	r := &f.w.Regions[i]
	if _, long := r.Serves.Of(region.Long); long || slices.ContainsFunc(f.w.POPs, func(p region.POP) bool { return takes(&p, region.Long) }) {
		return
	}
	f.add(fmt.Sprintf("regions[%d].id", i), "region "+string(r.ID), "give it a long listener, or the world a POP",
		"it has no front door for long connections, and no POP leads to it")
}

// takes says whether a POP takes new clients of a service.
func takes(p *region.POP, s region.Service) bool {
	_, offered := p.Serves.Of(s)
	return offered && !p.Drain && p.DrainShare < 10_000
}

func (f *faults) rule(i int) {
	rule := &f.w.Rules[i]
	at, where := fmt.Sprintf("rules[%d]", i), "rule "+rule.Name
	if why := neverAnswers(f.w, rule); why != "" {
		f.add(at+".act", where, "name somebody who offers the service and does not drain, or delete the rule", "%s", why)
	}
	if why := never(f.w, &rule.Match); why != "" {
		f.add(at+".match", where, "correct the condition, or delete the rule", "it matches nobody: %s", why)
	}
	if rule.Act.Spill > 0 && !f.capacity(rule) {
		f.add(at+".act.spill", where, "state their capacity (users), or leave spill out", "nobody in its pool has a capacity to spill over from")
	}
	f.prefixes(at+".match", where, &rule.Match)
	for j := range i {
		earlier := &f.w.Rules[j]
		if neverAnswers(f.w, earlier) != "" {
			continue
		}
		if covers(f.w, &earlier.Match, &rule.Match) {
			f.add(at+".name", where, "put it before that rule, or delete one of them", "no client reaches it: rule %s before it matches all of its clients", earlier.Name)
			return
		}
		for k, p := range rule.Match.Prefixes {
			part := rule.Match
			part.Prefixes = []netip.Prefix{p}
			if covers(f.w, &earlier.Match, &part) {
				f.add(fmt.Sprintf("%s.match.prefixes[%d]", at, k), where, "put this rule before that one, or delete the prefix",
					"its scope overlaps: rule %s before it matches all clients in %s", earlier.Name, p)
			}
		}
	}
}

// prefixes finds those that another one of their list contains.
func (f *faults) prefixes(at, where string, m *region.Match) {
	for j, p := range m.Prefixes {
		for k, wider := range m.Prefixes {
			if contains(wider, p) && (wider != p || k < j) {
				f.add(fmt.Sprintf("%s.prefixes[%d]", at, j), where, "delete it", "its scope overlaps: %s is in %s of the same list", p, wider)
				break
			}
		}
	}
	for j := range m.All {
		f.prefixes(fmt.Sprintf("%s.all[%d]", at, j), where, &m.All[j])
	}
	for j := range m.Any {
		f.prefixes(fmt.Sprintf("%s.any[%d]", at, j), where, &m.Any[j])
	}
	if m.Not != nil {
		f.prefixes(at+".not", where, m.Not)
	}
}

// poolSites are the members of a rule's pool, those of the built-in one included.
func poolSites(w *region.World, a *region.Act) []Site {
	var out []Site
	for _, id := range a.POPs {
		out = append(out, Site{POP: id})
	}
	for _, id := range a.Regions {
		out = append(out, Site{Region: id})
	}
	for _, m := range a.Pool {
		if m.Drain < 10_000 {
			out = append(out, Site{POP: m.POP, Region: m.Region})
		}
	}
	if len(a.POPs)+len(a.Regions)+len(a.Pool) == 0 {
		for i := range w.POPs {
			out = append(out, Site{POP: w.POPs[i].ID})
		}
		for i := range w.Regions {
			out = append(out, Site{Region: w.Regions[i].ID})
		}
	}
	return out
}

func (f *faults) capacity(rule *region.Rule) bool {
	return slices.ContainsFunc(poolSites(f.w, &rule.Act), func(s Site) bool {
		if p, ok := f.w.POP(s.POP); ok {
			return p.Users > 0
		}
		r, ok := f.w.Region(s.Region)
		return ok && r.Users > 0
	})
}

// neverAnswers says why a rule's pool has nobody even when all are healthy, or
// the empty string.
func neverAnswers(w *region.World, rule *region.Rule) string {
	if len(rule.Act.POPs)+len(rule.Act.Regions)+len(rule.Act.Pool) == 0 {
		return "" // as the built-in rule
	}
	wanted := rule.Match.Services
	if len(wanted) == 0 {
		wanted = w.Services()
	}
	for _, s := range wanted {
		for _, site := range poolSites(w, &rule.Act) {
			if p, ok := w.POP(site.POP); ok && takes(p, s) {
				return ""
			}
			if r, ok := w.Region(site.Region); ok {
				if _, offered := r.Serves.Of(s); offered {
					return ""
				}
			}
		}
	}
	return fmt.Sprintf("none of the %d in its pool can take a client: they drain, or do not offer what it is for",
		len(rule.Act.POPs)+len(rule.Act.Regions)+len(rule.Act.Pool))
}
