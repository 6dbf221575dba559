package steer

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/big"
	"slices"
	"sort"

	"github.com/homing-im/homing/region"
)

// naive is the twin of Steer without scope and trace: the documentation of
// package and region.Rule, spelled out as slowly as it likes.
func naive(v *region.View, h Health, c Client) Answer {
	a := Answer{}
	w := v.World
	p, hasHome := v.Placement(c.UIN)
	hasHome = hasHome && c.UIN != 0
	if hasHome {
		a.Home, a.Acting = p.Home, p.Acting
	} else {
		regions := slices.Clone(w.Regions)
		distance := func(r region.Region) float64 {
			if !c.Facts.Known {
				return 0
			}
			return cosines(c.Facts.Place, r.Place)
		}
		if c.Facts.Known {
			sort.SliceStable(regions, func(i, j int) bool { return regions[i].ID < regions[j].ID })
		}
		sort.SliceStable(regions, func(i, j int) bool { return distance(regions[i]) < distance(regions[j]) })
		sort.SliceStable(regions, func(i, j int) bool {
			return h.Region(regions[i].Acting.Region) && !h.Region(regions[j].Acting.Region)
		})
		if len(regions) > 0 {
			a.Home, a.Acting = regions[0].ID, regions[0].Acting.Region
		}
	}

	n := twin{w: w, h: h, c: c, acting: a.Acting}
	done := func(rule string, ttl uint32, fallback region.AllDown, endpoints []Endpoint) Answer {
		limit := w.Steering.Answers
		if limit == 0 {
			limit = DefaultAnswers
		}
		if len(endpoints) > limit {
			endpoints = endpoints[:limit]
		}
		if ttl == 0 {
			ttl = w.Steering.TTL
		}
		if ttl == 0 {
			ttl = DefaultTTL
		}
		a.Rule, a.TTL, a.Fallback, a.Endpoints = rule, ttl, fallback, endpoints
		return a
	}
	healthy := func(m twinMember) bool { return m.up }
	for _, r := range w.Rules {
		if !naiveMatch(w, h, r.Match, c, a, hasHome) {
			continue
		}
		pool := n.pool(r.Act)
		if up := only(pool, healthy); len(up) > 0 {
			return done(r.Name, r.Act.TTL, "", up)
		}
		if len(pool) == 0 {
			continue // nobody, and not for their health
		}
		switch r.Act.AllDown {
		case "everything":
			return done(r.Name, r.Act.TTL, "everything", only(pool, func(twinMember) bool { return true }))
		case "nothing":
			return done(r.Name, r.Act.TTL, "nothing", nil)
		case "last-known-good":
			if good := lastGood(pool); len(good) > 0 {
				return done(r.Name, r.Act.TTL, "last-known-good", good)
			}
		}
	}
	pool := n.pool(region.Act{})
	if up := only(pool, healthy); len(up) > 0 {
		return done(BuiltIn, 0, "", up)
	}
	if w.Steering.AllDown == "nothing" {
		return done(AllDown, 0, "nothing", nil)
	}
	if good := lastGood(pool); len(good) > 0 && w.Steering.AllDown == "last-known-good" {
		return done(AllDown, 0, "last-known-good", good)
	}
	return done(AllDown, 0, "everything", only(pool, func(twinMember) bool { return true }))
}

// twin holds what the pools of one question depend on.
type twin struct {
	w      *region.World
	h      Health
	c      Client
	acting region.ID
}

type twinMember struct {
	e       Endpoint
	up      bool
	fell    int64 // 0: never up
	tier    int
	weight  int
	far     float64
	last    bool // spilled
	written int
}

func only(pool []twinMember, keep func(twinMember) bool) (out []Endpoint) {
	for _, m := range pool {
		if keep(m) {
			out = append(out, m.e)
		}
	}
	return out
}

func lastGood(pool []twinMember) []Endpoint {
	newest := int64(0)
	for _, m := range pool {
		newest = max(newest, m.fell)
	}
	return only(pool, func(m twinMember) bool { return m.fell > 0 && m.fell+10 >= newest })
}

