package steer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
)

// Simulate says of each client what Steer says, and adds up.
func TestSimulate(t *testing.T) {
	before := simWorld()
	after := simWorld()
	after.POPs[0].Drain = true
	after.Rules = []region.Rule{{Name: "canary", Match: region.Match{UINs: []region.UINRange{{First: 1, Last: 10}}}, Act: region.Act{POPs: []region.POPID{"far"}, TTL: 5}}}
	v1, v2 := region.NewView(before, region.Hash{1}, nil), region.NewView(after, region.Hash{2}, nil)
	var clients []Client
	for u := region.UIN(1); u <= 100; u++ {
		clients = append(clients, Client{Service: region.Long, UIN: u, Prefix: netip.MustParsePrefix("192.0.2.0/24"), Facts: Facts{Known: true}})
	}
	clients = append(clients, Client{Service: region.Web}) // nobody offers it
	s := Simulate(v1, v2, AllUp, AllUp, clients, nil)
	if s.Clients != 101 || s.Moved != 100 || s.Changed != 0 || s.Nobody != 0 {
		t.Errorf("%+v", s)
	}
	if len(s.Changes) != 2 || s.Changes[0].Clients != 90 || s.Changes[0].From != "near" || s.Changes[0].To != "far" || s.Changes[0].RuleTo != BuiltIn ||
		s.Changes[1].Clients != 10 || s.Changes[1].RuleTo != "canary" || len(s.Changes[1].Examples) != maxExamples {
		t.Errorf("%+v", s.Changes)
	}
	if same := Simulate(v1, v1, AllUp, AllUp, clients, nil); same.Moved+same.Changed != 0 || len(same.Changes) != 0 {
		t.Errorf("the same world: %+v", same)
	}
	down := Up{POPs: map[region.POPID]bool{}, Regions: map[region.ID]bool{"sh": true}}
	if s := Simulate(v1, v1, AllUp, down, clients, nil); s.Moved != 100 || s.Changes[0].To != "sh" {
		t.Errorf("all POPs down: %+v", s)
	}
	nothing := simWorld()
	nothing.Steering.AllDown = Nothing
	if s := Simulate(v1, region.NewView(nothing, region.Hash{3}, nil), AllUp, Up{}, clients, nil); s.Nobody != 100 {
		t.Errorf("nobody left: %+v", s)
	}
}

func simWorld() *region.World {
	addr := func(s string) region.Endpoints { return region.Endpoints{Long: netip.MustParseAddrPort(s)} }
	return &region.World{
		Version: 1, Zone: "demo.test",
		Regions:  []region.Region{{ID: "sh", Acting: region.Acting{Region: "sh", Counter: 1}, Serves: addr("192.0.2.1:1")}},
		POPs:     []region.POP{{ID: "near", Serves: addr("192.0.2.2:1")}, {ID: "far", Place: region.Place{Latitude: 40}, Serves: addr("192.0.2.3:1")}},
		Segments: []region.Segment{{First: 1, Last: 1000, Home: "sh"}},
		Steering: region.Steering{TTL: 10, Answers: 3, AllDown: Everything},
	}
}

func TestFaults(t *testing.T) {
	rule := func(name string, m region.Match, pops ...region.POPID) region.Rule {
		return region.Rule{Name: name, Match: m, Act: region.Act{POPs: pops}}
	}
	for name, c := range map[string]struct {
		change func(*region.World)
		want   []string
	}{
		"a good world": {func(*region.World) {}, nil},
		"a draining pool": {func(w *region.World) {
			w.POPs[1].Drain = true
			w.Rules = []region.Rule{rule("a", region.Match{}, "far")}
		}, []string{"rule a: none of the 1"}},
		"a service that nobody in the pool offers": {func(w *region.World) {
			w.Rules = []region.Rule{rule("a", region.Match{Services: []region.Service{region.Web}}, "far")}
		}, []string{"rule a: none of the 1"}},
		"behind one for everybody": {func(w *region.World) {
			w.Rules = []region.Rule{rule("all", region.Match{}, "far"), rule("b", region.Match{Platforms: []string{"ios"}}, "near")}
		}, []string{"rule b: no client reaches it: rule all"}},
		"behind its twin": {func(w *region.World) {
			w.Rules = []region.Rule{rule("a", region.Match{Platforms: []string{"ios"}}, "far"), rule("b", region.Match{Platforms: []string{"ios"}}, "near")}
		}, []string{"rule b: no client reaches it: rule a"}},
		"behind one for everybody that never answers": {func(w *region.World) {
			w.POPs[1].Drain = true
			w.Rules = []region.Rule{rule("all", region.Match{}, "far"), rule("b", region.Match{Platforms: []string{"ios"}}, "near")}
		}, []string{"rule all: none of the 1"}},
		"no front door": {func(w *region.World) { w.POPs, w.Regions[0].Serves = nil, region.Endpoints{} }, []string{"region sh: it has no front door"}},
	} {
		w := simWorld()
		c.change(w)
		got := Faults(w)
		if len(got) != len(c.want) || !slices.EqualFunc(got, c.want, func(f Fault, want string) bool { return strings.HasPrefix(f.String(), want) && f.Hint != "" }) {
			t.Errorf("%s: %v, want %q", name, got, c.want)
		}
	}
}
