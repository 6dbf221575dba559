package steer

import (
	"flag"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/homing-im/homing/region"
)

// geoTable is a little geo database for tests: the longest prefix wins.
type geoTable []region.Prefix

func (g geoTable) lookup(a netip.Addr) Facts {
	var f Facts
	best := -1
	for _, p := range g {
		if p.Prefix.Contains(a) && p.Prefix.Bits() > best {
			best = p.Prefix.Bits()
			f.Known, f.Place, f.ASN = p.Place.City != "", p.Place, p.ASN
		}
	}
	// The shortest network around the address that no entry splits.
	for bits := 0; ; bits++ {
		f.Prefix = netip.PrefixFrom(a, bits).Masked()
		split := slices.ContainsFunc(g, func(p region.Prefix) bool {
			return p.Prefix.Overlaps(f.Prefix) && p.Prefix.Bits() > bits
		})
		if !split {
			return f
		}
	}
}

// Small alphabets, so that things meet.
var (
	cities     = []string{"", "a", "b"}
	countries  = []string{"", "CN", "HK", "CA"}
	continents = []string{"", "AS", "NA"}

	subdivisions = []string{"", "CN-SH", "CA-BC"}
	regionIDs    = []region.ID{"ca", "hk", "sh"}
	popIDs       = []region.POPID{"p1", "p2", "p3", "p4", "p5"}
	platforms    = []string{"", "ios", "android"}
	carriers     = []string{"x", "y"}
)

func drawPlace(t *rapid.T) region.Place {
	return region.Place{
		City: rapid.SampledFrom(cities).Draw(t, "city"), Country: rapid.SampledFrom(countries).Draw(t, "country"),
		Continent: rapid.SampledFrom(continents).Draw(t, "continent"), Subdivision: rapid.SampledFrom(subdivisions).Draw(t, "subdivision"),
		Latitude: float64(10 * rapid.IntRange(-8, 8).Draw(t, "lat")), Longitude: float64(10 * rapid.IntRange(-17, 17).Draw(t, "lon")),
	}
}

// drawAddr uses few different bytes, so that prefixes contain addresses.
func drawAddr(t *rapid.T) netip.Addr {
	octet := rapid.SampledFrom([]byte{0, 1, 2, 64, 127, 128, 255})
	if rapid.IntRange(0, 3).Draw(t, "family") == 0 {
		var a [16]byte
		a[0] = 0x20
		for i := range 3 {
			a[i+1] = octet.Draw(t, "byte")
		}
		a[15] = octet.Draw(t, "byte")
		return netip.AddrFrom16(a)
	}
	var a [4]byte
	for i := range a {
		a[i] = octet.Draw(t, "byte")
	}
	return netip.AddrFrom4(a)
}

func drawPrefix(t *rapid.T) netip.Prefix {
	a := drawAddr(t)
	return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()
}

func drawServes(t *rapid.T, n byte) region.Endpoints {
	addr := netip.AddrFrom4([4]byte{127, 0, 0, n})
	var e region.Endpoints
	if rapid.IntRange(0, 9).Draw(t, "offers long") > 0 {
		e.Long = netip.AddrPortFrom(addr, 1)
	}
	if rapid.Bool().Draw(t, "offers short") {
		e.Short = netip.AddrPortFrom(addr, 2)
	}
	return e
}

// some draws an empty list as often as not.
func some[T any](t *rapid.T, name string, draw func(*rapid.T) T) []T {
	var out []T
	for range max(0, rapid.IntRange(-3, 2).Draw(t, name)) {
		out = append(out, draw(t))
	}
	return out
}

func from[T any](all []T) func(*rapid.T) T {
	return func(t *rapid.T) T { return rapid.SampledFrom(all).Draw(t, "of") }
}

