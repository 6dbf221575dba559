package dnsimport

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/cmd/homing/node"
)

// ask returns the sorted addresses that a server says to a client.
func ask(at, name string, qtype uint16, client netip.Prefix) (string, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(client.Bits()), Address: net.IP(client.Addr().AsSlice())}}
	got, _, err := (&dns.Client{Timeout: 2 * time.Second}).Exchange(m, at)
	if err != nil {
		return "", err
	}
	var out []string
	for _, rr := range got.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			out = append(out, fmt.Sprintf("%s %d", rr.A, rr.Hdr.Ttl))
		case *dns.AAAA:
			out = append(out, fmt.Sprintf("%s %d", rr.AAAA, rr.Hdr.Ttl))
		case *dns.CNAME: // the other server's way to what a wildcard has
		default:
			out = append(out, rr.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", "), nil
}

// ownAddress is a loopback address that nobody else uses, where port is free over
// UDP and TCP: a free port of 127.0.0.1 may be taken by the time a child binds it.
func ownAddress() string {
	return fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(128), rand.IntN(256), 1+rand.IntN(254))
}

const port = 5354

// child runs a program until the test ends, and waits until it answers.
func child(t *testing.T, at, name string, program string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Wait() }()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-ended
	})
	for end := time.Now().Add(60 * time.Second); ; {
		if _, err := ask(at, name, dns.TypeA, netip.MustParsePrefix("8.8.8.0/24")); err == nil {
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", program, out.String())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not answer", program)
		}
	}
}

// imported runs a server of what was written and returns its address.
func imported(t *testing.T, f *Files) string {
	t.Helper()
	dir := t.TempDir()
	names, zone := filepath.Join(dir, "names.yaml"), filepath.Join(dir, "zone")
	put(t, names, f.Names)
	put(t, zone, f.Rest)
	file := filepath.Join(dir, "node.yaml")
	put(t, file, "name: ns1\nroles: [dns]\nalone: {steering: names.yaml, listen: [\"127.0.0.1:0\"]}\ndns: {zones: [zone]}\n")
	cfg, err := node.ReadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := node.StartAlone(context.Background(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("%v\n%s", err, f.Names)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s.Addrs()[0]
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// same asks both servers for clients all over the world.
func same(t *testing.T, theirs, ours string, names []string) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 6))
	clients := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("203.0.113.200/32"), netip.MustParsePrefix("10.0.0.0/24")}
	for len(clients) < 250 {
		a := netip.AddrFrom4([4]byte{byte(1 + r.IntN(222)), byte(r.IntN(256)), byte(r.IntN(256)), 0})
		clients = append(clients, netip.PrefixFrom(a, 24))
	}
	answers := map[string]int{}
	for _, name := range names {
		for i, c := range clients {
			qtype := dns.TypeA
			if i%10 == 9 {
				qtype = dns.TypeAAAA
			}
			want, err := ask(theirs, name, qtype, c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ask(ours, name, qtype, c)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%s %s for %s: %q, they say %q", name, dns.TypeToString[qtype], c, got, want)
			}
			answers[want]++
		}
	}
	t.Logf("%d clients, %d names: %v", len(clients), len(names), answers)
	if len(answers) < 4 {
		t.Errorf("only %d different answers: %v", len(answers), answers)
	}
}

// The real gdnsd answers the same, by the same geo database.
func TestAgainstGDNSD(t *testing.T) {
	gdnsd, err := exec.LookPath("gdnsd")
	if err != nil {
		if gdnsd, err = exec.LookPath("/usr/sbin/gdnsd"); err != nil {
			t.Skip("gdnsd is not installed (Debian: gdnsd)")
		}
	}
	dir, host := t.TempDir(), ownAddress()
	config := strings.Replace(read(t, "gdnsd", "config"), "zones_default_ttl = 900", fmt.Sprintf(
		"zones_default_ttl = 900, listen => [%s], dns_port => %d, run_dir => %s/run, state_dir => %s/state, udp_threads => 1, tcp_threads => 1", host, port, dir, dir), 1)
	put(t, filepath.Join(dir, "config"), config)
	put(t, filepath.Join(dir, "zones", "example.org"), read(t, "gdnsd", "example.org"))
	database(t, filepath.Join(dir, "geoip", "country.mmdb"))
	for _, sub := range []string{"run", "state"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	at := fmt.Sprintf("%s:%d", host, port)
	child(t, at, "www.example.org.", gdnsd, "-c", dir, "start")
	f, err := gdnsdSample(t)
	if err != nil {
		t.Fatal(err)
	}
	same(t, at, imported(t, f), []string{"www.example.org.", "api.example.org.", "fra-only.example.org."})
}

// The real PowerDNS answers the same, likewise.
func TestAgainstPDNS(t *testing.T) {
	pdns, err := exec.LookPath("pdns_server")
	if err != nil {
		if pdns, err = exec.LookPath("/usr/sbin/pdns_server"); err != nil {
			t.Skip("pdns_server is not installed (Debian: pdns-server, pdns-backend-geoip)")
		}
	}
	if found, _ := filepath.Glob("/usr/lib/*/pdns/libgeoipbackend.so"); len(found) == 0 {
		t.Skip("the geoip backend of PowerDNS is not installed (Debian: pdns-backend-geoip)")
	}
	dir, host := t.TempDir(), ownAddress()
	database(t, filepath.Join(dir, "country.mmdb"))
	put(t, filepath.Join(dir, "geo.yaml"), read(t, "pdns", "geo.yaml"))
	put(t, filepath.Join(dir, "pdns.conf"), fmt.Sprintf(`launch=geoip
geoip-database-files=mmdb:%[1]s/country.mmdb
geoip-zones-file=%[1]s/geo.yaml
local-address=%[3]s
local-port=%[2]d
edns-subnet-processing=yes
socket-dir=%[1]s
daemon=no
guardian=no
`, dir, port, host))
	at := fmt.Sprintf("%s:%d", host, port)
	child(t, at, "www.example.org.", pdns, "--config-dir="+dir)
	f, err := PDNS("geo.yaml", read(t, "pdns", "geo.yaml"), "")
	if err != nil {
		t.Fatal(err)
	}
	same(t, at, imported(t, f), []string{"www.example.org."})
}

// database puts the embedded countries where another server reads them.
func database(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile("../../../dns/geo/country.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	put(t, path, string(b))
}
