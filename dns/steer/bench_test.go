package steer

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/homing-im/homing/region"
)

// moves is an overlay of so many owners.
type moves map[region.UIN]region.Moved

func (m moves) Lookup(u region.UIN) (region.Moved, bool) { x, ok := m[u]; return x, ok }

// largeWorld has 1,000 rules of all kinds, none of which matches the benchmark's
// clients, 40 POPs, and 100,000 owners in the overlay.
func largeWorld() *region.View {
	v, _ := smallWorld()
	w := v.World
	w.Rules = nil
	for i := range 1000 {
		r := region.Rule{Name: fmt.Sprint("rule-", i), Act: region.Act{POPs: []region.POPID{"pop-1"}}}
		switch i % 5 {
		case 0:
			first := region.UIN(5_000_000 + 10*i)
			r.Match = region.Match{UINs: []region.UINRange{{First: first, Last: first + 3}}}
		case 1:
			r.Match = region.Match{Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}}
		case 2:
			r.Match = region.Match{Countries: []string{"FR"}, Versions: []region.VersionRange{{From: uint32(90_000 + i)}}}
		case 3:
			r.Match = region.Match{Any: []region.Match{{Cities: []string{"Lyon"}}, {ASNs: []uint32{uint32(i)}}}}
		case 4:
			r.Match = region.Match{All: []region.Match{{Homes: []region.ID{"sh"}}, {Not: &region.Match{Continents: []string{"AS"}}}}, Percent: &region.Percent{Salt: "x", Below: 100}}
		}
		w.Rules = append(w.Rules, r)
	}
	for i := range 40 {
		p := w.POPs[i%4]
		p.ID, p.Drain = region.POPID(fmt.Sprint("more-", i)), false
		w.POPs = append(w.POPs, p)
	}
	overlay := make(moves, 100_000)
	for i := range region.UIN(100_000) {
		overlay[1_000_000+i*7] = region.Moved{Home: "hk", Moves: 1}
	}
	return region.NewView(w, region.Hash{}, overlay)
}

func BenchmarkDecide(b *testing.B) {
	small, h := smallWorld()
	facts := Facts{Prefix: netip.MustParsePrefix("223.5.5.0/24"), Known: true, ASN: 37963, Place: region.Place{City: "Hangzhou", Country: "CN", Continent: "AS", Latitude: 30.27, Longitude: 120.16}}
	c := Client{Service: region.Long, Prefix: netip.MustParsePrefix("223.5.5.5/32"), Facts: facts}
	withUIN := c
	withUIN.UIN, withUIN.Version = 1_000_014, 80_003
	balanced, _ := smallWorld()
	balanced.World.Rules = []region.Rule{{Name: "balanced", Act: region.Act{
		Pool:  []region.PoolMember{{POP: "pop-1", Weight: 3}, {POP: "pop-4", Weight: 2, Drain: 500}, {Region: "sh", Tier: 1}},
		Order: region.OrderWeighted, Spill: 8000,
	}}}
	for _, x := range []struct {
		name   string
		view   *region.View
		client Client
	}{
		{"small", small, c}, {"balanced", balanced, withUIN}, {"rules=1000/overlay=100000/ecs", largeWorld(), c}, {"rules=1000/overlay=100000/ecs/uin", largeWorld(), withUIN},
	} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			var d Decider
			for b.Loop() {
				d.Decide(x.view, h, x.client)
			}
		})
	}
}

// A decision takes no memory, whatever the rules.
func TestDeciderAllocatesNothing(t *testing.T) {
	v := largeWorld()
	v.World.Rules = append(v.World.Rules, region.Rule{Name: "last", Match: region.Match{UINs: []region.UINRange{{First: 9, Last: 9}}}, Act: region.Act{
		Pool:  []region.PoolMember{{POP: "pop-1", Weight: 3}, {POP: "more-4", Weight: 2, Drain: 500}, {Region: "sh", Tier: 1}},
		Order: region.OrderMeasured, Band: 200, Spill: 8000, AllDown: LastKnownGood,
	}})
	_, h := smallWorld()
	var d Decider
	for _, c := range []Client{
		{Service: region.Long, Prefix: netip.MustParsePrefix("223.5.5.5/32"), Facts: Facts{Prefix: netip.MustParsePrefix("223.5.5.0/24"), Known: true}},
		{Service: region.Long, UIN: 9, Prefix: netip.MustParsePrefix("2001:db8::/56")},
	} {
		if n := testing.AllocsPerRun(100, func() { d.Decide(v, h, c) }); n != 0 {
			t.Errorf("%v allocations for %+v", n, c)
		}
	}
}
