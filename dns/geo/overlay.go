package geo

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// overlay is facts from a CSV file.
type overlay struct{ worldPlaces }

func (o *overlay) lookup(addr netip.Addr) (steer.Facts, int) {
	p, bits := o.worldPlaces.lookup(addr)
	if p == nil {
		return steer.Facts{}, bits
	}
	return steer.Facts{Known: p.Place.Latitude != 0 || p.Place.Longitude != 0, Place: p.Place, ASN: p.ASN}, bits
}

// overlayColumns is the header an overlay must have.
var overlayColumns = []string{"prefix", "continent", "country", "city", "latitude", "longitude", "asn"}

// readOverlay reads the CSV text of an overlay.
func readOverlay(raw []byte) (*overlay, error) {
	r := csv.NewReader(bytes.NewReader(raw))
	r.Comment, r.FieldsPerRecord, r.ReuseRecord = '#', len(overlayColumns), true
	o := &overlay{}
	for first := true; ; first = false {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			if first {
				return nil, fmt.Errorf("it is empty; the first line has to be %s", strings.Join(overlayColumns, ","))
			}
			return o, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		if first {
			if got := strings.Join(row, ","); got != strings.Join(overlayColumns, ",") {
				return nil, fmt.Errorf("line %d: the header is %q and has to be %s", line, got, strings.Join(overlayColumns, ","))
			}
			continue
		}
		p, err := overlayRow(row)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if !o.insert(p) {
			return nil, fmt.Errorf("line %d: %s is there twice", line, p.Prefix)
		}
	}
}

func overlayRow(row []string) (*region.Prefix, error) {
	prefix, err := netip.ParsePrefix(row[0])
	if err != nil {
		return nil, err
	}
	if prefix != prefix.Masked() {
		return nil, fmt.Errorf("%s has bits beyond its length; its network is %s", prefix, prefix.Masked())
	}
	p := &region.Prefix{Prefix: prefix, Place: region.Place{
		Continent: strings.ToUpper(row[1]), Country: strings.ToUpper(row[2]), City: strings.Clone(row[3]),
	}}
	if p.Place.Latitude, err = degrees(row[4], 90); err != nil {
		return nil, fmt.Errorf("latitude: %w", err)
	}
	if p.Place.Longitude, err = degrees(row[5], 180); err != nil {
		return nil, fmt.Errorf("longitude: %w", err)
	}
	if row[6] != "" {
		asn, err := strconv.ParseUint(strings.TrimPrefix(row[6], "AS"), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("asn: %q is not a number such as 4134", row[6])
		}
		p.ASN = uint32(asn)
	}
	return p, nil
}

func degrees(s string, limit float64) (float64, error) {
	if s == "" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= -limit && f <= limit) {
		return 0, fmt.Errorf("%q is not between %v and %v degrees", s, -limit, limit)
	}
	return f, nil
}
