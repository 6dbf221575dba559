package steer

import (
	"math"

	"github.com/homing-im/homing/region"
)

// earthKM is the mean radius of the Earth in kilometres.
const earthKM = 6371

// KM returns the great-circle distance of two places in whole kilometres.
//
// It is rounded because nodes on different processors have to order places
// alike, although the last bits of their floating-point results differ; geo
// databases are not that exact anyway.
func KM(a, b region.Place) float64 {
	const degree = math.Pi / 180
	sinLat := math.Sin((b.Latitude - a.Latitude) * degree / 2)
	sinLon := math.Sin((b.Longitude - a.Longitude) * degree / 2)
	h := sinLat*sinLat + math.Cos(a.Latitude*degree)*math.Cos(b.Latitude*degree)*sinLon*sinLon
	return math.Round(2 * earthKM * math.Asin(math.Sqrt(min(h, 1))))
}

// km is the distance of the place from the client. The client's facts have to
// be consulted first or right after.
func (d *decision) km(p region.Place) float64 {
	if d.client.Facts.Known {
		return KM(d.client.Facts.Place, p)
	}
	if acting, ok := d.view.World.Region(d.answer.Acting); ok {
		return KM(acting.Place, p)
	}
	return 0
}
