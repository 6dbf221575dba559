// Command country writes the embedded country database from the IPFire location
// data in the text form that Debian's package tor-geoipdb has, and from the time
// zone database's table of cities. The same files give the same bytes.
//
// A country's coordinates are those of the city that stands for it; see
// cities.csv.
package main

import (
	"bytes"
	_ "embed"
	"flag"
	"fmt"
	"io"

	"os"
	"strconv"
	"strings"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

//go:embed continents.csv
var continentsCSV string

//go:embed cities.csv
var citiesCSV string

func main() {
	in := flag.String("in", "/usr/share/tor", "folder with geoip and geoip6")
	zones := flag.String("zones", "/usr/share/zoneinfo/zone.tab", "table of cities")
	out := flag.String("out", "country.mmdb", "file to write")
	flag.Parse()
	if err := run(*in, *zones, *out); err != nil {
		fmt.Fprintln(os.Stderr, "country:", err)
		os.Exit(1)
	}
}

func run(in, zones, out string) error {
	var files [3][]byte
	for i, name := range []string{in + "/geoip", in + "/geoip6", zones} {
		var err error
		if files[i], err = os.ReadFile(name); err != nil {
			return fmt.Errorf("%w (Debian: apt-get install tor-geoipdb tzdata)", err)
		}
	}
	var b bytes.Buffer
	if err := generate(&b, files[0], files[1], files[2]); err != nil {
		return err
	}
	return os.WriteFile(out, b.Bytes(), 0o644)
}

// generate writes the database of the two lists of ranges.
func generate(w io.Writer, v4, v6, zones []byte) error {
	countries, err := readCountries(zones)
	if err != nil {
		return err
	}
	built, err := generated(v4)
	if err != nil {
		return err
	}
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		BuildEpoch:   built.Unix(),
		DatabaseType: "Homing-Country",
		Description:  map[string]string{"en": "Countries of networks, from the IPFire location database, CC BY-SA 4.0"},
		Languages:    []string{"en"},
		RecordSize:   24,
		// 6to4 and Teredo addresses are not said to be where their IPv4 address is.
		DisableIPv4Aliasing: true,
		// The list is of what is routed; what the library holds reserved is the list's business.
		IncludeReservedNetworks: true,
	})
	if err != nil {
		return err
	}
	for _, l := range []struct {
		list
		text []byte
	}{{ipv4, v4}, {ipv6, v6}} {
		blocks, err := l.blocks(l.text)
		if err != nil {
			return err
		}
		for _, b := range blocks {
			record, ok := countries[b.country]
			if !ok {
				continue // "??", and codes of no country
			}
			if err := tree.InsertRange(l.first(b.from), l.last(b.to), record); err != nil {
				return err
			}
		}
	}
	_, err = tree.WriteTo(w)
	return err
}

// generated is the time in the list's header.
func generated(list []byte) (time.Time, error) {
	for line := range strings.Lines(string(list)) {
		if at, ok := strings.CutPrefix(strings.TrimSpace(line), "# Generated: "); ok {
			return time.Parse(time.RFC1123, at)
		}
		if !strings.HasPrefix(line, "#") {
			break
		}
	}
	return time.Time{}, fmt.Errorf("geoip: there is no line \"# Generated: \" in its head")
}

// readCountries returns the record of each country that has a city.
func readCountries(zones []byte) (map[string]mmdbtype.Map, error) {
	continents, wanted := map[string]string{}, map[string]string{}
	for row := range rows(continentsCSV) {
		continent, countries, _ := strings.Cut(row, ",")
		for _, c := range strings.Fields(countries) {
			continents[c] = continent
		}
	}
	for row := range rows(citiesCSV) {
		country, zone, _ := strings.Cut(row, ",")
		wanted[country] = zone
	}
	records := map[string]mmdbtype.Map{}
	for row := range rows(string(zones)) {
		f := strings.Split(row, "\t")
		if len(f) < 3 {
			return nil, fmt.Errorf("zone.tab: %q is not country, coordinates, zone", row)
		}
		country, zone := f[0], f[2]
		if w := wanted[country]; w != "" && w != zone || w == "" && records[country] != nil {
			continue
		}
		lat, lon, err := coordinates(f[1])
		if err != nil {
			return nil, fmt.Errorf("zone.tab: %s: %w", zone, err)
		}
		if continents[country] == "" {
			return nil, fmt.Errorf("zone.tab: the continent of %s is not in continents.csv", country)
		}
		delete(wanted, country)
		records[country] = mmdbtype.Map{
			"country":   mmdbtype.Map{"iso_code": mmdbtype.String(country)},
			"continent": mmdbtype.Map{"code": mmdbtype.String(continents[country])},
			"location":  mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon)},
		}
	}
	for country, zone := range wanted {
		return nil, fmt.Errorf("zone.tab: %s of %s is not there", zone, country)
	}
	return records, nil
}

// rows yields the lines of a table that are no comments.
func rows(table string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for line := range strings.Lines(table) {
			line = strings.TrimRight(line, "\n")
			if line != "" && line[0] != '#' && !yield(line) {
				return
			}
		}
	}
}

// coordinates reads ISO 6709 as zone.tab has it, +DDMM+DDDMM or
// +DDMMSS+DDDMMSS, and returns degrees, to a hundredth: half a mile.
func coordinates(s string) (lat, lon float64, err error) {
	at := strings.LastIndexAny(s, "+-")
	if at <= 0 {
		return 0, 0, fmt.Errorf("%q are no coordinates", s)
	}
	if lat, err = degrees(s[:at], 2); err == nil {
		lon, err = degrees(s[at:], 3)
	}
	return lat, lon, err
}

// degrees reads a sign, the degrees in so many digits, minutes and perhaps seconds.
func degrees(s string, digits int) (float64, error) {
	n, err := strconv.ParseUint(s[1:], 10, 32)
	if err != nil {
		return 0, err
	}
	switch len(s) - 1 - digits {
	case 2:
		n *= 100
	case 4:
	default:
		return 0, fmt.Errorf("%q is not degrees and minutes", s)
	}
	hundredths := n/10000*100 + (n/100%100*60+n%100)*100/3600
	if s[0] == '-' {
		return -float64(hundredths) / 100, nil
	}
	return float64(hundredths) / 100, nil
}
