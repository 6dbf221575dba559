package node

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homing-im/homing/deploy/test/child"
)

func TestAloneSample(t *testing.T) {
	cfg, err := ReadConfig("../../../deploy/dns-only.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Alone == nil || !strings.HasSuffix(cfg.Alone.Steering, "deploy/dns-only/names.yaml") || cfg.Health.Interval != 2*time.Second {
		t.Errorf("%+v", cfg)
	}
}

func TestBadAlone(t *testing.T) {
	const good = "name: a\nroles: [dns]\nalone: {steering: n.yaml, listen: [\"127.0.0.1:0\"]}\n"
	for _, c := range []struct{ file, want string }{
		{strings.Replace(good, "[dns]", "[dns, pop]", 1), "2:8: roles [dns pop]"},
		{good + "world: w.json\n", "4:8: world belongs to a member of a world"},
		{good + "gossip: {bind: \"127.0.0.1:1\"}\n", "gossip.bind belongs to"},
		{good + "admin: 192.0.2.1:80\n", "4:8: admin 192.0.2.1:80 is not loopback"},
		{good + "dns: {dot: [\":853\"]}\n", "dns.dot needs a certificate"},
		{good + "health: {interval: 1ms}\n", "4:20: health.interval 1ms"},
		{"name: a\nroles: [dns]\nalone: {listen: [\":53\"]}\n", "alone.steering is missing"},
		{"name: a\nroles: [dns]\nalone: {steering: n.yaml}\n", "alone.listen is missing"},
		{"name: a\nroles: [dns]\nalone: {steering: n.yaml, listen: [\"53\"]}\n", "want host:port"},
		{"name: a\nroles: [dns]\nalone: {stering: n.yaml}\n", `unknown field "stering"`},
	} {
		path := filepath.Join(t.TempDir(), "x.yaml")
		if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadConfig(path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// alone runs a stand-alone server whose names are in the text.
func alone(t *testing.T, names string, change ...func(*Config)) (*Standalone, string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "names.yaml")
	if err := os.WriteFile(file, []byte(names), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := &Config{Name: "ns1", Roles: []Role{RoleDNS}, Alone: &Alone{Steering: file, Listen: []string{"127.0.0.1:0"}},
		Health: Health{Interval: 50 * time.Millisecond, Rise: 1, Fall: 1}}
	for _, f := range change {
		f(cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := StartAlone(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, file
}

// resolved asks the server until the addresses of www are as wanted.
func resolved(t *testing.T, s *Standalone, want ...string) {
	t.Helper()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Addrs()[0])
	}}
	var got []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		got, _ = r.LookupHost(ctx, "www.geo.test.")
		cancel()
		if strings.Join(got, " ") == strings.Join(want, " ") {
			return
		}
		select {
		case <-s.health.Changed():
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("got %v, want %v", got, want)
}

// Checks over TCP, TLS and HTTP take what fails out of the answer, and SIGHUP's
// Reload brings new names; a wrong file leaves what was.
func TestAloneSteersByHealth(t *testing.T) {
	var ill atomic.Bool
	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.Host != "www.example.com" || ill.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	plain := httptest.NewServer(site)
	defer plain.Close()
	_, port, _ := net.SplitHostPort(plain.Listener.Addr().String())
	names := `zone: geo.test
steering: {answers: 1}
pops:
  - id: near
    place: {country: CN, lat: 31, lon: 121}
    names: [{name: www, a: 127.0.0.1}]
    check: {via: http, port: ` + port + `, path: /healthz, host: www.example.com}
  - id: far
    place: {country: US, lat: 40, lon: -74}
    names: [{name: www, a: 192.0.2.2}]
    check: {via: none}
places: [{prefix: 127.0.0.0/8, place: {country: CN, lat: 31, lon: 121}}]
`
	s, file := alone(t, names)
	resolved(t, s, "127.0.0.1")
	ill.Store(true)
	resolved(t, s, "192.0.2.2")
	ill.Store(false)
	resolved(t, s, "127.0.0.1")

	serial := s.Status().World
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(names, "127.0.0.1}", "192.0.2.9}", 1) + "rules: [{name: all, act: {pops: [faar]}}]\n")
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), `"faar"`) {
		t.Errorf("reload of a wrong file: %v", err)
	}
	resolved(t, s, "127.0.0.1")
	write(names + "rules: [{name: all, act: {pops: [far]}}]\n")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	resolved(t, s, "192.0.2.2")
	if now := s.Status().World; now <= serial {
		t.Errorf("serial %d after %d", now, serial)
	}
}

// A geo database that is missing, or is none, stops nobody: the node answers by
// what remains, says so at /readyz, and takes the database up when it comes.
func TestStartsWithoutGeo(t *testing.T) {
	database := filepath.Join(t.TempDir(), "city.csv")
	at := child.Addresses(2)
	admin, http := at[0], at[1]
	alone(t, `zone: geo.test
steering: {answers: 1}
pops:
  - {id: asia, place: {country: CN, lat: 31, lon: 121}, names: [{name: www, a: 192.0.2.1}], check: {via: none}}
  - {id: america, place: {country: US, lat: 40, lon: -74}, names: [{name: www, a: 192.0.2.2}], check: {via: none}}
rules: [{name: osaka, match: {cities: [Osaka]}, act: {pops: [america]}}]
`, func(c *Config) { c.Geo, c.Admin, c.Alone.HTTP = []string{database}, admin, []string{http} })
	japan := "http://" + http + "/d?host=www.geo.test&ip=210.130.1.1" // as the built-in countries have it
	if got := body(t, japan); !strings.Contains(got, `"ips":["192.0.2.1"]`) {
		t.Errorf("a client in Japan is answered %s", got)
	}
	if ready := body(t, "http://"+admin+"/readyz"); !strings.HasPrefix(ready, "ready\ndegraded: ") || !strings.Contains(ready, database) {
		t.Errorf("/readyz: %q", ready)
	}
	if metrics := body(t, "http://"+admin+"/metrics"); !strings.Contains(metrics, "\nhoming_dns_geo_unusable_files 1\n") {
		t.Errorf("no metric says it:\n%s", metrics)
	}
	if err := os.WriteFile(database, []byte("prefix,continent,country,city,latitude,longitude,asn\n210.130.0.0/16,AS,JP,Osaka,34.7,135.5,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(body(t, japan), `"ips":["192.0.2.2"]`); {
		if time.Now().After(end) {
			t.Fatal("the database that came is not used")
		}
		<-time.After(10 * time.Millisecond)
	}
	if ready := body(t, "http://"+admin+"/readyz"); ready != "ready\n" {
		t.Errorf("/readyz: %q", ready)
	}
}
