package geo

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

func open(t testing.TB, o Options) *DB {
	t.Helper()
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func worldWith(places ...region.Prefix) func() *region.View {
	v := region.NewView(&region.World{Places: places}, region.Hash{}, nil)
	return func() *region.View { return v }
}

func place(prefix, city string, asn uint32) region.Prefix {
	return region.Prefix{Prefix: netip.MustParsePrefix(prefix), Place: region.Place{City: city}, ASN: asn}
}

func TestDemo(t *testing.T) {
	db := open(t, Options{Files: []string{EmbeddedDemo}})
	for _, c := range []struct{ addr, network, city, country, continent, asn string }{
		{"223.5.5.5", "223.5.5.0/24", "Hangzhou", "CN", "AS", "37963"},
		{"8.8.8.8", "8.8.8.0/24", "Mountain View", "US", "NA", "15169"},
		{"::ffff:8.8.8.8", "8.8.8.0/24", "Mountain View", "US", "NA", "15169"},
		{"219.76.4.1", "219.76.0.0/14", "Hong Kong", "HK", "AS", "4760"},
		{"118.140.1.1", "118.140.0.0/14", "Hong Kong", "HK", "AS", "9304"},
		{"70.52.0.1", "70.48.0.0/13", "Toronto", "CA", "NA", "577"},
		{"99.230.1.1", "99.224.0.0/11", "Toronto", "CA", "NA", "812"},
		{"50.92.1.1", "50.92.0.0/14", "Vancouver", "CA", "NA", "852"},
		{"117.136.8.9", "117.136.8.0/24", "Shanghai", "CN", "AS", "9808"},
		{"2409:8000::1", "", "Beijing", "CN", "AS", "9808"},
		{"240e:3a0::1", "240e:3a0::/28", "Guangzhou", "CN", "AS", "4134"},
		{"2001:4860:4860::8888", "2001:4860::/32", "Mountain View", "US", "NA", "15169"},
	} {
		f := db.Lookup(netip.MustParseAddr(c.addr))
		if !f.Known || f.Place.City != c.city || f.Place.Country != c.country || f.Place.Continent != c.continent || fmt.Sprint(f.ASN) != c.asn {
			t.Errorf("%s: %+v", c.addr, f)
		}
		if c.network != "" && f.Prefix.String() != c.network {
			t.Errorf("%s: network %s, want %s", c.addr, f.Prefix, c.network)
		}
	}
	for _, addr := range []string{"127.0.0.1", "192.0.2.1", "2001:db8::1", "::1"} {
		f := db.Lookup(netip.MustParseAddr(addr))
		if f.Known || f.ASN != 0 || !f.Prefix.Contains(netip.MustParseAddr(addr)) {
			t.Errorf("%s, which nobody knows: %+v", addr, f)
		}
	}
	if f := db.Lookup(netip.Addr{}); f != (steer.Facts{}) {
		t.Errorf("no address: %+v", f)
	}
	if got, want := db.LookupPrefix(netip.MustParsePrefix("223.5.5.77/24")), db.Lookup(netip.MustParseAddr("223.5.5.0")); got != want {
		t.Errorf("prefix: %+v, want %+v", got, want)
	}
	if !strings.Contains(db.String(), "Homing-Demo-City-ASN, built 2025-12-01") {
		t.Error(db)
	}
}

func TestPlacesOfTheWorldGoFirst(t *testing.T) {
	db := open(t, Options{Files: []string{EmbeddedDemo}, View: worldWith(
		place("127.0.0.0/8", "Loopback", 0), place("127.1.0.0/16", "Lab", 1), place("8.8.0.0/16", "Ours", 2),
		place("::ffff:10.0.0.0/104", "Mapped", 3), place("fd00::/8", "Inside", 4), place("0.0.0.0/0", "Elsewhere", 5),
	)})
	for _, c := range []struct{ addr, city, network string }{
		{"127.0.0.1", "Loopback", "127.0.0.0/16"}, // narrowed by the lab, its neighbour
		{"127.1.2.3", "Lab", "127.1.0.0/16"},
		{"127.128.0.1", "Loopback", "127.128.0.0/9"},
		{"8.8.8.8", "Ours", "8.8.0.0/16"}, // no database below
		{"10.1.2.3", "Mapped", "10.0.0.0/8"},
		{"fd00::1", "Inside", "fd00::/8"},
		{"223.5.5.5", "Elsewhere", "128.0.0.0/1"},
	} {
		f := db.Lookup(netip.MustParseAddr(c.addr))
		if !f.Known || f.Place.City != c.city || f.Prefix.String() != c.network {
			t.Errorf("%s: %+v, want %s in %s", c.addr, f, c.city, c.network)
		}
	}
}

// The first guarantee: wherever one looks inside the network of an answer, the
// answer is the same, network included; and it is the one a naive search finds.
func TestNetworkIsUniform(t *testing.T) {
	anchors := []string{"223.5.5.5", "8.8.8.8", "117.136.8.1", "73.141.0.1", "127.0.0.1", "240e:3a0::1", "2001:4860::1", "2601:600::1"}
	drawAddr := func(t *rapid.T) netip.Addr {
		a := netip.MustParseAddr(rapid.SampledFrom(anchors).Draw(t, "near"))
		raw := a.AsSlice()
		for range rapid.IntRange(0, 4).Draw(t, "flips") {
			bit := rapid.IntRange(0, len(raw)*8-1).Draw(t, "bit")
			raw[bit/8] ^= 0x80 >> (bit % 8)
		}
		a, _ = netip.AddrFromSlice(raw)
		return a
	}
	rapid.Check(t, func(t *rapid.T) {
		var places []region.Prefix
		for i := range rapid.IntRange(0, 6).Draw(t, "places") {
			a := drawAddr(t)
			p := netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()
			places = append(places, region.Prefix{Prefix: p, Place: region.Place{City: fmt.Sprint(i)}, ASN: 1})
		}
		db, err := Open(Options{Files: []string{EmbeddedDemo}, View: worldWith(places...)})
		if err != nil {
			t.Fatal(err)
		}
		a := drawAddr(t)
		f := db.Lookup(a)
		if !f.Prefix.Contains(a) || f.Prefix != f.Prefix.Masked() {
			t.Fatalf("%s is not in %s", a, f.Prefix)
		}
		for range 8 {
			raw := a.AsSlice()
			for i := f.Prefix.Bits(); i < a.BitLen(); i++ {
				if rapid.Bool().Draw(t, "flip") {
					raw[i/8] ^= 0x80 >> (i % 8)
				}
			}
			b, _ := netip.AddrFromSlice(raw)
			if g := db.Lookup(b); g != f {
				t.Fatalf("%s: %+v\n%s: %+v", a, f, b, g)
			}
		}
		var longest *region.Prefix
		for i := range places {
			if p := &places[i]; p.Prefix.Contains(a) && (longest == nil || p.Prefix.Bits() >= longest.Prefix.Bits()) {
				longest = p // of equal ones the last is in force
			}
		}
		if longest != nil && f.Place != longest.Place {
			t.Fatalf("%s: %+v, want %+v", a, f, longest)
		}
		if longest == nil && strings.Trim(f.Place.City, "0123456789") != f.Place.City {
			t.Fatalf("%s: %+v, but no place has it", a, f)
		}
	})
}

// A new world's places are in force at once.
func TestWorldChanges(t *testing.T) {
	view := worldWith(place("192.0.2.0/24", "Old", 0))
	db := open(t, Options{Files: []string{EmbeddedDemo}, View: func() *region.View { return view() }})
	addr := netip.MustParseAddr("192.0.2.1")
	if f := db.Lookup(addr); f.Place.City != "Old" {
		t.Error(f)
	}
	view = worldWith(place("192.0.2.0/24", "New", 0))
	if f := db.Lookup(addr); f.Place.City != "New" {
		t.Error(f)
	}
	view = func() *region.View { return nil }
	if f := db.Lookup(addr); f.Known {
		t.Error(f)
	}
}

func TestReloadKeepsTheLastGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "geo.mmdb")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(demo)
	reg := prometheus.NewRegistry()
	db := open(t, Options{Files: []string{path}, Registry: reg})
	addr := netip.MustParseAddr("223.5.5.5")
	want := db.Lookup(addr)
	flipped := bytes.Clone(demo)
	for i := 0; i < len(flipped)/2; i += 7 { // the search tree
		flipped[i] ^= 0xff
	}
	bad := 0
	for name, content := range map[string][]byte{
		"empty": nil, "text": []byte("no database"), "cut": demo[:len(demo)/2], "without its head": demo[1000:], "flipped": flipped,
	} {
		write(content)
		err := db.Reload()
		if region.KindOf(err) != region.BadInput || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", name, err)
		}
		bad++
		if f := db.Lookup(addr); f != want {
			t.Errorf("%s: the last good database is gone: %+v", name, f)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := db.Reload(); err == nil {
		t.Error("a missing file is no error")
	}
	if got := counter(t, reg, "homing_dns_geo_reload_errors_total"); got != float64(bad+1) {
		t.Errorf("%v errors counted, want %d", got, bad+1)
	}
	write(demo)
	if err := db.Reload(); err != nil {
		t.Error(err)
	}
	if _, err := Open(Options{Files: []string{path + "x"}}); region.KindOf(err) != region.BadInput {
		t.Errorf("a missing file at start: %v", err)
	}
}