func drawMatch(t *rapid.T, depth int) region.Match {
	m := region.Match{
		Services: some(t, "services", from([]region.Service{region.Long, region.Short})),
		UINs: some(t, "uins", func(t *rapid.T) region.UINRange {
			first := rapid.Uint64Range(0, 40).Draw(t, "first")
			return region.UINRange{First: region.UIN(first), Last: region.UIN(first + rapid.Uint64Range(0, 20).Draw(t, "n"))}
		}),
		Versions: some(t, "versions", func(t *rapid.T) region.VersionRange {
			return region.VersionRange{From: rapid.Uint32Range(0, 5).Draw(t, "from"), To: rapid.Uint32Range(0, 5).Draw(t, "to")}
		}),
		Platforms:  some(t, "platforms", from(platforms)),
		Prefixes:   some(t, "prefixes", drawPrefix),
		Countries:  some(t, "countries", from(countries)),
		Continents: some(t, "continents", from(continents)),
		ASNs:       some(t, "asns", from([]uint32{0, 1, 2, 3})),
		Carriers:   some(t, "carriers", from(carriers)),
		Homes:      some(t, "homes", from(regionIDs)),
		Acting:     some(t, "acting", from(regionIDs)),

		Cities:         some(t, "cities", from(cities)),
		Subdivisions:   some(t, "subdivisions", from(subdivisions)),
		HealthyPOPs:    some(t, "healthy POPs", from(popIDs)),
		HealthyRegions: some(t, "healthy regions", from(regionIDs)),
	}
	if rapid.IntRange(0, 4).Draw(t, "percent") == 0 {
		m.Percent = &region.Percent{Salt: rapid.SampledFrom([]string{"", "s"}).Draw(t, "salt"), Below: rapid.Uint32Range(0, 10000).Draw(t, "below")}
	}
	if depth > 0 {
		sub := func(t *rapid.T) region.Match { return drawMatch(t, depth-1) }
		m.All, m.Any = some(t, "all", sub), some(t, "any", sub)
		if not := some(t, "not", sub); len(not) > 0 {
			m.Not = &not[0]
		}
	}
	return m
}

// drawLenient keeps at most two conditions, because a match with all of them
// hardly ever holds.
func drawLenient(t *rapid.T) region.Match {
	m := drawMatch(t, 2)
	v := reflect.ValueOf(&m).Elem()
	keep := rapid.SliceOfNDistinct(rapid.IntRange(0, v.NumField()-1), 2, 2, rapid.ID[int]).Draw(t, "keep")
	for i := range v.NumField() {
		if !slices.Contains(keep, i) {
			v.Field(i).SetZero()
		}
	}
	return m
}

func drawWorld(t *rapid.T) *region.World {
	w := &region.World{
		Carriers: []region.Carrier{{Name: "x", ASNs: []uint32{1, 2}}, {Name: "y", ASNs: []uint32{3}}},
		Steering: region.Steering{
			TTL: rapid.Uint32Range(0, 2).Draw(t, "ttl"), Answers: rapid.IntRange(0, 4).Draw(t, "answers"),
			AllDown: rapid.SampledFrom([]region.AllDown{"", Everything, Nothing, LastKnownGood}).Draw(t, "all down"),
		},
	}
	ids := rapid.Permutation(regionIDs).Draw(t, "regions")[:rapid.IntRange(1, 3).Draw(t, "n")]
	for i, id := range ids {
		backups := slices.DeleteFunc(rapid.Permutation(ids).Draw(t, "backups"), func(b region.ID) bool { return b == id })
		w.Regions = append(w.Regions, region.Region{
			ID: id, Place: drawPlace(t), Backups: backups, Serves: drawServes(t, byte(i)),
			Acting: region.Acting{Region: rapid.SampledFrom(ids).Draw(t, "acting")},
		})
		w.Segments = append(w.Segments, region.Segment{First: region.UIN(1 + 10*i), Last: region.UIN(10 + 10*i), Home: id})
	}
	for i, id := range rapid.Permutation(popIDs).Draw(t, "pops")[:rapid.IntRange(0, 5).Draw(t, "n")] {
		w.POPs = append(w.POPs, region.POP{
			ID: id, Place: drawPlace(t), Serves: drawServes(t, byte(100+i)), Drain: rapid.IntRange(0, 5).Draw(t, "drain") == 0,
			DrainShare: drawShare(t, 5),
		})
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "rules") {
		w.Rules = append(w.Rules, region.Rule{
			Name: fmt.Sprintf("rule-%d", i), Match: drawLenient(t), Act: drawAct(t),
		})
	}
	return w
}

// drawShare is 0 but for one of so many.
func drawShare(t *rapid.T, of int) uint32 {
	if rapid.IntRange(0, of).Draw(t, "share?") > 0 {
		return 0
	}
	return rapid.Uint32Range(0, 10_000).Draw(t, "share")
}

