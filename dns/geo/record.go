package geo

import (
	"net/netip"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/homing-im/homing/dns/steer"
)

// record has the fields of a City, Country, ASN or ISP database that steering
// uses. Coordinates are pointers because zero degrees is a place.
type record struct {
	City struct {
		Names struct {
			English string `maxminddb:"en"`
		} `maxminddb:"names"`
	} `maxminddb:"city"`
	Country struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Subdivisions []struct {
		ISOCode string `maxminddb:"iso_code"` // without the country
	} `maxminddb:"subdivisions"`
	Continent struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"continent"`
	Location struct {
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
	ASN uint32 `maxminddb:"autonomous_system_number"`
}

// database is a file in MaxMind's format.
type database maxminddb.Reader

func (d *database) lookup(addr netip.Addr) (steer.Facts, int) {
	result := (*maxminddb.Reader)(d).Lookup(addr)
	bits := 0
	if p := result.Prefix(); p.IsValid() {
		bits = p.Bits()
		if addr.Is4() && !p.Addr().Is4() {
			bits = max(0, bits-96) // the network begins above ::/96, where IPv4 lives
		}
	}
	var r record
	if !result.Found() || result.Decode(&r) != nil {
		return steer.Facts{}, bits
	}
	f := steer.Facts{ASN: r.ASN}
	f.Place.City = r.City.Names.English
	f.Place.Country = r.Country.ISOCode
	f.Place.Continent = r.Continent.Code
	if len(r.Subdivisions) > 0 && r.Subdivisions[0].ISOCode != "" && f.Place.Country != "" {
		f.Place.Subdivision = f.Place.Country + "-" + r.Subdivisions[0].ISOCode // ISO 3166-2
	}
	if lat, lon := r.Location.Latitude, r.Location.Longitude; lat != nil && lon != nil {
		f.Known = true
		f.Place.Latitude, f.Place.Longitude = *lat, *lon
	}
	return f, bits
}

// merge adds to f what it lacks: a whole place or the carrier, but never half a
// place, because two databases may disagree about the country.
func merge(f, more *steer.Facts) {
	if !f.Known && (more.Known || f.Place.Country == "") {
		f.Known, f.Place = more.Known, more.Place
	}
	if f.ASN == 0 {
		f.ASN = more.ASN
	}
}
