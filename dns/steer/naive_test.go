package steer

import (
	"encoding/binary"
	"hash/fnv"
	"math"
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

	origin, _ := w.Region(a.Acting)
	far := func(place region.Place) float64 {
		if c.Facts.Known {
			return cosines(c.Facts.Place, place)
		}
		if origin != nil {
			return cosines(origin.Place, place)
		}
		return 0
	}
	healthy := true // false for the all-down policy
	pop := func(id region.POPID, measured bool) (e Endpoint, ok bool) {
		for _, p := range w.POPs {
			addr, offered := p.Serves.Of(c.Service)
			if p.ID == id && offered && !p.Drain && (h.POP(id) || !healthy) {
				e = Endpoint{POP: id, Address: addr, KM: -1}
				if measured {
					e.KM = far(p.Place)
				}
				return e, true
			}
		}
		return e, false
	}
	door := func(id region.ID, measured bool) (e Endpoint, ok bool) {
		for _, r := range w.Regions {
			addr, offered := r.Serves.Of(c.Service)
			if r.ID == id && offered && (h.Region(id) || !healthy) {
				e = Endpoint{Region: id, Address: addr, KM: -1}
				if measured {
					e.KM = far(r.Place)
				}
				return e, true
			}
		}
		return e, false
	}
	builtIn := func() (out []Endpoint) {
		for _, p := range w.POPs {
			if e, ok := pop(p.ID, true); ok {
				out = append(out, e)
			}
		}
		sort.SliceStable(out, func(i, j int) bool { return out[i].POP < out[j].POP })
		sort.SliceStable(out, func(i, j int) bool { return out[i].KM < out[j].KM })
		if origin != nil {
			for _, id := range append([]region.ID{a.Acting}, origin.Backups...) {
				if e, ok := door(id, true); ok {
					out = append(out, e)
				}
			}
		}
		return out
	}
	done := func(rule string, ttl uint32, endpoints []Endpoint) Answer {
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
		a.Rule, a.TTL, a.Endpoints = rule, ttl, endpoints
		return a
	}

	for _, r := range w.Rules {
		if !naiveMatch(w, r.Match, c, a, hasHome) {
			continue
		}
		var pool []Endpoint
		if len(r.Act.POPs)+len(r.Act.Regions) == 0 {
			pool = builtIn()
		}
		for _, id := range r.Act.POPs {
			if e, ok := pop(id, r.Act.Nearest); ok {
				pool = append(pool, e)
			}
		}
		for _, id := range r.Act.Regions {
			if e, ok := door(id, r.Act.Nearest); ok {
				pool = append(pool, e)
			}
		}
		if r.Act.Nearest && len(r.Act.POPs)+len(r.Act.Regions) > 0 {
			sort.SliceStable(pool, func(i, j int) bool { return pool[i].Name() < pool[j].Name() })
			sort.SliceStable(pool, func(i, j int) bool { return pool[i].POP != "" && pool[j].POP == "" })
			sort.SliceStable(pool, func(i, j int) bool { return pool[i].KM < pool[j].KM })
		}
		if len(pool) > 0 {
			return done(r.Name, r.Act.TTL, pool)
		}
	}
	if pool := builtIn(); len(pool) > 0 {
		return done(BuiltIn, 0, pool)
	}
	if w.Steering.AllDown == Nothing {
		return done(AllDown, 0, nil)
	}
	healthy = false
	return done(AllDown, 0, builtIn())
}

func naiveMatch(w *region.World, m region.Match, c Client, a Answer, hasHome bool) bool {
	within := func(n uint64, first, last uint64) bool { return n != 0 && n >= first && n <= last }
	for _, sub := range m.All {
		if !naiveMatch(w, sub, c, a, hasHome) {
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
	if m.Not != nil && naiveMatch(w, *m.Not, c, a, hasHome) {
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
	return anyOf(len(m.Any), func(i int) bool { return naiveMatch(w, m.Any[i], c, a, hasHome) }) &&
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