// pool is who could take the client but for their health, in order.
func (n twin) pool(act region.Act) []twinMember {
	type entry struct {
		region.PoolMember
		tier int
	}
	var entries []entry
	for _, id := range act.POPs {
		entries = append(entries, entry{region.PoolMember{POP: id}, 0})
	}
	for _, id := range act.Regions {
		entries = append(entries, entry{region.PoolMember{Region: id}, 0})
	}
	for _, m := range act.Pool {
		entries = append(entries, entry{m, int(m.Tier)})
	}
	order := string(act.Order)
	if act.Nearest {
		order = "nearest"
	}
	if len(entries) == 0 {
		if order == "" {
			order = "nearest"
		}
		for _, p := range n.w.POPs {
			entries = append(entries, entry{region.PoolMember{POP: p.ID}, 0})
		}
		for _, r := range n.w.Regions {
			if r.ID == n.acting {
				for i, id := range append([]region.ID{r.ID}, r.Backups...) {
					entries = append(entries, entry{region.PoolMember{Region: id}, 1 + i})
				}
			}
		}
	}
	shares := order == "weighted" || act.Sticky != "" || act.Band > 0
	for _, m := range act.Pool {
		shares = shares || m.Weight > 0
	}
	shares = shares && order != "" && order != "written"

	var left []twinMember
	for i, e := range entries {
		m, ok := n.member(e.PoolMember, order)
		if !ok {
			continue
		}
		m.tier, m.written = e.tier, i
		drain := e.Drain
		for _, p := range n.w.POPs {
			if e.POP == p.ID {
				drain = max(drain, p.DrainShare)
			}
		}
		site := Site{POP: e.POP, Region: e.Region}
		if drain > 0 && n.draw("drain", site, act.Sticky, 0)%10000 < uint64(drain) {
			continue
		}
		up, _ := n.h.(Up)
		if load, known := up.Loads[site]; known && act.Spill > 0 {
			excess := (float64(load) - float64(act.Spill)) / (10000 - float64(act.Spill))
			m.last = load >= 10000 || (excess > 0 && n.draw("spill", site, act.Sticky, 0)%10000 < uint64(math.Floor(excess*10000+1e-9)))
		}
		left = append(left, m)
	}

	// Take the best of those left, again and again.
	var out []twinMember
	for len(left) > 0 {
		tier := left[0].tier
		for _, m := range left {
			tier = min(tier, m.tier)
		}
		best := -1
		before := func(a, b twinMember) bool {
			switch order {
			case "weighted":
				return n.luckier(a, b, act.Sticky)
			case "nearest", "measured":
				if a.far != b.far {
					return a.far < b.far
				}
				return named(a, b)
			}
			return a.written < b.written
		}
		for i, m := range left {
			if m.tier == tier && (best < 0 || before(m, left[best])) {
				best = i
			}
		}
		if !shares || order == "weighted" {
			out = append(out, left[best])
			left = slices.Delete(left, best, best+1)
			continue
		}
		// All within a band of the nearest go together.
		var group, rest []twinMember
		for _, m := range left {
			if m.tier == tier && m.far-left[best].far <= float64(act.Band) {
				group = append(group, m)
			} else {
				rest = append(rest, m)
			}
		}
		for len(group) > 0 {
			best := 0
			for i := range group {
				if n.luckier(group[i], group[best], act.Sticky) {
					best = i
				}
			}
			out = append(out, group[best])
			group = slices.Delete(group, best, best+1)
		}
		left = rest
	}
	var first, last []twinMember
	for _, m := range out {
		if m.last {
			last = append(last, m)
		} else {
			first = append(first, m)
		}
	}
	return append(first, last...)
}

func named(a, b twinMember) bool {
	if a.e.Region != b.e.Region {
		return a.e.Region < b.e.Region
	}
	return a.e.POP < b.e.POP
}

