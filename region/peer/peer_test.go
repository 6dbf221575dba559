package peer

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"crypto/sha256"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/homing-im/homing/region"
)

func key(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

func public(name string) region.PublicKey {
	return region.PublicKey(key(name).Public().(ed25519.PublicKey))
}

var (
	sh   = Region("sh")
	pop1 = POP("pop-1")
	dns1 = Identity{KindDNS, "dns-1"}
	ids1 = Identity{KindIDs, "ids-1"}
)

func view() *region.View {
	return region.NewView(&region.World{Version: 7,
		Regions: []region.Region{{ID: "sh", Key: public("sh"), Admin: "127.0.0.1:1"}, {ID: "hk"}},
		POPs:    []region.POP{{ID: "pop-1", Key: public("pop-1")}},
		DNS:     []region.Node{{Name: "dns-1", Key: public("dns-1")}},
		IDs:     []region.Node{{Name: "ids-1", Key: public("ids-1")}},
	}, region.Hash{}, nil)
}

// echo answers who asked and what it read.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	id, _ := From(r.Context())
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, id.String()+" "+r.Method+" "+string(body))
})

func TestEveryKindOfNodeOverTheWire(t *testing.T) {
	s := httptest.NewServer(Require(view, nil, echo))
	defer s.Close()
	for id, k := range map[Identity]ed25519.PrivateKey{sh: key("sh"), pop1: key("pop-1"), dns1: key("dns-1"), ids1: key("ids-1")} {
		base := &http.Transport{DisableKeepAlives: true}
		c := &http.Client{Transport: NewTransport(id, k, base)}
		for _, body := range []string{"", "hello"} {
			r, err := c.Post(s.URL+"/a/b?c=d%20e&f", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil || r.StatusCode != 200 || string(got) != id.String()+" POST "+body {
				t.Fatalf("%s: %s %s %v", id, r.Status, got, err)
			}
		}
	}
}

// capture signs a request and keeps it instead of sending it.
type capture struct{ r *http.Request }

func (c *capture) RoundTrip(r *http.Request) (*http.Response, error) {
	c.r = r
	return httptest.NewRecorder().Result(), nil
}

// signed returns a request as a server would see it.
func signed(t *testing.T, id Identity, k ed25519.PrivateKey, now time.Time, body string) *http.Request {
	t.Helper()
	c := new(capture)
	tr := &transport{id: id, key: k, base: c, now: func() time.Time { return now }}
	r := httptest.NewRequest(http.MethodPost, "http://node:7400/x?y=1", strings.NewReader(body))
	r.RequestURI = ""
	if _, err := tr.RoundTrip(r); err != nil {
		t.Fatal(err)
	}
	c.r.RequestURI = "/x?y=1"
	return c.r
}

func TestRefusals(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	for _, c := range []struct {
		name   string
		status int
		text   string
		change func(*http.Request) *http.Request
	}{
		{"good", 200, "region/sh POST body", nil},
		{"unsigned", 401, "not signed by a node", func(r *http.Request) *http.Request { r.Header = http.Header{}; return r }},
		{"no such kind", 401, "is not a node", func(r *http.Request) *http.Request { r.Header.Set(headerNode, "king/sh"); return r }},
		{"another's name", 401, "does not match world 7's key", func(r *http.Request) *http.Request { r.Header.Set(headerNode, "pop/pop-1"); return r }},
		{"unknown node", 401, "world 7 has no key for region/xx", func(r *http.Request) *http.Request { r.Header.Set(headerNode, "region/xx"); return r }},
		{"node without a key", 401, "world 7 has no key for region/hk", func(r *http.Request) *http.Request { r.Header.Set(headerNode, "region/hk"); return r }},
		{"another's key", 401, "does not match", func(*http.Request) *http.Request { return signed(t, sh, key("pop-1"), now, "body") }},
		{"61 s old", 401, "off this node's clock", func(*http.Request) *http.Request { return signed(t, sh, key("sh"), now.Add(-61*time.Second), "body") }},
		{"61 s ahead", 401, "set both clocks", func(*http.Request) *http.Request { return signed(t, sh, key("sh"), now.Add(61*time.Second), "body") }},
		{"60 s old", 200, "region/sh", func(*http.Request) *http.Request { return signed(t, sh, key("sh"), now.Add(-60*time.Second), "body") }},
		{"time changed", 401, "does not match", func(r *http.Request) *http.Request {
			r.Header.Set(headerTime, strconv.FormatInt(now.UnixMilli()+1, 10))
			return r
		}},
		{"no time", 401, "not a Unix time", func(r *http.Request) *http.Request { r.Header.Set(headerTime, "soon"); return r }},
		{"nonce changed", 401, "does not match", func(r *http.Request) *http.Request { r.Header.Set(headerNonce, strings.Repeat("00", 16)); return r }},
		{"nonce short", 401, "32 hex digits", func(r *http.Request) *http.Request { r.Header.Set(headerNonce, "00"); return r }},
		{"nonce long", 401, "32 hex digits", func(r *http.Request) *http.Request { r.Header.Set(headerNonce, strings.Repeat("00", 17)); return r }},
		{"signature cut", 401, "not base64 of 64 bytes", func(r *http.Request) *http.Request { r.Header.Set(headerSignature, "AAAA"); return r }},
		{"method changed", 401, "does not match", func(r *http.Request) *http.Request { r.Method = "PUT"; return r }},
		{"path changed", 401, "does not match", func(r *http.Request) *http.Request { r.RequestURI = "/z?y=1"; return r }},
		{"query changed", 401, "does not match", func(r *http.Request) *http.Request { r.RequestURI = "/x?y=2"; return r }},
		{"host changed", 401, "does not match", func(r *http.Request) *http.Request { r.Host = "other:7400"; return r }},
		{"body changed", 401, "does not match", func(r *http.Request) *http.Request {
			r.Body = io.NopCloser(strings.NewReader("b0dy"))
			return r
		}},
		{"body too large", 413, "over 8388608 bytes", func(r *http.Request) *http.Request {
			r.Body = io.NopCloser(io.LimitReader(zeros{}, MaxBody+1))
			return r
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			v := NewVerifier(Options{View: view, Registry: reg, Now: func() time.Time { return now }})
			r := signed(t, sh, key("sh"), now, "body")
			if c.change != nil {
				r = c.change(r)
			}
			w := httptest.NewRecorder()
			v.Require(nil, echo).ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) || strings.Count(w.Body.String(), "\n") > 1 {
				t.Fatalf("%d %q", w.Code, w.Body)
			}
			if n := refused(t, reg); (n == 1) != (c.status != 200) {
				t.Fatalf("%v refusals counted", n)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func refused(t *testing.T, reg *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n += sum(m)
		}
	}
	return n
}

func sum(m *dto.Metric) float64 { return m.GetCounter().GetValue() }

func TestReplayIsRefused(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	h := NewVerifier(Options{View: view, Now: func() time.Time { return now }}).Require(nil, echo)
	ask := func(r *http.Request) int {
		again := r.Clone(r.Context())
		again.Body = io.NopCloser(strings.NewReader("body"))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, again)
		return w.Code
	}
	// From a clock a whole window ahead: good for two windows.
	r := signed(t, sh, key("sh"), now.Add(Window), "body")
	for i, want := range []int{200, 401, 401} {
		if got := ask(r); got != want {
			t.Fatalf("time %d: %d", i, got)
		}
	}
	now = now.Add(2 * Window)
	if got := ask(r); got != 401 {
		t.Fatalf("at the end of its window: %d", got)
	}
	if got := ask(signed(t, sh, key("sh"), now, "body")); got != 200 {
		t.Fatalf("a fresh one: %d", got)
	}
}

func TestNoncesAreBoundedPerNode(t *testing.T) {
	n := newNonces()
	now := time.Now()
	nonce := func(i int) (b [16]byte) { b[0], b[1], b[2] = byte(i), byte(i>>8), byte(i>>16); return b }
	for i := range maxNonces {
		if n.add(pop1, nonce(i), now) != fresh {
			t.Fatal(i)
		}
	}
	if n.add(pop1, nonce(maxNonces), now) != full {
		t.Fatal("no bound")
	}
	if n.add(sh, nonce(0), now) != fresh {
		t.Fatal("one node's flood is another's trouble")
	}
	if n.add(pop1, nonce(maxNonces), now.Add(2*Window+time.Millisecond)) != fresh || len(n.of[pop1].queue) != 1 {
		t.Fatal("what is past is kept")
	}
}

func TestAllowAndNoWorld(t *testing.T) {
	now := time.Now()
	onlyRegions := func(id Identity) bool { return id.Kind == KindRegion }
	for name, c := range map[string]struct {
		view func() *region.View
		id   Identity
		key  string
		want int
	}{
		"a region":    {view, sh, "sh", 200},
		"a POP":       {view, pop1, "pop-1", 403},
		"no world":    {func() *region.View { return nil }, sh, "sh", 503},
		"an outsider": {view, sh, "nobody", 401},
	} {
		w := httptest.NewRecorder()
		Require(c.view, onlyRegions, echo).ServeHTTP(w, signed(t, c.id, key(c.key), now, ""))
		if w.Code != c.want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// What one node was told cannot be repeated to another.
func TestMisdirected(t *testing.T) {
	v := view()
	s := httptest.NewServer(Require(func() *region.View { return v }, nil, echo))
	defer s.Close()
	v.World.Regions[1].Admin = s.Listener.Addr().String() // hk is who listens
	c := new(capture)
	r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:1/x", nil) // made out to sh
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewTransport(pop1, key("pop-1"), c).RoundTrip(r); err != nil {
		t.Fatal(err)
	}
	c.r.Host = "127.0.0.1:1"
	c.r.URL.Host = s.Listener.Addr().String()
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := tr.RoundTrip(c.r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 401 || !strings.Contains(string(text), "made out to 127.0.0.1:1") {
		t.Fatalf("%s %s %v", res.Status, text, err)
	}
}

func TestOversizedBodyIsNotSent(t *testing.T) {
	c := new(capture)
	r, err := http.NewRequest(http.MethodPost, "http://node/x", io.LimitReader(zeros{}, MaxBody+1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewTransport(sh, key("sh"), c).RoundTrip(r); region.KindOf(err) != region.TooLarge || c.r != nil {
		t.Fatal(err)
	}
}

func TestCoveredGolden(t *testing.T) {
	got := hex.EncodeToString(covered("region/sh", "GET", "h:1", "/x", "5", "ff", sha256.Sum256(nil)))
	want := "686f6d696e672e706565722e763100" + "00000009" + "726567696f6e2f7368" + "00000003" + "474554" + "00000003" + "683a31" +
		"00000002" + "2f78" + "00000001" + "35" + "00000002" + "6666" + "00000020" + "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("region/sh", "1800000000000", strings.Repeat("ab", 16), "AAAA", []byte("x"))
	f.Fuzz(func(t *testing.T, node, milli, nonce, sig string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/x", bytes.NewReader(body))
		r.Header[headerNode], r.Header[headerTime] = []string{node}, []string{milli}
		r.Header[headerNonce], r.Header[headerSignature] = []string{nonce}, []string{sig}
		w := httptest.NewRecorder()
		Require(view, nil, echo).ServeHTTP(w, r)
		if w.Code == 200 {
			t.Fatal("nobody signed this")
		}
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add("region/sh")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseIdentity(s); err == nil && id.String() != s {
			t.Fatalf("%q reads as %s", s, id)
		}
	})
}