func drawAct(t *rapid.T) region.Act {
	a := region.Act{TTL: rapid.Uint32Range(0, 3).Draw(t, "ttl"), AllDown: rapid.SampledFrom([]region.AllDown{"", "", region.Next, LastKnownGood, Everything, Nothing}).Draw(t, "all down")}
	if rapid.Bool().Draw(t, "plain") {
		a.POPs, a.Regions = some(t, "act pops", from(popIDs)), some(t, "act regions", from(regionIDs))
		a.Nearest = rapid.Bool().Draw(t, "nearest")
	} else {
		for _, id := range rapid.Permutation(popIDs).Draw(t, "pool")[:rapid.IntRange(0, 5).Draw(t, "n")] {
			a.Pool = append(a.Pool, region.PoolMember{POP: id})
		}
		for _, id := range rapid.Permutation(regionIDs).Draw(t, "pool")[:rapid.IntRange(0, 2).Draw(t, "n")] {
			a.Pool = append(a.Pool, region.PoolMember{Region: id})
		}
		for i := range a.Pool {
			m := &a.Pool[i]
			m.Tier, m.Weight, m.Drain = rapid.Uint32Range(0, 2).Draw(t, "tier")/2, uint32(max(0, rapid.IntRange(-4, 3).Draw(t, "weight"))), drawShare(t, 4)
		}
	}
	if rapid.Bool().Draw(t, "rich") {
		a.Nearest = false
		a.Order = rapid.SampledFrom([]region.Order{"", region.OrderWritten, region.OrderNearest, region.OrderMeasured, region.OrderMeasured, region.OrderWeighted}).Draw(t, "order")
		if a.Order == region.OrderNearest || a.Order == region.OrderMeasured {
			a.Band = rapid.SampledFrom([]uint32{0, 0, 20, 100, 3000}).Draw(t, "band")
		}
		a.Sticky = rapid.SampledFrom([]region.Sticky{"", "", region.StickyUIN, region.StickyPrefix}).Draw(t, "sticky")
		a.Spill = drawShare(t, 1)
	}
	return a
}

func drawHealth(t *rapid.T) Health {
	up := Up{POPs: map[region.POPID]bool{}, Regions: map[region.ID]bool{}}
	drawMeasures(t, &up)
	if rapid.IntRange(0, 7).Draw(t, "all down") == 0 {
		return up
	}
	for _, id := range popIDs {
		up.POPs[id] = rapid.IntRange(0, 3).Draw(t, "up") > 0
	}
	for _, id := range regionIDs {
		up.Regions[id] = rapid.IntRange(0, 3).Draw(t, "up") > 0
	}
	return up
}

// drawMeasures knows something of some sites.
func drawMeasures(t *rapid.T, up *Up) {
	up.Loads, up.RTTs, up.Falls = map[Site]uint32{}, map[Path]uint32{}, map[Site]int64{}
	var sites []Site
	for _, id := range popIDs {
		sites = append(sites, Site{POP: id})
	}
	for _, id := range regionIDs {
		sites = append(sites, Site{Region: id})
	}
	for _, s := range sites {
		known := rapid.IntRange(0, 15).Draw(t, "known")
		if known&1 != 0 {
			up.Loads[s] = rapid.Uint32Range(0, 12_000).Draw(t, "load")
		}
		if known&2 != 0 {
			up.Falls[s] = rapid.Int64Range(1000, 1030).Draw(t, "fell")
		}
		if known&12 != 0 {
			up.RTTs[Path{From: s, To: rapid.SampledFrom(regionIDs).Draw(t, "to")}] = rapid.Uint32Range(0, 300).Draw(t, "rtt")
		}
	}
}

// withAddr is the client at another address.
func withAddr(c Client, g geoTable, a netip.Addr) Client {
	c.Prefix, c.Facts = netip.PrefixFrom(a, a.BitLen()), g.lookup(a)
	return c
}

// bare is an answer without its trace.
func bare(a Answer) Answer { a.Trace = nil; return a }

// worlds of the property test, with ten clients each; a million take some minutes.
var worlds = flag.Int("steer.worlds", 2000, "random worlds that the property test makes")

