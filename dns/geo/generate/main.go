// Command generate writes the demo geo database from the CSV files next to it.
// The same files give the same bytes, on any machine.
package main

import (
	"bytes"
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	_ "embed"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

//go:embed places.csv
var placesCSV []byte

//go:embed networks.csv
var networksCSV []byte

// built is the build time written into the database, in Unix seconds: when the
// CSV files were last changed, by hand, so that the output depends on them only.
const built = 1764547200 // 2025-12-01

func main() {
	out := flag.String("out", "demo.mmdb", "file to write")
	flag.Parse()
	var b bytes.Buffer
	err := generate(&b, placesCSV, networksCSV)
	if err == nil {
		err = os.WriteFile(*out, b.Bytes(), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

type network struct {
	prefix netip.Prefix
	record mmdbtype.Map
}

// generate writes the database that the two files describe.
func generate(w io.Writer, places, networks []byte) error {
	cities, err := readPlaces(places)
	if err != nil {
		return err
	}
	all, err := readNetworks(networks, cities)
	if err != nil {
		return err
	}
	// Shorter prefixes first, so that longer ones cut into them.
	slices.SortStableFunc(all, func(a, b network) int {
		if a.prefix.Bits() != b.prefix.Bits() {
			return a.prefix.Bits() - b.prefix.Bits()
		}
		return a.prefix.Addr().Compare(b.prefix.Addr())
	})
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		BuildEpoch:   built,
		DatabaseType: "Homing-Demo-City-ASN",
		Description:  map[string]string{"en": "Approximate data for demonstrations of Homing"},
		Languages:    []string{"en"},
		RecordSize:   24,
	})
	if err != nil {
		return err
	}
	for _, n := range all {
		ipnet := &net.IPNet{IP: n.prefix.Addr().AsSlice(), Mask: net.CIDRMask(n.prefix.Bits(), n.prefix.Addr().BitLen())}
		if err := tree.Insert(ipnet, n.record); err != nil {
			return fmt.Errorf("networks.csv: %s: %w", n.prefix, err)
		}
	}
	_, err = tree.WriteTo(w)
	return err
}

// readPlaces returns the record of each city by its key.
func readPlaces(raw []byte) (map[string]mmdbtype.Map, error) {
	rows, err := rows("places.csv", raw, 6)
	if err != nil {
		return nil, err
	}
	cities := make(map[string]mmdbtype.Map)
	for _, row := range rows {
		lat, err1 := strconv.ParseFloat(row[4], 64)
		lon, err2 := strconv.ParseFloat(row[5], 64)
		if err1 != nil || err2 != nil || lat < -90 || lat > 90 || lon < -180 || lon > 180 {
			return nil, fmt.Errorf("places.csv: %s: %s,%s are no coordinates", row[0], row[4], row[5])
		}
		if _, twice := cities[row[0]]; twice {
			return nil, fmt.Errorf("places.csv: %s is there twice", row[0])
		}
		cities[row[0]] = mmdbtype.Map{
			"city":      mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String(row[1])}},
			"country":   mmdbtype.Map{"iso_code": mmdbtype.String(row[2])},
			"continent": mmdbtype.Map{"code": mmdbtype.String(row[3])},
			"location":  mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon)},
		}
	}
	return cities, nil
}

func readNetworks(raw []byte, cities map[string]mmdbtype.Map) ([]network, error) {
	rows, err := rows("networks.csv", raw, 4)
	if err != nil {
		return nil, err
	}
	var all []network
	seen := make(map[netip.Prefix]bool)
	for _, row := range rows {
		prefix, err := netip.ParsePrefix(row[0])
		if err != nil {
			return nil, fmt.Errorf("networks.csv: %w", err)
		}
		city, ok := cities[row[1]]
		if !ok {
			return nil, fmt.Errorf("networks.csv: %s: place %q is not in places.csv", prefix, row[1])
		}
		asn, err := strconv.ParseUint(row[2], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("networks.csv: %s: %w", prefix, err)
		}
		if prefix != prefix.Masked() {
			return nil, fmt.Errorf("networks.csv: %s: its network is %s", prefix, prefix.Masked())
		}
		if seen[prefix] {
			return nil, fmt.Errorf("networks.csv: %s is there twice", prefix)
		}
		seen[prefix] = true
		record := city.Copy().(mmdbtype.Map)
		record["autonomous_system_number"] = mmdbtype.Uint32(asn)
		record["autonomous_system_organization"] = mmdbtype.String(row[3])
		all = append(all, network{prefix, record})
	}
	return all, nil
}

func rows(name string, raw []byte, columns int) ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(raw))
	r.Comment = '#'
	r.FieldsPerRecord = columns
	all, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return all, nil
}