func (n twin) member(e region.PoolMember, order string) (m twinMember, ok bool) {
	up, measures := n.h.(Up)
	m.weight = int(max(1, e.Weight))
	m.e = Endpoint{POP: e.POP, Region: e.Region, KM: -1}
	var at region.Place
	offered := false
	for _, p := range n.w.POPs {
		if p.ID == e.POP {
			m.e.Address, offered = p.Serves.Of(n.c.Service)
			offered = offered && !p.Drain
			at, m.up = p.Place, n.h.POP(p.ID)
		}
	}
	for _, r := range n.w.Regions {
		if r.ID == e.Region && e.POP == "" {
			m.e.Address, offered = r.Serves.Of(n.c.Service)
			at, m.up = r.Place, n.h.Region(r.ID)
		}
	}
	if !offered {
		return m, false
	}
	if measures && !m.up {
		m.fell = up.Falls[Site{POP: e.POP, Region: e.Region}]
	}
	if order != "nearest" && order != "measured" {
		return m, true
	}
	origin, _ := n.w.Region(n.acting)
	switch {
	case n.c.Facts.Known:
		m.e.KM = cosines(n.c.Facts.Place, at)
	case origin != nil:
		m.e.KM = cosines(origin.Place, at)
	default:
		m.e.KM = 0
	}
	m.far = m.e.KM
	if order == "measured" {
		ms := math.Floor(m.e.KM/100 + 0.5)
		rtt, known := up.RTTs[Path{From: Site{POP: e.POP, Region: e.Region}, To: n.acting}]
		switch {
		case e.Region != "" && e.Region == n.acting:
		case known:
			ms += float64(rtt)
		case origin != nil:
			ms += math.Floor(cosines(at, origin.Place)/100 + 0.5)
		}
		m.e.Millis, m.far = uint32(ms), ms
	}
	return m, true
}

// luckier compares the best tickets of two.
func (n twin) luckier(a, b twinMember, by region.Sticky) bool {
	best := func(m twinMember) (most uint64) {
		for i := range m.weight {
			most = max(most, n.draw("weight", Site{POP: m.e.POP, Region: m.e.Region}, by, uint64(i)))
		}
		return most
	}
	if x, y := best(a), best(b); x != y {
		return x > y
	}
	return named(a, b)
}

// draw is a ticket, by the documentation of this package.
func (n twin) draw(purpose string, s Site, by region.Sticky, number uint64) uint64 {
	who := uint64(0)
	switch {
	case n.c.UIN != 0 && by != "prefix":
		h := fnv.New64a()
		_, _ = h.Write([]byte("sticky"))
		_ = binary.Write(h, binary.BigEndian, uint64(n.c.UIN))
		who = 1 + h.Sum64()%10000
	case n.c.Prefix.IsValid():
		h := fnv.New64a()
		raw := n.c.Prefix.Addr().AsSlice()
		clear(raw[map[int]int{4: 3, 16: 7}[len(raw)]:])
		_, _ = h.Write(raw)
		who = h.Sum64()
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose + "\x00" + string(s.POP) + "\x00" + string(s.Region) + "\x00"))
	_ = binary.Write(h, binary.BigEndian, who)
	z := new(big.Int).SetUint64(h.Sum64())
	wrap := func(x *big.Int) { x.And(x, new(big.Int).SetUint64(math.MaxUint64)) }
	gamma := new(big.Int).SetUint64(0x9e3779b97f4a7c15)
	wrap(z.Add(z, gamma.Mul(gamma, new(big.Int).SetUint64(number+1))))
	for _, step := range []struct {
		shift  uint
		factor uint64
	}{{30, 0xbf58476d1ce4e5b9}, {27, 0x94d049bb133111eb}, {31, 1}} {
		z.Xor(z, new(big.Int).Rsh(z, step.shift))
		wrap(z.Mul(z, new(big.Int).SetUint64(step.factor)))
	}
	return z.Uint64()
}

