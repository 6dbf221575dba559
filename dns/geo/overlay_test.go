package geo

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
)

const overlayHead = "prefix,continent,country,city,latitude,longitude,asn\n"

// The country is known out of the box, for both families, and where that
// country is.
func TestEmbeddedCountry(t *testing.T) {
	db := open(t, Options{})
	for addr, want := range map[string]string{
		"223.5.5.5": "CN", "8.8.8.8": "US", "193.0.6.139": "NL", "2001:67c:2e8:22::c100:68b": "NL", "2409:8000::1": "CN",
		"200.160.2.3": "BR", "::ffff:196.216.2.1": "ZA", "202.12.29.1": "AU", "2a02:6b8::1": "RU", "99.230.1.1": "CA",
	} {
		f := db.Lookup(netip.MustParseAddr(addr))
		if f.Place.Country != want || !f.Known || f.Place.Continent == "" || f.Place.City != "" || f.ASN != 0 {
			t.Errorf("%s: %+v, want %s", addr, f, want)
		}
	}
	for _, addr := range []string{"127.0.0.1", "10.1.2.3", "::1", "fe80::1", "2001:db8::1"} {
		if f := db.Lookup(netip.MustParseAddr(addr)); f.Known || f.Place.Country != "" {
			t.Errorf("%s, which is nowhere: %+v", addr, f)
		}
	}
	if info, err := os.Stat("country.mmdb"); err != nil || info.Size() > 6<<20 {
		t.Errorf("the embedded database is larger than 6 MB: %v, %v", info.Size(), err)
	}
	notice, err := os.ReadFile("../../NOTICE")
	if err != nil || !strings.Contains(string(notice), "IPFire") || !strings.Contains(string(notice), "CC BY-SA 4.0") {
		t.Errorf("NOTICE owes the embedded database's source and licence: %v", err)
	}
}

func writeOverlay(t *testing.T, rows string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "carriers.csv")
	if err := os.WriteFile(path, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOverlay(t *testing.T) {
	path := writeOverlay(t, "# ours\n"+overlayHead+`117.136.0.0/16,,,,,,9808
117.136.8.0/24,as,cn,Shanghai,31.23,121.47,AS9808
8.8.8.0/24,EU,DE,"Frankfurt, Main",50.1,8.7,
2409:8000::/20,,,,,,9808
`)
	db := open(t, Options{Files: []string{path, EmbeddedCountry}})
	for _, c := range []struct {
		addr string
		want region.Prefix // with the network's length at least
	}{
		{"117.136.8.9", region.Prefix{Prefix: netip.MustParsePrefix("117.136.8.0/24"), Place: region.Place{City: "Shanghai", Country: "CN", Continent: "AS"}, ASN: 9808}},
		{"117.136.9.9", region.Prefix{Prefix: netip.MustParsePrefix("117.136.9.0/24"), Place: region.Place{Country: "CN", Continent: "AS"}, ASN: 9808}},
		{"8.8.8.8", region.Prefix{Prefix: netip.MustParsePrefix("8.8.8.0/24"), Place: region.Place{City: "Frankfurt, Main", Country: "DE", Continent: "EU"}}},
		{"2409:8000::1", region.Prefix{Prefix: netip.MustParsePrefix("2409:8000::/20"), Place: region.Place{Country: "CN", Continent: "AS"}, ASN: 9808}},
	} {
		f := db.Lookup(netip.MustParseAddr(c.addr))
		if !f.Known || f.Place.City != c.want.Place.City || f.Place.Country != c.want.Place.Country || f.Place.Continent != c.want.Place.Continent || f.ASN != c.want.ASN {
			t.Errorf("%s: %+v, want %+v", c.addr, f, c.want)
		}
		if f.Prefix.Bits() < c.want.Prefix.Bits() {
			t.Errorf("%s: %s is wider than what the overlay tells apart", c.addr, f.Prefix)
		}
	}
	// A mistake leaves the last good one in use.
	if err := os.WriteFile(path, []byte(overlayHead+"117.136.0.0,,,,,,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := db.Reload(); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("reload: %v", err)
	}
	if f := db.Lookup(netip.MustParseAddr("117.136.8.9")); f.ASN != 9808 {
		t.Errorf("after a bad reload: %+v", f)
	}
	if err := os.WriteFile(path, []byte(overlayHead+"117.136.0.0/16,,,,,,56040\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := db.Reload(); err != nil {
		t.Error(err)
	}
	if f := db.Lookup(netip.MustParseAddr("117.136.8.9")); f.ASN != 56040 || f.Place.Country != "CN" {
		t.Errorf("after a reload: %+v", f)
	}
}

func TestMistakesInOverlays(t *testing.T) {
	for _, c := range []struct{ rows, want string }{
		{"", "it is empty"},
		{"prefix,asn\n", "wrong number of fields"},
		{"prefix,continent,country,city,lat,lon,asn\n", "the header is"},
		{overlayHead + "1.2.3.4/24,,,,,,1\n", "its network is 1.2.3.0/24"},
		{overlayHead + "1.2.3.0/24,,,,,,1\n1.2.3.0/24,,,,,,2\n", "line 3: 1.2.3.0/24 is there twice"},
		{overlayHead + "1.2.3.0/24,,,,91,0,1\n", "latitude"},
		{overlayHead + "1.2.3.0/24,,,,1,NaN,1\n", "longitude"},
		{overlayHead + "1.2.3.0/24,,,,,,x\n", "asn"},
	} {
		_, err := Open(Options{Files: []string{writeOverlay(t, c.rows)}})
		if err == nil || !strings.Contains(err.Error()+" ", c.want) {
			t.Errorf("%q: error %v, want %q", c.rows, err, c.want)
		}
	}
}

func FuzzOverlay(f *testing.F) {
	f.Add(overlayHead + "117.136.8.0/24,as,cn,Shanghai,31.23,121.47,AS9808\n::/0,,,,,,1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if o, err := readOverlay([]byte(text)); err == nil {
			o.lookup(netip.MustParseAddr("117.136.8.9"))
			o.lookup(netip.MustParseAddr("2409::1"))
		}
	})
}
