package steer

import (
	"slices"

	"github.com/homing-im/homing/region"
)

// condition names what kept a [region.Match] from holding.
type condition uint8

const (
	hit condition = iota
	missService
	missUIN
	missPercent
	missVersion
	missPlatform
	missHome
	missActing
	missHealth
	missCountry
	missSubdivision
	missCity
	missContinent
	missASN
	missCarrier
	missPrefix
	missAny
	missNot
)

// match says whether all set fields of m hold, or the first that does not, and
// of which match it is a field.
//
// Conditions that do not look at the address go first: what is not consulted
// does not narrow the scope, and a wide scope is what lets resolvers cache.
func (d *decision) match(m *region.Match) (condition, *region.Match) {
	c := &d.client
	uin := c.UIN
	switch {
	case len(m.Services) > 0 && !slices.Contains(m.Services, c.Service):
		return missService, m
	case len(m.UINs) > 0 && !slices.ContainsFunc(m.UINs, func(r region.UINRange) bool { return uin != 0 && r.First <= uin && uin <= r.Last }):
		return missUIN, m
	case m.Percent != nil && (uin == 0 || Share(m.Percent.Salt, uin) >= m.Percent.Below):
		return missPercent, m
	case len(m.Versions) > 0 && !slices.ContainsFunc(m.Versions, func(r region.VersionRange) bool {
		return c.Version != 0 && r.From <= c.Version && (r.To == 0 || c.Version <= r.To)
	}):
		return missVersion, m
	case len(m.Platforms) > 0 && (c.Platform == "" || !slices.Contains(m.Platforms, c.Platform)):
		return missPlatform, m
	case len(m.Homes) > 0 && !(d.placed && slices.Contains(m.Homes, d.answer.Home)):
		return missHome, m
	case len(m.Acting) > 0 && !(d.placed && slices.Contains(m.Acting, d.answer.Acting)):
		return missActing, m
	case len(m.HealthyPOPs) > 0 && !slices.ContainsFunc(m.HealthyPOPs, func(id region.POPID) bool { return d.health.POP(id) }),
		len(m.HealthyRegions) > 0 && !slices.ContainsFunc(m.HealthyRegions, func(id region.ID) bool { return d.health.Region(id) }):
		return missHealth, m
	}
	if len(m.Countries) > 0 || len(m.Subdivisions) > 0 || len(m.Cities) > 0 || len(m.Continents) > 0 || len(m.ASNs) > 0 || len(m.Carriers) > 0 {
		d.consultFacts()
		f := &c.Facts
		switch {
		case len(m.Countries) > 0 && (f.Place.Country == "" || !slices.Contains(m.Countries, f.Place.Country)):
			return missCountry, m
		case len(m.Subdivisions) > 0 && (f.Place.Subdivision == "" || !slices.Contains(m.Subdivisions, f.Place.Subdivision)):
			return missSubdivision, m
		case len(m.Cities) > 0 && (f.Place.City == "" || !slices.Contains(m.Cities, f.Place.City)):
			return missCity, m
		case len(m.Continents) > 0 && (f.Place.Continent == "" || !slices.Contains(m.Continents, f.Place.Continent)):
			return missContinent, m
		case len(m.ASNs) > 0 && !(f.ASN != 0 && slices.Contains(m.ASNs, f.ASN)):
			return missASN, m
		case len(m.Carriers) > 0 && !d.ofCarrier(m.Carriers):
			return missCarrier, m
		}
	}
	if len(m.Prefixes) > 0 && !slices.ContainsFunc(m.Prefixes, d.inPrefix) {
		return missPrefix, m
	}
	for i := range m.All {
		if why, at := d.match(&m.All[i]); why != hit {
			return why, at
		}
	}
	if len(m.Any) > 0 && d.alternative(m) < 0 {
		return missAny, m
	}
	if m.Not != nil {
		if why, _ := d.match(m.Not); why == hit {
			return missNot, m
		}
	}
	return hit, nil
}

// alternative is the first of the alternatives that holds, or -1.
func (d *decision) alternative(m *region.Match) int {
	for i := range m.Any {
		if why, _ := d.match(&m.Any[i]); why == hit {
			return i
		}
	}
	return -1
}

// ofCarrier says whether the client's autonomous system is in one of the
// carriers.
func (d *decision) ofCarrier(names []string) bool {
	asn := d.client.Facts.ASN
	return asn != 0 && slices.ContainsFunc(d.view.World.Carriers, func(c region.Carrier) bool {
		return slices.Contains(names, c.Name) && slices.Contains(c.ASNs, asn)
	})
}

// Of FNV-1a 64.
const offset64, prime64 = 14695981039346656037, 1099511628211

// Share returns the place of a UIN among 10,000 for a [region.Percent]: FNV-1a
// 64 over the salt's bytes and the eight big-endian bytes of the UIN, modulo
// 10,000.
func Share(salt string, uin region.UIN) uint32 {
	h := uint64(offset64)
	for i := range len(salt) {
		h = (h ^ uint64(salt[i])) * prime64
	}
	for shift := 56; shift >= 0; shift -= 8 {
		h = (h ^ uint64(byte(uin>>uint(shift)))) * prime64
	}
	return uint32(h % 10000)
}
