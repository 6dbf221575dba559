package steer

import "github.com/homing-im/homing/region"

// glimpse is so much of a rule's match that most clients are seen to miss it,
// without loading the rest: a world of a thousand rules does not fit the
// processor's first caches, its glimpses do. It looks at nothing that could
// narrow a scope.
type glimpse struct {
	firstUIN, lastUIN         region.UIN // around all ranges; 0 and all when there are none
	firstVersion, lastVersion uint32     // likewise
	needsUIN                  bool
	needsVersion              bool
	needsPlatform             bool
	needsHome                 bool
}

func glimpses(rules []region.Rule) []glimpse {
	out := make([]glimpse, len(rules))
	for i := range rules {
		out[i] = glimpseOf(&rules[i].Match)
	}
	return out
}

func glimpseOf(m *region.Match) glimpse {
	g := glimpse{
		lastUIN: ^region.UIN(0), lastVersion: ^uint32(0),
		needsUIN: len(m.UINs) > 0 || m.Percent != nil, needsVersion: len(m.Versions) > 0,
		needsPlatform: len(m.Platforms) > 0, needsHome: len(m.Homes)+len(m.Acting) > 0,
	}
	if len(m.UINs) > 0 {
		g.firstUIN, g.lastUIN = m.UINs[0].First, m.UINs[0].Last
	}
	for _, r := range m.UINs {
		g.firstUIN, g.lastUIN = min(g.firstUIN, r.First), max(g.lastUIN, r.Last)
	}
	if len(m.Versions) > 0 {
		g.firstVersion, g.lastVersion = ^uint32(0), 0
	}
	for _, r := range m.Versions {
		g.firstVersion = min(g.firstVersion, r.From)
		if r.To == 0 {
			r.To = ^uint32(0)
		}
		g.lastVersion = max(g.lastVersion, r.To)
	}
	return g
}

// misses says whether the client certainly misses the match, before anything of
// it looks at an address.
func (g *glimpse) misses(d *decision) bool {
	c := &d.client
	switch {
	case g.needsUIN && (c.UIN == 0 || c.UIN < g.firstUIN || c.UIN > g.lastUIN):
	case g.needsVersion && (c.Version == 0 || c.Version < g.firstVersion || c.Version > g.lastVersion):
	case g.needsPlatform && c.Platform == "":
	case g.needsHome && !d.placed:
	default:
		return false
	}
	return true
}