func TestSteerProperties(t *testing.T) {
	seen := make(map[string]int)
	decider := new(Decider)
	const round = 100 // worlds of one rapid.Check, its default
	for range (*worlds + round - 1) / round {
		rapid.Check(t, func(t *rapid.T) { checkRandomWorld(t, decider, seen) })
	}
	for _, kind := range []string{
		"rule-0", "rule-3", BuiltIn, AllDown, "fallback everything", "fallback nothing", "fallback last-known-good",
		"several by luck", "by measure", "spilled", "drained",
	} {
		if seen[kind] == 0 {
			t.Errorf("no answer was by %s: the worlds are not random enough: %v", kind, seen)
		}
	}
	t.Logf("%d worlds: %v", *worlds, seen)
}

func drawClient(t *rapid.T, g geoTable) Client {
	c := Client{
		Service:  rapid.SampledFrom([]region.Service{region.Long, region.Short}).Draw(t, "service"),
		UIN:      region.UIN(rapid.Uint64Range(0, 35).Draw(t, "uin")),
		Version:  rapid.Uint32Range(0, 5).Draw(t, "version"),
		Platform: rapid.SampledFrom(platforms).Draw(t, "platform"),
	}
	if rapid.IntRange(0, 9).Draw(t, "address stated") > 0 {
		c = withAddr(c, g, drawAddr(t))
	}
	return c
}

// everybody is an overlay in which all UINs have moved to one region.
type everybody region.ID

func (e everybody) Lookup(region.UIN) (region.Moved, bool) {
	return region.Moved{Home: region.ID(e), Moves: 1}, true
}

// checkRandomWorld holds all guarantees for a client of a world.
func checkRandomWorld(t *rapid.T, decider *Decider, seen map[string]int) {
	v := region.NewView(drawWorld(t), region.Hash{}, nil)
	h := drawHealth(t)
	var g geoTable
	for range rapid.IntRange(0, 4).Draw(t, "geo") {
		g = append(g, region.Prefix{Prefix: drawPrefix(t), Place: drawPlace(t), ASN: rapid.Uint32Range(0, 4).Draw(t, "asn")})
	}
	c := drawClient(t, g)
	addr := c.Prefix.Addr()
	a := Steer(v, h, c)

	// Guarantee 1, and that the trace changes nothing.
	if again := Decide(v, h, c); !reflect.DeepEqual(bare(a), again) {
		t.Fatalf("with trace %+v\nwithout   %+v", bare(a), again)
	}
	// The overlay moves its owners, and changes nothing for who states no UIN.
	if all := v.World.Regions; len(all) > 0 {
		last := all[len(all)-1].ID
		moved := Decide(region.NewView(v.World, region.Hash{}, everybody(last)), h, c)
		if c.UIN == 0 && !reflect.DeepEqual(bare(a), moved) {
			t.Fatalf("without an overlay %+v\nwith one          %+v", bare(a), moved)
		}
		if c.UIN != 0 && moved.Home != last {
			t.Fatalf("a UIN that moved to %s is answered for home %s", last, moved.Home)
		}
	}
	decider.Decide(v, AllUp, Client{Service: region.Long}) // leaves its traces
	if again := decider.Decide(v, h, c); !reflect.DeepEqual(bare(a), again) {
		t.Fatalf("with trace %+v\nDecider   %+v", bare(a), again)
	}
	// Guarantee 2, by the twin.
	asTwin := func(c Client, a Answer) {
		seen["clients"]++
		twin := naive(v, h, c)
		twin.Scope = a.Scope
		if !reflect.DeepEqual(bare(a), twin) {
			t.Fatalf("answer %+v\ntwin   %+v\n%s", bare(a), twin, a.Text())
		}
	}
	asTwin(c, a)
	// Guarantees 3 and 4.
	for _, e := range a.Endpoints {
		if healthy := (e.POP != "" && h.POP(e.POP)) || (e.Region != "" && h.Region(e.Region)); !healthy &&
			(a.Fallback == "" || a.Fallback == Nothing) {
			t.Fatalf("%s is not healthy\n%s", e.Name(), a.Text())
		}
		if p, ok := v.World.POP(e.POP); ok && p.Drain {
			t.Fatalf("%s drains\n%s", e.Name(), a.Text())
		}
	}
	// Guarantee 5: any address in the scope, and the farthest one.
	if !c.Prefix.IsValid() && a.Scope != 0 {
		t.Fatalf("scope %d without an address", a.Scope)
	}
	if c.Prefix.IsValid() {
		elsewhere := withAddr(c, g, drawAddr(t))
		asTwin(elsewhere, Steer(v, h, elsewhere))
		for range 8 {
			b := addr.AsSlice()
			for i := int(a.Scope); i < addr.BitLen(); i++ {
				if rapid.Bool().Draw(t, "flip") {
					b[i/8] ^= 0x80 >> (i % 8)
				}
			}
			other, _ := netip.AddrFromSlice(b)
			o := Steer(v, h, withAddr(c, g, other))
			asTwin(withAddr(c, g, other), o)
			if !reflect.DeepEqual(bare(a), bare(o)) {
				t.Fatalf("%s and %s share /%d:\n%s\n%s", addr, other, a.Scope, a.Text(), o.Text())
			}
		}
	}
	checkTrace(t, v.World, a)
	seen[a.Rule]++
	if a.Fallback != "" {
		seen["fallback "+string(a.Fallback)]++
	}
	for _, c := range a.Trace[len(a.Trace)-1].Candidates {
		for kind, is := range map[string]bool{
			"several by luck": c.luck > 0, "by measure": c.Millis > 0, "spilled": c.Spilled, "drained": c.Skipped == skipDrainShare,
		} {
			if is {
				seen[kind]++
			}
		}
	}
}

