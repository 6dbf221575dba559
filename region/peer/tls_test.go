package peer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

const zone = "im.test"

// authority is a CA that a test makes certificates with.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := new(authority)
	made := a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: time.Now().Add(time.Hour)})
	a.cert, a.key = made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

func (a *authority) issue(t *testing.T, tmpl *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber, tmpl.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-2*time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// of makes a node's certificate that is good for so long.
func (a *authority) of(t *testing.T, id peer.Identity, good time.Duration) tls.Certificate {
	return a.issue(t, &x509.Certificate{DNSNames: []string{"long." + zone, peer.CertificateName(id, zone)}, NotAfter: time.Now().Add(good),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func seed(name string) ed25519.PrivateKey {
	s := make([]byte, ed25519.SeedSize)
	copy(s, name)
	return ed25519.NewKeyFromSeed(s)
}

func public(name string) region.PublicKey {
	return region.PublicKey(seed(name).Public().(ed25519.PublicKey))
}

// TestLinkTLS has region hk ask region sh for what only regions may have, and
// everything that can be wrong with certificates be wrong.
func TestLinkTLS(t *testing.T) {
	ca, strange := newAuthority(t), newAuthority(t)
	sh, hk, ca2, xx, pop := peer.Region("sh"), peer.Region("hk"), peer.Region("ca"), peer.Region("xx"), peer.POP("pop-1")
	world := &region.World{Version: 7, Zone: zone,
		Regions:   []region.Region{{ID: "sh", Key: public("sh")}, {ID: "hk", Key: public("hk")}, {ID: "ca", Key: public("ca")}},
		POPs:      []region.POP{{ID: "pop-1", Key: public("pop-1")}},
		Operators: []region.PublicKey{public("operator")}}
	view := func() *region.View { return region.NewView(world, region.Hash{}, nil) }
	operator := peer.Operator(seed("operator"))
	allow := func(id peer.Identity) bool { return id.Kind == peer.KindRegion || id.Kind == peer.KindOperator }
	handler := peer.NewVerifier(peer.Options{View: view}).Require(allow, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := peer.From(r.Context())
		_, _ = io.WriteString(w, "records for "+id.String())
	}))
	const long = time.Hour
	for _, c := range []struct {
		name           string
		server, client tls.Certificate // the client's: none when empty
		trusts         *authority      // the client; nil is the CA
		as             peer.Identity
		key            string
		status         int
		want           string // of the body, or of the error
	}{
		{name: "a region of the world", server: ca.of(t, sh, long), client: ca.of(t, hk, long), as: hk, key: "hk", status: 200, want: "records for region/hk"},
		{name: "the operator", server: ca.of(t, sh, long), client: ca.of(t, operator, long), as: operator, key: "operator", status: 200, want: "records for operator/"},
		{name: "no certificate", server: ca.of(t, sh, long), as: hk, key: "hk", want: "certificate required"},
		{name: "a certificate of another CA", server: ca.of(t, sh, long), client: strange.of(t, hk, long), as: hk, key: "hk", want: "certificate"},
		{name: "an expired certificate", server: ca.of(t, sh, long), client: ca.of(t, hk, -time.Minute), as: hk, key: "hk", want: "certificate"},
		{name: "another region's certificate", server: ca.of(t, sh, long), client: ca.of(t, ca2, long), as: hk, key: "hk", status: 401, want: "a certificate for long.im.test, ca.region.im.test"},
		{name: "another region's certificate and name", server: ca.of(t, sh, long), client: ca.of(t, ca2, long), as: ca2, key: "hk", status: 401, want: "signature of region/ca"},
		{name: "a region that is not in the world", server: ca.of(t, sh, long), client: ca.of(t, xx, long), as: xx, key: "xx", status: 401, want: "no key for region/xx"},
		{name: "a POP", server: ca.of(t, sh, long), client: ca.of(t, pop, long), as: pop, key: "pop-1", status: 403, want: "may not call"},
		{name: "a POP's certificate for a region", server: ca.of(t, sh, long), client: ca.of(t, pop, long), as: hk, key: "hk", status: 401, want: "pop-1.pop.im.test"},
		{name: "a listener with another region's certificate", server: ca.of(t, ca2, long), client: ca.of(t, hk, long), as: hk, key: "hk", want: "not sh.region.im.test"},
		{name: "a listener with an expired certificate", server: ca.of(t, sh, -time.Minute), client: ca.of(t, hk, long), as: hk, key: "hk", want: "expired"},
		{name: "a listener of another CA", server: strange.of(t, sh, long), client: ca.of(t, hk, long), as: hk, key: "hk", want: "unknown authority"},
		{name: "a caller who trusts another CA", server: ca.of(t, sh, long), client: ca.of(t, hk, long), trusts: strange, as: hk, key: "hk", want: "unknown authority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(handler)
			s.Config.ErrorLog = nil
			s.Listener = tls.NewListener(s.Listener, peer.ServerTLS(c.server, ca.pool()))
			s.Start()
			defer s.Close()
			world.Regions[0].Admin = s.Listener.Addr().String()
			trusts := ca
			if c.trusts != nil {
				trusts = c.trusts
			}
			config := peer.ClientTLS(c.client, trusts.pool())
			if c.client.Leaf == nil {
				config.Certificates = nil
			}
			base := &http.Transport{DialTLSContext: peer.DialTLS(config, view)}
			defer base.CloseIdleConnections()
			client := &http.Client{Transport: peer.NewTransport(c.as, seed(c.key), base)}
			status, got := ask(client, "https://"+world.Regions[0].Admin+"/journal")
			if status != c.status || !strings.Contains(got, c.want) {
				t.Fatalf("%d %s; want %d %s", status, got, c.status, c.want)
			}
		})
	}

	t.Run("plain HTTP", func(t *testing.T) {
		s := httptest.NewUnstartedServer(handler)
		s.Listener = tls.NewListener(s.Listener, peer.ServerTLS(ca.of(t, sh, long), ca.pool()))
		s.Start()
		defer s.Close()
		base := new(http.Transport)
		defer base.CloseIdleConnections()
		if status, got := ask(&http.Client{Transport: peer.NewTransport(hk, seed("hk"), base)}, s.URL); status == 200 {
			t.Fatalf("answered %s", got)
		}
	})
	t.Run("no certificate is set", func(t *testing.T) {
		if _, err := peer.DialTLS(nil, view)(t.Context(), "tcp", "192.0.2.7:7400"); err == nil || !strings.Contains(err.Error(), "set tls.ca") {
			t.Fatal(err)
		}
	})
}

// ask returns the status and body of an answer, or 0 and the error.
func ask(c *http.Client, url string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

// TestAdminURL holds where TLS begins.
func TestAdminURL(t *testing.T) {
	for admin, want := range map[string]string{
		"127.0.0.1:7400": "http://127.0.0.1:7400", "127.9.8.7:1": "http://127.9.8.7:1", "[::1]:7400": "http://[::1]:7400", "localhost:7400": "http://localhost:7400",
		"192.0.2.7:7400": "https://192.0.2.7:7400", "[2001:db8::1]:7400": "https://[2001:db8::1]:7400", "sh.example.com:7400": "https://sh.example.com:7400",
		"localhost.example.com:1": "https://localhost.example.com:1", "0.0.0.0:7400": "https://0.0.0.0:7400", "": "https://",
	} {
		if got := region.AdminURL(admin); got != want {
			t.Errorf("%q: %s, want %s", admin, got, want)
		}
	}
}
