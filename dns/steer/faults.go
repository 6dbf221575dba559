package steer

import (
	"fmt"
	"reflect"

	"github.com/homing-im/homing/region"
)

// Fault is something in a world that is well-formed and cannot be meant.
type Fault struct {
	Where string `json:"where"` // "rule NAME" or "region ID"
	Why   string `json:"why"`
	Hint  string `json:"hint"`
}

func (f Fault) String() string { return f.Where + ": " + f.Why + " (" + f.Hint + ")" }

// Faults lists what would break steering although everything works: rules that
// can never answer, and regions whose users nothing leads home. Overlapping
// scopes are not among them, because [Steer] cannot give any (guarantee 5).
func Faults(w *region.World) []Fault {
	out := []Fault{}
	add := func(where, hint, format string, args ...any) {
		out = append(out, Fault{Where: where, Why: fmt.Sprintf(format, args...), Hint: hint})
	}
	for i := range w.Regions {
		r := &w.Regions[i]
		if _, long := r.Serves.Of(region.Long); !long && len(w.POPs) == 0 {
			add("region "+string(r.ID), "give it a long listener, or the world a POP", "it has no front door for long connections, and no POP leads to it")
		}
	}
	for i := range w.Rules {
		rule := &w.Rules[i]
		where := "rule " + rule.Name
		if why := neverAnswers(w, rule); why != "" {
			add(where, "name somebody who offers the service and does not drain, or delete the rule", "%s", why)
		}
		for j := range w.Rules[:i] {
			earlier := &w.Rules[j]
			if everybody := reflect.DeepEqual(earlier.Match, region.Match{}); (everybody || reflect.DeepEqual(earlier.Match, rule.Match)) && neverAnswers(w, earlier) == "" {
				add(where, "put it before that rule, or delete one of them", "no client reaches it: rule %s before it matches all of its clients", earlier.Name)
				break
			}
		}
	}
	return out
}

// neverAnswers says why a rule's pool has nobody even when all are healthy, or
// the empty string.
func neverAnswers(w *region.World, rule *region.Rule) string {
	if len(rule.Act.POPs)+len(rule.Act.Regions) == 0 {
		return "" // as the built-in rule
	}
	wanted := rule.Match.Services
	if len(wanted) == 0 {
		wanted = w.Services()
	}
	for _, s := range wanted {
		for _, id := range rule.Act.POPs {
			if p, ok := w.POP(id); ok && !p.Drain {
				if _, offered := p.Serves.Of(s); offered {
					return ""
				}
			}
		}
		for _, id := range rule.Act.Regions {
			if r, ok := w.Region(id); ok {
				if _, offered := r.Serves.Of(s); offered {
					return ""
				}
			}
		}
	}
	return fmt.Sprintf("none of the %d in its pool can take a client: they drain, or do not offer what it is for", len(rule.Act.POPs)+len(rule.Act.Regions))
}