// A server that starts without its databases, or with broken ones, steers by
// what remains and says so; what appears later is found.
func TestDegradedStart(t *testing.T) {
	dir := t.TempDir()
	absent, broken := filepath.Join(dir, "city.mmdb"), filepath.Join(dir, "carriers.csv")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(broken, "prefix,asn\n")
	reg := prometheus.NewRegistry()
	db := open(t, Options{Files: []string{absent, broken}, Registry: reg, Degrade: true, View: worldWith(place("192.0.2.0/24", "Office", 0))})
	addr := netip.MustParseAddr("223.5.5.5")
	is := func(what, country, city string, asn uint32, trouble int) {
		t.Helper()
		if f := db.Lookup(addr); f.Place.Country != country || f.Place.City != city || f.ASN != asn {
			t.Errorf("%s: %+v", what, f)
		}
		if f := db.Lookup(netip.MustParseAddr("192.0.2.1")); f.Place.City != "Office" {
			t.Errorf("%s: the world's place is %+v", what, f)
		}
		if got := db.Trouble(); len(got) != trouble {
			t.Errorf("%s: trouble %v", what, got)
		}
	}
	is("at the start", "CN", "", 0, 2)
	if got := db.Trouble()[0].Error(); !strings.Contains(got, absent) {
		t.Error(got)
	}
	was := db.Generation()
	db.look()
	if db.Generation() != was {
		t.Error("what is still broken is read again and again")
	}
	write(absent, string(demo))
	db.look()
	is("the database has come", "CN", "Hangzhou", 37963, 1)
	if db.Generation() == was {
		t.Error("answers by the old facts stay in use")
	}
	write(broken, strings.Join(overlayColumns, ",")+"\n223.5.5.0/24,,,,,,64512\n")
	db.look()
	is("the overlay is mended", "CN", "Hangzhou", 37963, 0)
	if err := os.Remove(absent); err != nil {
		t.Fatal(err)
	}
	db.look()
	is("the database is gone again", "CN", "Hangzhou", 37963, 1)
	if n := counter(t, reg, "homing_dns_geo_reload_errors_total"); n != 3 {
		t.Errorf("%v errors counted", n)
	}
}