// checkTrace holds the trace against the answer: home first, then the rules in
// order, the last of which answered with what it calls chosen.
func checkTrace(t *rapid.T, w *region.World, a Answer) {
	steps := a.Trace[1:]
	if a.Trace[0].Rule != "home" {
		t.Fatalf("the trace begins with %q", a.Trace[0].Rule)
	}
	for i, s := range steps {
		want := BuiltIn
		switch {
		case i < len(w.Rules):
			want = w.Rules[i].Name
		case i > len(w.Rules):
			want = AllDown
		}
		if s.Rule != want || s.Why == "" || (s.Answered && i != len(steps)-1) {
			t.Fatalf("step %d: %+v, want rule %s\n%s", i, s, want, a.Text())
		}
	}
	last := steps[len(steps)-1]
	if last.Rule != a.Rule || last.Scope != a.Scope {
		t.Fatalf("the last step is %+v\n%s", last, a.Text())
	}
	var chosen []Endpoint
	for _, c := range last.Candidates {
		if c.Skipped == "" {
			chosen = append(chosen, c.Endpoint)
		}
	}
	if !slices.Equal(chosen, a.Endpoints) {
		t.Fatalf("chosen in the trace %v\n%s", chosen, a.Text())
	}
}

// Raising a percentage keeps everybody who was in, and it is about right.
func TestShareIsStable(t *testing.T) {
	const users = 100_000
	in := 0
	for u := range region.UIN(users) {
		if Share("canary", u+1) < 1000 {
			in++
		}
	}
	if in < users*95/1000 || in > users*105/1000 {
		t.Errorf("%d of %d users are in 10 %%", in, users)
	}
	// Pinned for ever: a canary keeps its users across versions of the code.
	if got := Share("canary", 1000001); got != 3937 {
		t.Errorf("share of UIN 1000001 is %d", got)
	}
}

func TestKM(t *testing.T) {
	at := func(lat, lon float64) region.Place { return region.Place{Latitude: lat, Longitude: lon} }
	for _, c := range []struct {
		name string
		a, b region.Place
		want float64
	}{
		{"Shanghai to Hong Kong", at(31.23, 121.47), at(22.32, 114.17), 1227},
		{"Toronto to Vancouver", at(43.65, -79.38), at(49.28, -123.12), 3359},
		{"over the date line", at(0, 179), at(0, -179), 222},
		{"antipodes", at(0, 0), at(0, 180), 20015},
		{"the same", at(12, 34), at(12, 34), 0},
	} {
		if got := KM(c.a, c.b); got != c.want || KM(c.b, c.a) != got {
			t.Errorf("%s: %v km, want %v", c.name, got, c.want)
		}
	}
}
