package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/dns/authority"
)

// demoZone is the zone of the demo's world.
const demoZone = "demo.test"

// The demo's listeners for DNS over TLS, QUIC (the same number) and HTTPS.
func (w *world) dot() string { return fmt.Sprintf("127.0.0.1:%d", w.base+54) }
func (w *world) doh() string { return fmt.Sprintf("127.0.0.1:%d", w.base+55) }

// everyTransport asks for every client with dig and by DNS over TLS, HTTPS and
// QUIC, and has it explained; each answer is the one predicted, as address:port in
// order, which HTTPDNS has given already.
func (w *world) everyTransport(all []asker, predicted [][]string) {
	t := w.t
	t.Helper()
	pool, err := pki.Pool(filepath.Join(w.dir, "tls", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]func(asker) []string{
		"DoT": overTLS(t, w.dot(), pool), "DoH": overHTTPS(t, "https://"+w.doh()+"/dns-query", pool), "DoQ": overQUIC(t, w.dot(), pool),
		"explain": w.explained,
	}
	byDig := w.digAll(all)
	wrong := map[string]int{}
	for i, a := range all {
		var ips []string
		for _, e := range predicted[i] {
			ip, _, _ := net.SplitHostPort(e)
			ips = append(ips, ip)
		}
		said := map[string][]string{"dig": byDig[i]}
		for way, ask := range ways {
			said[way] = ask(a)
		}
		for way, got := range said {
			if !slices.Equal(got, ips) {
				if wrong[way]++; wrong[way] < 3 {
					t.Errorf("%s: %s is told %v, predicted was %v", way, a, got, ips)
				}
			}
		}
	}
	t.Logf("dig, DoT, DoH, DoQ and explain asked for %d clients; not as predicted: %v", len(all), wrong)
}

// inDemo is the client's name in the demo's zone.
func (a asker) inDemo() string { return strings.Replace(a.name(), deployedZone, demoZone, 1) + "." }

// message asks for the client's addresses, as a resolver that states its network.
func (a asker) message() *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(a.inDemo(), dns.TypeA)
	m.Id = 0 // DoQ wants it
	m.SetEdns0(1232, false)
	family := uint16(1)
	if a.ip.Is6() {
		family = 2
	}
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(a.ip.BitLen()), Address: a.ip.AsSlice()}}
	return m
}

func addressesIn(t testing.TB, m *dns.Msg) (out []string) {
	t.Helper()
	if m.Rcode != dns.RcodeSuccess || m.Truncated {
		t.Fatal(m)
	}
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			out = append(out, a.A.String())
		}
	}
	return out
}

