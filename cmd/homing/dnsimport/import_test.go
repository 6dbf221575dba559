package dnsimport

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homing-im/homing/region/worldfile"
)

func read(t testing.TB, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func gdnsdSample(t testing.TB) (*Files, error) {
	return GDNSD("config", read(t, "gdnsd", "config"), "zones/example.org", read(t, "gdnsd", "example.org"), "example.org")
}

// What is written is a world of names as a server takes it.
func TestSamplesCompile(t *testing.T) {
	for name, make := range map[string]func() (*Files, error){
		"gdnsd": func() (*Files, error) { return gdnsdSample(t) },
		"pdns":  func() (*Files, error) { return PDNS("geo.yaml", read(t, "pdns", "geo.yaml"), "") },
	} {
		f, err := make()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		w, err := worldfile.CompileAlone("names.yaml", []byte(f.Names), 1)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, f.Names)
			continue
		}
		if w.Zone != f.Zone || len(w.Rules) == 0 || len(w.POPs) < 3 {
			t.Errorf("%s: %+v", name, w)
		}
	}
}

// What cannot be expressed is refused, with the line and the reason.
func TestRefusals(t *testing.T) {
	config, zone, yaml := read(t, "gdnsd", "config"), read(t, "gdnsd", "example.org"), read(t, "pdns", "geo.yaml")
	checked := strings.Replace(config, "api => {", "api => { service_types => web", 1)
	lineOf := func(text, part string) int { return 1 + strings.Count(text[:strings.Index(text, part)], "\n") }
	for _, c := range []struct{ in, from, to, why string }{
		{config, "nyc => 192.0.2.2", "nyc => [192.0.2.2, 192.0.2.22]", "several addresses"},
		{config, "nyc => 192.0.2.2", "nyc => other.example.net.", "no address"},
		{config, "nyc => 192.0.2.2", "nyc => %multifo!x", "no address"},
		{config, "DE => [fra, nyc]", "DE => []", "empty list"},
		{config, "DE => [fra, nyc]", "DE => [fra, mars]", "datacenter mars"},
		{config, "DE => [fra, nyc]", "DEU => [fra, nyc]", "no country"},
		{config, "NA => ", "XX => ", "no continent"},
		{config, "map => main", "skip_first => true, map => main", "skip_first"},
		{config, "map => main", "map => none", "no map none"},
		{checked, "web => {", "web => { ", "checked in two ways"},
		{checked, "url_path => /healthz", "json => yes", "no counterpart"},
		{checked, "plugin => http_status", "plugin => extmon", "only http_status"},
		{config, "datacenters => [fra, nyc, hkg]", "datacenters => [fra, nyc, hkg], ignore_ecs => true", "ignore_ecs"},
		{config, "maps =>", "$include{x} maps =>", "$include"},
		{zone, "www 300 DYNA", "www 300 DYNC", "alias"},
		{zone, "www 300 DYNA geoip!www", "www 300 DYNA weighted!www", "only the plugin geoip"},
		{zone, "www 300 DYNA geoip!www", "www 300 DYNA geoip!nothing", "no resource nothing"},
		{zone, "www 300 DYNA", "@ 300 DYNA", "own name"},
		{zone, "www 300 DYNA", "a.b 300 DYNA", "several labels"},
		{zone, "$TTL 600", "$ADDR_LIMIT_V4 1", "gdnsd's own"},
		{yaml, "content: 192.0.2.1", "content: 192.0.2.300", "no address"},
		{yaml, "- a: 192.0.2.3", "- cname: x.example.net", "CNAME"},
		{yaml, `"%cc.%cn.service.example.org"`, `"%ip.service.example.org"`, "placeholders"},
		{yaml, `"%cc.%cn.service.example.org"`, `"%cc.nothing.example.org"`, "leads to no record"},
		{yaml, `"*.na.service.example.org":`, `"*.x.example.org":`, "*.na.service.example.org."},
		{yaml, `"*.service.example.org":`, `"*.x.example.org":`, "no record answers clients elsewhere"},
		{yaml, `"de.eu.service.example.org":`, `"ddd.eu.service.example.org":`, "no country"},
		{yaml, `- txt: "v=spf1 -all"`, `- txt: "you are %ip4%"`, "who asks"},
		{yaml, "www.example.org:", "a.b.example.org:", "several labels"},
		{yaml, "ttl: 40", "ttl: 41", "different TTLs"},
		{yaml, "domains:", "mapping_lookup_formats: []\ndomains:", "no counterpart"},
	} {
		if !strings.Contains(c.in, c.from) {
			t.Fatalf("the sample has no %q", c.from)
		}
		changed := strings.Replace(c.in, c.from, c.to, 1)
		var err error
		switch c.in {
		case config, checked:
			_, err = GDNSD("f", changed, "z", zone, "example.org")
		case zone:
			_, err = GDNSD("c", config, "f", changed, "example.org")
		default:
			_, err = PDNS("f", changed, "")
		}
		var r *Refusal
		if !errors.As(err, &r) || !strings.Contains(r.Why, c.why) || r.Line < 1 {
			t.Errorf("%s: %v, want %q", c.to, err, c.why)
			continue
		}
		if want := lineOf(changed, c.to); r.File == "f" && c.in != yaml && r.Line > want+40 {
			t.Errorf("%s: line %d, it stands in %d", c.to, r.Line, want)
		}
	}
}

func FuzzGDNSD(f *testing.F) {
	f.Add(read(f, "gdnsd", "config"), read(f, "gdnsd", "example.org"))
	f.Fuzz(func(t *testing.T, config, zone string) {
		files, err := GDNSD("c", config, "z", zone, "example.org")
		if err == nil && files.Names == "" {
			t.Fatal("nothing was made")
		}
	})
}

func FuzzPDNS(f *testing.F) {
	f.Add(read(f, "pdns", "geo.yaml"))
	f.Fuzz(func(t *testing.T, src string) {
		files, err := PDNS("f", src, "")
		if err == nil && files.Names == "" {
			t.Fatal("nothing was made")
		}
	})
}
