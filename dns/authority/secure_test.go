package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// certificate is for 127.0.0.1, signed by itself.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dns.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, pool
}

func startSecure(t *testing.T) (*harness, *x509.CertPool) {
	t.Helper()
	cert, pool := certificate(t)
	return startWith(t, func(o *Options) {
		o.DoT, o.DoH, o.DoQ = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
		o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}), pool
}

// DoT says what UDP says, several questions on one connection, padded when the
// client pads (RFC 7858, RFC 8467).
func TestDoT(t *testing.T) {
	h, pool := startSecure(t)
	conn, err := dns.DialWithTLS("tcp-tls", h.DoTAddrs()[0].String(), &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, NextProtos: []string{"dot"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, c := range []struct {
		name   string
		prefix string
	}{{"long.demo.test.", "223.5.5.0/24"}, {"u-1000001.v-90003.long.demo.test.", "99.230.0.0/16"}, {"nobody.demo.test.", "223.5.5.0/24"}} {
		ask := question(c.name, dns.TypeA, netip.MustParsePrefix(c.prefix))
		want := h.exchange(t, "udp", ask)
		ask.IsEdns0().Option = append(ask.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, 50)})
		if err := conn.WriteMsg(ask); err != nil {
			t.Fatal(err)
		}
		raw, err := conn.ReadMsgHeader(nil)
		if err != nil {
			t.Fatal(err)
		}
		var got dns.Msg
		if err := got.Unpack(raw); err != nil {
			t.Fatal(err)
		}
		if len(raw)%padBlock != 0 || scopeOf(&got) != scopeOf(want) || strings.Join(addrsIn(&got), ",") != strings.Join(addrsIn(want), ",") || got.Rcode != want.Rcode {
			t.Errorf("%d bytes\n%s\nwant\n%s", len(raw), &got, want)
		}
	}
	if n := h.count(t, "homing_dns_responses_total{NOERROR,dot}"); n != 2 {
		t.Errorf("%v counted", n)
	}
	// Who speaks no TLS is not served, and nobody waits for him.
	plain, err := net.Dial("tcp", h.DoTAddrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	if _, err := plain.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, plain); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

// DoH by GET and POST over HTTP/1.1 and HTTP/2, and what it refuses (RFC 8484).
func TestDoH(t *testing.T) {
	h, pool := startSecure(t)
	url := "https://" + h.DoHAddrs()[0].String() + "/dns-query"
	ask := question("long.demo.test.", dns.TypeA, netip.MustParsePrefix("223.5.5.0/24"))
	ask.Id = 0
	packet, err := ask.Pack()
	if err != nil {
		t.Fatal(err)
	}
	want := h.respond(packet, netip.MustParseAddr("127.0.0.1"), overTCP)
	for _, two := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: two}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		do := func(method, url, contentType string, body []byte) (*http.Response, []byte) {
			r, err := http.NewRequest(method, url, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", contentType)
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			raw, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if (resp.ProtoMajor == 2) != two {
				t.Fatalf("HTTP/%d", resp.ProtoMajor)
			}
			return resp, raw
		}
		inURL := url + "?dns=" + base64.RawURLEncoding.EncodeToString(packet)
		for _, c := range []struct {
			method, url, contentType string
			body                     []byte
			status                   int
		}{
			{"GET", inURL, "", nil, 200},
			{"POST", url, dohType, packet, 200},
			{"GET", url, "", nil, 400},
			{"GET", url + "?dns=!", "", nil, 400},
			{"GET", url + "?dns=AAAA", "", nil, 400}, // shorter than a header
			{"POST", url, "text/plain", packet, 415},
			{"POST", url, dohType, make([]byte, maxMessage+1), 413},
			{"PUT", url, dohType, packet, 405},
		} {
			resp, raw := do(c.method, c.url, c.contentType, c.body)
			if resp.StatusCode != c.status {
				t.Errorf("%s %s: %d, want %d", c.method, c.url, resp.StatusCode, c.status)
			}
			if c.status == 200 && (!bytes.Equal(raw, want) || resp.Header.Get("Content-Type") != dohType || resp.Header.Get("Cache-Control") != "max-age=20") {
				t.Errorf("%s: %x, %v\nwant %x", c.method, raw, resp.Header, want)
			}
		}
		// The parameters say what the name does not.
		resp, raw := do("POST", url+"?uin=1000001&ver=90003", dohType, packet)
		var told dns.Msg
		if err := told.Unpack(raw); err != nil || resp.StatusCode != 200 || strings.Join(addrsIn(&told), " ") != "127.2.0.3" {
			t.Errorf("with UIN and version: %d, %v, %s", resp.StatusCode, err, &told)
		}
		if resp, raw := do("GET", inURL+"&uin=01", "", nil); resp.StatusCode != 400 || !bytes.Contains(raw, []byte(`uin=\"01\"`)) {
			t.Errorf("a bad UIN: %d %s", resp.StatusCode, raw)
		}
		if resp, raw := do("GET", strings.TrimSuffix(url, "/dns-query")+"/d?host=long.demo.test&ip=223.5.5.0/24", "", nil); resp.StatusCode != 200 || !bytes.Contains(raw, []byte("127.2.0.1")) {
			t.Errorf("HTTPDNS over TLS: %d %s", resp.StatusCode, raw)
		}
	}
	if n := h.count(t, "homing_dns_responses_total{NOERROR,doh}"); n != 6 {
		t.Errorf("%v counted", n)
	}
}

// The real kdig, over all transports.
func TestKdig(t *testing.T) {
	if _, err := exec.LookPath("kdig"); err != nil {
		t.Skip("kdig is not installed (Debian: knot-dnsutils)")
	}
	h, _ := startSecure(t)
	for _, c := range []struct {
		how  string
		at   netip.AddrPort
		args string
	}{
		{"UDP", h.Addrs()[0], "+notcp"}, {"TCP", h.Addrs()[0], "+tcp +keepopen"}, {"DoT", h.DoTAddrs()[0], "+tls"},
		{"DoH POST", h.DoHAddrs()[0], "+https"}, {"DoH GET", h.DoHAddrs()[0], "+https +https-get"},
		{"DoQ", h.DoQAddrs()[0], "+quic"},
	} {
		args := append([]string{"@127.0.0.1", "-p", strconv.Itoa(int(c.at.Port())), "+subnet=223.5.5.0/24", "+retry=0"}, strings.Fields(c.args)...)
		out, err := exec.Command("kdig", append(args, "long.demo.test", "A")...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "127.2.0.1") || !strings.Contains(string(out), "223.5.5.0/24/24") || !strings.Contains(string(out), "NOERROR") {
			t.Errorf("%s: %v\n%s", c.how, err, out)
		}
	}
}

// Without a certificate there is no listener that needs one.
func TestTLSNeedsACertificate(t *testing.T) {
	h := start(t)
	for _, o := range []Options{{DoT: []string{"127.0.0.1:0"}}, {DoH: []string{"127.0.0.1:0"}}, {DoQ: []string{"127.0.0.1:0"}}} {
		o.View, o.Health, o.Geo = h.view.Load, h.o.Health, h.geo
		if _, err := New(o); region.KindOf(err) != region.BadInput || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%v", err)
		}
	}
}
