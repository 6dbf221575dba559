package steer

import (
	"cmp"
	"slices"

	"github.com/homing-im/homing/region"
)

// Change is how the answers to some clients differ between two worlds.
type Change struct {
	// From and To are the names of the first choice, empty where there is nobody.
	From string `json:"from"`
	To   string `json:"to"`
	// RuleFrom and RuleTo are the rules that answer.
	RuleFrom string `json:"ruleFrom"`
	RuleTo   string `json:"ruleTo"`
	Clients  int    `json:"clients"`
	// Examples are some of them, the first that came.
	Examples []Client `json:"-"`
}

// Simulation is the outcome of [Simulate].
type Simulation struct {
	Clients int      `json:"clients"`
	Moved   int      `json:"moved"`   // another first choice
	Changed int      `json:"changed"` // the same first choice, but other ones behind it, or another TTL or scope
	Nobody  int      `json:"nobody"`  // had somebody to connect to, and would no longer
	Changes []Change `json:"changes"` // of the first choice, the most clients first
}

// maxExamples are kept of each change.
const maxExamples = 3

// Simulate answers the same clients in two worlds, each with its health, and
// says what differs. each is told of every client's two answers, in order; it
// may be nil. Simulate is as pure as [Steer].
func Simulate(before, after *region.View, was, is Health, clients []Client, each func(i int, before, after Answer)) Simulation {
	s := Simulation{Clients: len(clients), Changes: []Change{}}
	type key struct{ from, to, ruleFrom, ruleTo string }
	index := make(map[key]int)
	for i, c := range clients {
		a, b := Decide(before, was, c), Decide(after, is, c)
		if each != nil {
			each(i, a, b)
		}
		k := key{first(a), first(b), a.Rule, b.Rule}
		if k.from == k.to {
			if !slices.Equal(a.Endpoints, b.Endpoints) || a.TTL != b.TTL || a.Scope != b.Scope {
				s.Changed++
			}
			continue
		}
		s.Moved++
		if k.to == "" {
			s.Nobody++
		}
		at, ok := index[k]
		if !ok {
			at = len(s.Changes)
			index[k] = at
			s.Changes = append(s.Changes, Change{From: k.from, To: k.to, RuleFrom: k.ruleFrom, RuleTo: k.ruleTo})
		}
		s.Changes[at].Clients++
		if len(s.Changes[at].Examples) < maxExamples {
			s.Changes[at].Examples = append(s.Changes[at].Examples, c)
		}
	}
	slices.SortStableFunc(s.Changes, func(a, b Change) int { return cmp.Compare(b.Clients, a.Clients) })
	return s
}

func first(a Answer) string {
	if len(a.Endpoints) == 0 {
		return ""
	}
	return a.Endpoints[0].Name()
}
