package steer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

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
	prefixes := func(all ...string) (out []netip.Prefix) {
		for _, p := range all {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
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
		"POPs that all drain are no front door": {func(w *region.World) {
			w.Regions[0].Serves, w.POPs[0].Drain, w.POPs[1].DrainShare = region.Endpoints{}, true, 10_000
		}, []string{"region sh: it has no front door"}},
		"a pool whose members all drain": {func(w *region.World) {
			w.Rules = []region.Rule{{Name: "a", Act: region.Act{Pool: []region.PoolMember{{POP: "far", Drain: 10_000}}}}}
		}, []string{"rule a: none of the 1"}},
		"a prefix in another one of the list": {func(w *region.World) {
			w.Rules = []region.Rule{rule("a", region.Match{Any: []region.Match{{Prefixes: prefixes("10.0.0.0/8", "192.0.2.0/24", "10.1.0.0/16")}}}, "far")}
		}, []string{"rule a: its scope overlaps: 10.1.0.0/16 is in 10.0.0.0/8 of the same list"}},
		"a prefix twice": {func(w *region.World) {
			w.Rules = []region.Rule{rule("a", region.Match{Prefixes: prefixes("10.0.0.0/8", "10.0.0.0/8")}, "far")}
		}, []string{"rule a: its scope overlaps: 10.0.0.0/8 is in 10.0.0.0/8"}},
		"a wider prefix before": {func(w *region.World) {
			w.Rules = []region.Rule{rule("a", region.Match{Prefixes: prefixes("10.0.0.0/8")}, "far"), rule("b", region.Match{Prefixes: prefixes("10.1.0.0/16"), Platforms: []string{"ios"}}, "near")}
		}, []string{"rule b: no client reaches it: rule a"}},
		"a wider prefix before some": {func(w *region.World) {
			w.Rules = []region.Rule{rule("a", region.Match{Prefixes: prefixes("10.0.0.0/8")}, "far"), rule("b", region.Match{Prefixes: prefixes("192.0.2.0/24", "10.1.0.0/16")}, "near")}
		}, []string{"rule b: its scope overlaps: rule a before it matches all clients in 10.1.0.0/16"}},
		"a narrower prefix before": {func(w *region.World) {
			w.Rules = []region.Rule{rule("a", region.Match{Prefixes: prefixes("10.1.0.0/16")}, "far"), rule("b", region.Match{Prefixes: prefixes("10.0.0.0/8")}, "near")}
		}, nil},
		"nobody's share": {func(w *region.World) {
			w.Rules = []region.Rule{rule("a", region.Match{Percent: &region.Percent{}}, "far")}
		}, []string{"rule a: it matches nobody: its share is 0%"}},
		"what it wants excluded": {func(w *region.World) {
			w.Rules = []region.Rule{rule("a", region.Match{Countries: []string{"CN"}, Not: &region.Match{Countries: []string{"CN", "HK"}}}, "far")}
		}, []string{"rule a: it matches nobody: what it excludes"}},
		"spill without a capacity": {func(w *region.World) {
			w.Rules = []region.Rule{{Name: "a", Act: region.Act{Spill: 8000}}}
		}, []string{"rule a: nobody in its pool has a capacity"}},
	} {
		w := simWorld()
		c.change(w)
		got := Faults(w)
		if len(got) != len(c.want) || !slices.EqualFunc(got, c.want, func(f Fault, want string) bool { return strings.HasPrefix(f.String(), want) && f.Hint != "" }) {
			t.Errorf("%s: %v, want %q", name, got, c.want)
		}
	}
}

// What is called covered holds: no client of random matches is in the one and
// not in the other.
func TestCovers(t *testing.T) {
	covered := 0
	for range 20 {
		rapid.Check(t, func(t *rapid.T) {
			v := region.NewView(drawWorld(t), region.Hash{}, nil)
			a, b := drawLenient(t), drawLenient(t)
			if rapid.Bool().Draw(t, "narrower") {
				b = region.Match{All: []region.Match{a, b}}
			}
			impossible := never(v.World, &b) != ""
			if !impossible && !covers(v.World, &a, &b) {
				return
			}
			covered++
			h := drawHealth(t)
			for range 20 {
				d := decision{view: v, health: h, client: drawClient(t, nil)}
				d.addr = d.client.Prefix.Addr()
				d.locate()
				inA, _ := d.match(&a)
				inB, _ := d.match(&b)
				if inB == hit && (impossible || inA != hit) {
					t.Fatalf("client %+v\nmatches  %+v\nbut not  %+v", d.client, b, a)
				}
			}
		})
	}
	if covered < 200 {
		t.Errorf("only %d were called covered", covered)
	}
}
