package steer

import (
	"net/netip"
	"slices"

	"github.com/homing-im/homing/region"
)

// covers says whether a certainly holds for every client that b holds for. It
// may say no where that takes more thought than comparing conditions.
func covers(w *region.World, a, b *region.Match) bool {
	for i := range a.All {
		if !covers(w, &a.All[i], b) {
			return false
		}
	}
	if len(a.Any) > 0 && !slices.ContainsFunc(a.Any, func(alternative region.Match) bool { return covers(w, &alternative, b) }) {
		return false
	}
	if a.Not != nil && !implied(b, func(b *region.Match) bool { return b.Not != nil && covers(w, b.Not, a.Not) }) {
		return false
	}
	for _, holds := range conditions(w, a) {
		if !implied(b, holds) {
			return false
		}
	}
	return true
}

// implied says whether a match that holds has a part that a condition follows
// from.
func implied(b *region.Match, holds func(*region.Match) bool) bool {
	if holds(b) {
		return true
	}
	for i := range b.All {
		if implied(&b.All[i], holds) {
			return true
		}
	}
	for i := range b.Any {
		if !implied(&b.Any[i], holds) {
			return false
		}
	}
	return len(b.Any) > 0
}

// conditions are those of the match itself, each as the question whether it
// follows from the fields of another one.
func conditions(w *region.World, a *region.Match) (out []func(*region.Match) bool) {
	add := func(set bool, follows func(b *region.Match) bool) {
		if set {
			out = append(out, follows)
		}
	}
	allServices := within(w.Services(), a.Services)
	add(len(a.Services) > 0 && !allServices, func(b *region.Match) bool { return within(b.Services, a.Services) })
	add(len(a.UINs) > 0, func(b *region.Match) bool {
		return inside(b.UINs, a.UINs, func(x, y region.UINRange) bool { return y.First <= x.First && x.Last <= y.Last })
	})
	add(a.Percent != nil, func(b *region.Match) bool {
		return b.Percent != nil && b.Percent.Salt == a.Percent.Salt && b.Percent.Below <= a.Percent.Below
	})
	add(len(a.Versions) > 0, func(b *region.Match) bool {
		return inside(b.Versions, a.Versions, func(x, y region.VersionRange) bool {
			return y.From <= x.From && (y.To == 0 || (x.To != 0 && x.To <= y.To))
		})
	})
	add(len(a.Prefixes) > 0, func(b *region.Match) bool {
		return inside(b.Prefixes, a.Prefixes, func(x, y netip.Prefix) bool { return contains(y, x) })
	})
	add(len(a.Platforms) > 0, func(b *region.Match) bool { return within(b.Platforms, a.Platforms) })
	add(len(a.Countries) > 0, func(b *region.Match) bool { return within(b.Countries, a.Countries) })
	add(len(a.Subdivisions) > 0, func(b *region.Match) bool { return within(b.Subdivisions, a.Subdivisions) })
	add(len(a.Cities) > 0, func(b *region.Match) bool { return within(b.Cities, a.Cities) })
	add(len(a.Continents) > 0, func(b *region.Match) bool { return within(b.Continents, a.Continents) })
	add(len(a.Homes) > 0, func(b *region.Match) bool { return within(b.Homes, a.Homes) })
	add(len(a.Acting) > 0, func(b *region.Match) bool { return within(b.Acting, a.Acting) })
	add(len(a.HealthyPOPs) > 0, func(b *region.Match) bool { return within(b.HealthyPOPs, a.HealthyPOPs) })
	add(len(a.HealthyRegions) > 0, func(b *region.Match) bool { return within(b.HealthyRegions, a.HealthyRegions) })
	add(len(a.ASNs) > 0, func(b *region.Match) bool {
		return within(b.ASNs, a.ASNs) || within(asnsOf(w, b.Carriers), a.ASNs)
	})
	add(len(a.Carriers) > 0, func(b *region.Match) bool {
		return within(b.Carriers, a.Carriers) || within(b.ASNs, asnsOf(w, a.Carriers))
	})
	return out
}

// never says why a match certainly holds for nobody, or the empty string.
func never(w *region.World, m *region.Match) string {
	if m.Percent != nil && m.Percent.Below == 0 {
		return "its share is 0%"
	}
	if m.Not != nil {
		rest := *m
		rest.Not = nil
		if covers(w, m.Not, &rest) {
			return "what it excludes holds whenever the rest does"
		}
	}
	for i := range m.All {
		if why := never(w, &m.All[i]); why != "" {
			return why
		}
	}
	why := ""
	for i := range m.Any {
		if why = never(w, &m.Any[i]); why == "" {
			return ""
		}
	}
	return why
}

// within says whether there are any, and all of them are among the others.
func within[T comparable](some, all []T) bool {
	return len(some) > 0 && !slices.ContainsFunc(some, func(x T) bool { return !slices.Contains(all, x) })
}

// inside says whether there are any, and each lies in one of the others.
func inside[T any](some, all []T, in func(x, y T) bool) bool {
	return len(some) > 0 && !slices.ContainsFunc(some, func(x T) bool {
		return !slices.ContainsFunc(all, func(y T) bool { return in(x, y) })
	})
}

func contains(wider, p netip.Prefix) bool {
	return wider.Bits() <= p.Bits() && wider.Contains(p.Addr())
}

func asnsOf(w *region.World, carriers []string) (out []uint32) {
	for _, c := range w.Carriers {
		if slices.Contains(carriers, c.Name) {
			out = append(out, c.ASNs...)
		}
	}
	return out
}