func overTLS(t testing.TB, at string, pool *x509.CertPool) func(asker) []string {
	t.Helper()
	conn, err := dns.DialWithTLS("tcp-tls", at, &tls.Config{RootCAs: pool, NextProtos: []string{"dot"}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(a asker) []string {
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if err := conn.WriteMsg(a.message()); err != nil {
			t.Fatal(err)
		}
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		return addressesIn(t, m)
	}
}

// overHTTPS says UIN and version in parameters, not in the name.
func overHTTPS(t testing.TB, at string, pool *x509.CertPool) func(asker) []string {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	return func(a asker) []string {
		ask := a.message()
		ask.Question[0].Name = "long." + demoZone + "."
		raw, err := ask.Pack()
		if err != nil {
			t.Fatal(err)
		}
		p := url.Values{"dns": {base64.RawURLEncoding.EncodeToString(raw)}}
		if a.uin != 0 {
			p.Set("uin", strconv.FormatUint(a.uin, 10))
		}
		if a.version != 0 {
			p.Set("ver", strconv.FormatUint(uint64(a.version), 10))
		}
		resp, err := client.Get(at + "?" + p.Encode())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		var m dns.Msg
		if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || m.Unpack(body) != nil {
			t.Fatalf("%v: %s over %s, %q", err, resp.Status, resp.Proto, body)
		}
		return addressesIn(t, &m)
	}
}

func overQUIC(t testing.TB, at string, pool *x509.CertPool) func(asker) []string {
	t.Helper()
	conn, err := quic.DialAddr(t.Context(), at, &tls.Config{RootCAs: pool, NextProtos: []string{"doq"}, MinVersion: tls.VersionTLS13}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	return func(a asker) []string {
		raw, err := a.message().Pack()
		if err != nil {
			t.Fatal(err)
		}
		s, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		framed, err := io.ReadAll(s)
		var m dns.Msg
		if err != nil || len(framed) < 2 || m.Unpack(framed[2:]) != nil {
			t.Fatalf("%v: %x", err, framed)
		}
		return addressesIn(t, &m)
	}
}

func (w *world) explained(a asker) (out []string) {
	w.t.Helper()
	var x authority.Explanation
	if status := getJSON(w.t, w.endpoints().HTTPDNS+"/explain?"+strings.ReplaceAll(a.query(), deployedZone, demoZone), &x); status != http.StatusOK {
		w.t.Fatalf("explain: %d", status)
	}
	for _, e := range x.Answer.Endpoints {
		out = append(out, e.Address.Addr().String())
	}
	return out
}

// digAll asks for all clients with one process.
func (w *world) digAll(all []asker) (out [][]string) {
	t := w.t
	t.Helper()
	if _, err := exec.LookPath("dig"); err != nil {
		t.Skip("dig is not installed (Debian: bind9-dnsutils)")
	}
	host, port, err := net.SplitHostPort(w.endpoints().DNS)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, a := range all {
		fmt.Fprintf(&b, "@%s -p %s %s A %s +nocookie +noall +question +answer\n", host, port, a.inDemo(), a.subnet())
	}
	file := filepath.Join(t.TempDir(), "questions")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.CommandContext(t.Context(), "dig", "-f", file).CombinedOutput()
	if err != nil {
		t.Fatalf("dig: %v\n%s", err, tail(text, 1000))
	}
	for line := range strings.Lines(string(text)) {
		switch f := strings.Fields(line); {
		case strings.HasPrefix(line, ";;"): // that it comes again by TCP
		case strings.HasPrefix(line, ";"):
			if len(out) == len(all) || !strings.HasPrefix(line, ";"+all[len(out)].inDemo()) {
				t.Fatalf("dig: %s", line)
			}
			out = append(out, nil)
		case len(f) == 5 && f[3] == "A" && len(out) > 0:
			out[len(out)-1] = append(out[len(out)-1], f[4])
		}
	}
	if len(out) != len(all) {
		t.Fatalf("dig answered %d of %d questions", len(out), len(all))
	}
	return out
}

// The demo answers the tools that people look at name servers with: kdig over TLS
// and HTTPS, delv with the zone's key.
func TestDemoAnswersTools(t *testing.T) {
	d := startDemo(t)
	run := func(want string, command ...string) {
		t.Helper()
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Logf("%s is not installed", command[0])
			return
		}
		out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v, want %q\n%s", command, err, want, out)
		}
	}
	ca := filepath.Join(d.dir, "tls", "ca.pem")
	want, _, _ := net.SplitHostPort(d.endpoints().POPs["pop-1"].Long) // the nearest to that network
	_, dot, _ := net.SplitHostPort(d.dot())
	_, doh, _ := net.SplitHostPort(d.doh())
	ask := []string{"long." + demoZone, "A", "+subnet=223.5.5.0/24", "@127.0.0.1"}
	run(want, append([]string{"kdig", "-p", dot, "+tls-ca=" + ca, "+tls-hostname=ns1." + demoZone}, ask...)...)
	run(want, append([]string{"kdig", "-p", doh, "+https", "+tls-ca=" + ca, "+tls-hostname=ns1." + demoZone}, ask...)...)

	ring, err := authority.LoadKeyRing(filepath.Join(d.dir, "zone"))
	if err != nil {
		t.Fatal(err)
	}
	keys, _ := ring.Serving()
	key, err := authority.DNSKEY(demoZone, &keys[0].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	anchor := filepath.Join(t.TempDir(), "anchor")
	if err := os.WriteFile(anchor, []byte(fmt.Sprintf("trust-anchors { %s. static-key 257 3 13 %q; };\n", demoZone, key.PublicKey)), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(d.endpoints().DNS)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"u-1000001.long." + demoZone, "nobody." + demoZone} {
		run("fully validated", "delv", "@"+host, "-p", port, "-a", anchor, "+root="+demoZone, name, "A")
	}
}