func naiveMatch(w *region.World, health Health, m region.Match, c Client, a Answer, hasHome bool) bool {
	within := func(n uint64, first, last uint64) bool { return n != 0 && n >= first && n <= last }
	for _, sub := range m.All {
		if !naiveMatch(w, health, sub, c, a, hasHome) {
			return false
		}
	}
	anyOf := func(n int, holds func(i int) bool) bool {
		for i := range n {
			if holds(i) {
				return true
			}
		}
		return n == 0
	}
	if m.Not != nil && naiveMatch(w, health, *m.Not, c, a, hasHome) {
		return false
	}
	if m.Percent != nil {
		h := fnv.New64a()
		_, _ = h.Write([]byte(m.Percent.Salt))
		_ = binary.Write(h, binary.BigEndian, uint64(c.UIN))
		if c.UIN == 0 || h.Sum64()%10000 >= uint64(m.Percent.Below) {
			return false
		}
	}
	return anyOf(len(m.Any), func(i int) bool { return naiveMatch(w, health, m.Any[i], c, a, hasHome) }) &&
		anyOf(len(m.Services), func(i int) bool { return m.Services[i] == c.Service }) &&
		anyOf(len(m.UINs), func(i int) bool { return within(uint64(c.UIN), uint64(m.UINs[i].First), uint64(m.UINs[i].Last)) }) &&
		anyOf(len(m.Versions), func(i int) bool {
			last := uint64(m.Versions[i].To)
			if last == 0 {
				last = math.MaxUint32
			}
			return within(uint64(c.Version), uint64(m.Versions[i].From), last)
		}) &&
		anyOf(len(m.Platforms), func(i int) bool { return c.Platform != "" && m.Platforms[i] == c.Platform }) &&
		anyOf(len(m.Prefixes), func(i int) bool { return m.Prefixes[i].Contains(c.Prefix.Addr()) }) &&
		anyOf(len(m.HealthyPOPs), func(i int) bool { return health.POP(m.HealthyPOPs[i]) }) &&
		anyOf(len(m.HealthyRegions), func(i int) bool { return health.Region(m.HealthyRegions[i]) }) &&
		anyOf(len(m.Cities), func(i int) bool { return m.Cities[i] != "" && m.Cities[i] == c.Facts.Place.City }) &&
		anyOf(len(m.Subdivisions), func(i int) bool {
			return m.Subdivisions[i] != "" && m.Subdivisions[i] == c.Facts.Place.Subdivision
		}) &&
		anyOf(len(m.Countries), func(i int) bool { return c.Facts.Place.Country != "" && m.Countries[i] == c.Facts.Place.Country }) &&
		anyOf(len(m.Continents), func(i int) bool {
			return c.Facts.Place.Continent != "" && m.Continents[i] == c.Facts.Place.Continent
		}) &&
		anyOf(len(m.ASNs), func(i int) bool { return c.Facts.ASN != 0 && m.ASNs[i] == c.Facts.ASN }) &&
		anyOf(len(m.Carriers), func(i int) bool {
			for _, carrier := range w.Carriers {
				if carrier.Name == m.Carriers[i] && c.Facts.ASN != 0 && slices.Contains(carrier.ASNs, c.Facts.ASN) {
					return true
				}
			}
			return false
		}) &&
		anyOf(len(m.Homes), func(i int) bool { return hasHome && m.Homes[i] == a.Home }) &&
		anyOf(len(m.Acting), func(i int) bool { return hasHome && m.Acting[i] == a.Acting })
}

// cosines is the distance by the spherical law of cosines, rounded as KM is. On
// the test's coarse grid of places both formulas agree.
func cosines(a, b region.Place) float64 {
	if a.Latitude == b.Latitude && a.Longitude == b.Longitude {
		return 0 // where the formula is ill-conditioned
	}
	rad := func(x float64) float64 { return x * math.Pi / 180 }
	cos := math.Sin(rad(a.Latitude))*math.Sin(rad(b.Latitude)) +
		math.Cos(rad(a.Latitude))*math.Cos(rad(b.Latitude))*math.Cos(rad(a.Longitude-b.Longitude))
	return math.Round(6371 * math.Acos(max(-1, min(1, cos))))
}