// Watch notices by itself, and ends.
func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "geo.mmdb")
	db := open(t, Options{Files: []string{path}, Degrade: true})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); db.Watch(ctx) }()
	was := db.Generation()
	if err := os.WriteFile(path, demo, 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); db.Generation() == was || len(db.Trouble()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(db.Trouble())
		}
	}
	stop()
	<-done
}

func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A place never mixes two databases, the carrier may come from another.
func TestMerge(t *testing.T) {
	country := steer.Facts{Place: region.Place{Country: "CN"}}
	city := steer.Facts{Known: true, Place: region.Place{City: "Hong Kong", Country: "HK"}}
	carrier := steer.Facts{ASN: 4760}
	for _, c := range []struct {
		name string
		all  []steer.Facts
		want steer.Facts
	}{
		{"city and carrier", []steer.Facts{city, carrier}, steer.Facts{Known: true, Place: city.Place, ASN: 4760}},
		{"carrier first", []steer.Facts{carrier, city}, steer.Facts{Known: true, Place: city.Place, ASN: 4760}},
		{"the first city stays", []steer.Facts{city, country}, city},
		{"coordinates beat a country", []steer.Facts{country, city}, city},
		{"the first country stays", []steer.Facts{country, {Place: region.Place{Country: "US"}}}, country},
	} {
		var f steer.Facts
		for i := range c.all {
			merge(&f, &c.all[i])
		}
		if f != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, f, c.want)
		}
	}
}

// Whatever is in a file: it is refused, or lookups in it work.
func FuzzDatabase(f *testing.F) {
	f.Add(0, []byte{0xff}, "223.5.5.5")
	f.Add(len(demo)-100, []byte{0, 1, 2, 3}, "2001:4860::1")
	path := filepath.Join(f.TempDir(), "fuzz.mmdb")
	f.Fuzz(func(t *testing.T, at int, bytes []byte, addr string) {
		raw := append([]byte(nil), demo...)
		if at >= 0 && at < len(raw) {
			copy(raw[at:], bytes)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(Options{Files: []string{path}})
		if err != nil {
			if region.KindOf(err) != region.BadInput {
				t.Fatal(err)
			}
			return
		}
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return
		}
		if facts := db.Lookup(a); !facts.Prefix.Contains(a.Unmap().WithZone("")) {
			t.Fatalf("%s is not in %s", a, facts.Prefix)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	db := open(b, Options{Files: []string{EmbeddedDemo}, View: worldWith(place("127.0.0.0/8", "Loopback", 0))})
	addr := netip.MustParseAddr("223.5.5.5")
	b.ReportAllocs()
	for b.Loop() {
		db.Lookup(addr)
	}
}
