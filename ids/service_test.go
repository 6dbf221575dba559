package ids_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/ids/idstest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a running service and the keys of those who may call it.
type site struct {
	t      *testing.T
	url    string
	keys   map[string]ed25519.PrivateKey
	view   atomic.Pointer[region.View]
	store  ids.Store
	hinted atomic.Uint64
	reg    *prometheus.Registry
}

func newSite(t *testing.T, change func(*ids.Options)) *site {
	s := &site{t: t, keys: map[string]ed25519.PrivateKey{}, store: idstest.NewMemory(), reg: prometheus.NewRegistry()}
	for i, name := range []string{"sh", "hk", "pop-1", "stranger"} {
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = byte(i)
		s.keys[name] = ed25519.NewKeyFromSeed(seed)
	}
	s.world(7, "sh")
	o := ids.Options{Store: s.store, View: s.view.Load, Registry: s.reg, Hint: s.hinted.Store}
	if change != nil {
		change(&o)
	}
	srv := httptest.NewServer(ids.NewHandler(o))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *site) public(name string) region.PublicKey {
	return region.PublicKey(s.keys[name].Public().(ed25519.PublicKey))
}

// world makes the service see a world in which a region acts for sh.
func (s *site) world(version uint64, actsForSh region.ID) {
	w := &region.World{
		Version: version, Name: "test", Zone: "demo.test", Partitions: 8,
		Regions: []region.Region{
			{ID: "sh", Key: s.public("sh"), Acting: region.Acting{Region: actsForSh}},
			{ID: "hk", Key: s.public("hk"), Acting: region.Acting{Region: "hk"}},
		},
		POPs:     []region.POP{{ID: "pop-1", Key: s.public("pop-1")}},
		Segments: []region.Segment{{First: 1000000, Last: 1999999, Home: "sh"}, {First: 2000000, Last: 2999999, Home: "hk"}},
	}
	s.view.Store(region.NewView(w, region.Hash{byte(version)}, nil))
}

func (s *site) http(id peer.Identity, key string) *http.Client {
	base := http.DefaultTransport.(*http.Transport).Clone()
	s.t.Cleanup(base.CloseIdleConnections)
	return &http.Client{Transport: peer.NewTransport(id, s.keys[key], base)}
}

func (s *site) client(r region.ID, opts ...ids.ClientOption) *ids.Client {
	return ids.NewClient(s.url, s.http(peer.Region(r), string(r)), opts...)
}

func kind(t *testing.T, err error, want region.Kind) {
	t.Helper()
	if region.KindOf(err) != want {
		t.Fatalf("error %v, want kind %v", err, want)
	}
}

func TestRegionsClaimResolveAllot(t *testing.T) {
	s := newSite(t, nil)
	sh, hk, ctx := s.client("sh"), s.client("hk"), t.Context()
	kind(t, sh.Claim(ctx, "Alice", 1000001), 0)
	kind(t, sh.Claim(ctx, "alice", 1000001), 0)
	kind(t, hk.Claim(ctx, "ALICE", 2000001), region.Conflict)
	if u, err := hk.Resolve(ctx, "aLice"); err != nil || u != 1000001 {
		t.Fatalf("resolve: %d, %v", u, err)
	}
	_, err := hk.Resolve(ctx, "bob")
	kind(t, err, region.NotFound)
	kind(t, sh.Claim(ctx, "al", 1000001), region.BadInput)
	kind(t, sh.Claim(ctx, "admin", 1000001), region.BadInput)
	kind(t, sh.Claim(ctx, "nobody", 5), region.NotFound)

	first, last, err := sh.Allot(ctx, "k1", 100)
	if err != nil || first != 1000001 || last != 1000100 {
		t.Fatalf("allot: %d to %d, %v", first, last, err)
	}
	first, last, err = hk.Allot(ctx, "k1", 10)
	if err != nil || first != 2000001 || last != 2000010 {
		t.Fatalf("allot: %d to %d, %v", first, last, err)
	}
	_, _, err = hk.Allot(ctx, "k1", 11)
	kind(t, err, region.Conflict)
	_, _, err = hk.Allot(ctx, "k2", 0)
	kind(t, err, region.BadInput)
	_, _, err = hk.Allot(ctx, "k2", ids.MaxRange+1)
	kind(t, err, region.TooLarge)
	_, _, err = hk.Allot(ctx, strings.Repeat("k", ids.MaxKey+1), 1)
	kind(t, err, region.TooLarge)
}

// TestOnlyTheActingRegion is guarantee 4.
func TestOnlyTheActingRegion(t *testing.T) {
	s := newSite(t, nil)
	hk, ctx := s.client("hk"), t.Context()
	kind(t, hk.Claim(ctx, "alice", 1000001), region.Forbidden)
	_, _, err := hk.AllotFor(ctx, "sh", "k", 1)
	kind(t, err, region.Forbidden)
	_, _, err = hk.AllotFor(ctx, "xx", "k", 1)
	kind(t, err, region.NotFound)

	s.world(8, "hk") // sh failed over to hk
	kind(t, hk.Claim(ctx, "alice", 1000001), 0)
	first, _, err := hk.AllotFor(ctx, "sh", "k", 1)
	if err != nil || first != 1000001 {
		t.Fatalf("allot for sh: %d, %v", first, err)
	}
	sh := s.client("sh")
	kind(t, sh.Claim(ctx, "alice", 1000001), region.Forbidden)
	_, _, err = sh.Allot(ctx, "k", 1)
	kind(t, err, region.Forbidden)
}

func TestOnlyRegionsMayCall(t *testing.T) {
	s, ctx := newSite(t, nil), t.Context()
	fast := ids.WithDeadline(time.Second, time.Second)
	kind(t, ids.NewClient(s.url, s.http(peer.POP("pop-1"), "pop-1"), fast).Claim(ctx, "alice", 1000001), region.Forbidden)
	kind(t, ids.NewClient(s.url, s.http(peer.Region("sh"), "hk"), fast).Claim(ctx, "alice", 1000001), region.Unauthenticated)
	kind(t, ids.NewClient(s.url, s.http(peer.Region("xx"), "stranger"), fast).Claim(ctx, "alice", 1000001), region.Unauthenticated)
	plain := http.DefaultTransport.(*http.Transport).Clone()
	defer plain.CloseIdleConnections()
	kind(t, ids.NewClient(s.url, &http.Client{Transport: plain}, fast).Claim(ctx, "alice", 1000001), region.Unauthenticated)
	_, err := s.store.Resolve(ctx, "alice")
	kind(t, err, region.NotFound)
}

// TestServiceThatIsBehind: a region that took over before the service heard of it
// is not refused for good.
func TestServiceThatIsBehind(t *testing.T) {
	s := newSite(t, nil)
	var once sync.Once
	hk := s.client("hk", ids.WithWorld(func() uint64 {
		if s.hinted.Load() == 8 { // by the first attempt: the newer world arrives
			once.Do(func() { s.world(8, "hk") })
		}
		return 8
	}))
	kind(t, hk.Claim(t.Context(), "alice", 1000001), 0)
	if s.hinted.Load() != 8 {
		t.Fatalf("the service was not told of world 8")
	}
}

func TestBadRequests(t *testing.T) {
	s := newSite(t, nil)
	hc := s.http(peer.Region("sh"), "sh")
	for _, c := range []struct {
		path, body string
		status     int
		name       string
	}{
		{"/ids/v1/claim", `{"handle":"alice","owner":1000001,"x":1}`, 400, "bad-input"},
		{"/ids/v1/claim", `{"handle":"alice","owner":-1}`, 400, "bad-input"},
		{"/ids/v1/claim", `{"handle":"alice","owner":1000001}{}`, 400, "bad-input"},
		{"/ids/v1/claim", ``, 400, "bad-input"},
		{"/ids/v1/allot", `{"key":"k","n":1000000}`, 413, "too-large"},
		{"/ids/v1/resolve", `{"handle":"` + strings.Repeat("a", 100) + `"}`, 400, "bad-input"},
	} {
		resp, err := hc.Post(s.url+c.path, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var e struct {
			Name string `json:"name"`
			Hint string `json:"hint"`
		}
		if err != nil || resp.StatusCode != c.status || json.Unmarshal(b, &e) != nil || e.Name != c.name {
			t.Errorf("%s %s: %d %s; want %d %s", c.path, c.body, resp.StatusCode, b, c.status, c.name)
		}
	}
	resp, err := hc.Post(s.url+"/ids/v1/claim", "application/json", strings.NewReader(strings.Repeat(" ", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode < 400 {
		t.Errorf("a body of 1 MiB: %s", resp.Status)
	}
}

func TestRateLimit(t *testing.T) {
	s := newSite(t, func(o *ids.Options) { o.Rate = 0.5 }) // a burst of one
	once := ids.WithDeadline(time.Millisecond*200, time.Second)
	sh, hk, ctx := s.client("sh", once), s.client("hk", once), t.Context()
	kind(t, sh.Claim(ctx, "alice", 1000001), 0)
	kind(t, sh.Claim(ctx, "alice", 1000001), region.Overloaded)
	kind(t, hk.Claim(ctx, "bob", 2000001), 0) // has a bucket of its own
}

// flaky fails before or after the real transport, so the outcome is unknown.
type flaky struct {
	next http.RoundTripper
	n    atomic.Int32
}

func (f *flaky) RoundTrip(r *http.Request) (*http.Response, error) {
	switch f.n.Add(1) {
	case 1:
		return nil, io.ErrUnexpectedEOF
	case 2:
		resp, err := f.next.RoundTrip(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, io.ErrUnexpectedEOF
	default:
		return f.next.RoundTrip(r)
	}
}

func TestClientRepeatsUntilAnswered(t *testing.T) {
	s := newSite(t, nil)
	hc := s.http(peer.Region("sh"), "sh")
	hc.Transport = &flaky{next: hc.Transport}
	first, last, err := ids.NewClient(s.url, hc).Allot(t.Context(), "k", 10)
	if err != nil || first != 1000001 || last != 1000010 {
		t.Fatalf("allot: %d to %d, %v", first, last, err)
	}
	next, _, err := s.client("sh").Allot(t.Context(), "k2", 1)
	if err != nil || next != 1000011 {
		t.Fatalf("the lost answer cost a range: next is %d, %v", next, err)
	}
}

func TestClientGivesUpAtItsDeadline(t *testing.T) {
	s := newSite(t, nil)
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c := s.client("sh", ids.WithDeadline(300*time.Millisecond, 100*time.Millisecond))
	kind(t, c.Claim(t.Context(), "alice", 1000001), region.Unavailable)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("gave up after %s", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	kind(t, c.Claim(ctx, "alice", 1000001), region.Unavailable)
}

func TestClientRemembersHandles(t *testing.T) {
	s := newSite(t, nil)
	c, ctx := s.client("hk", ids.WithDeadline(200*time.Millisecond, 100*time.Millisecond)), t.Context()
	_, err := c.Resolve(ctx, "alice") // not remembered
	kind(t, err, region.NotFound)
	kind(t, s.client("sh").Claim(ctx, "alice", 1000001), 0)
	for range 2 {
		if u, err := c.Resolve(ctx, "alice"); err != nil || u != 1000001 {
			t.Fatalf("resolve: %d, %v", u, err)
		}
		_ = s.store.Close() // the second time nobody can answer
	}
}

func TestMetricsCountOutcomes(t *testing.T) {
	s := newSite(t, nil)
	kind(t, s.client("sh").Claim(t.Context(), "alice", 1000001), 0)
	kind(t, s.client("hk").Claim(t.Context(), "alice", 2000001), region.Conflict)
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "homing_ids_requests_total" {
			for _, m := range f.GetMetric() {
				got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if got["claim ok"] != 1 || got["claim conflict"] != 1 || len(got) != 2 {
		t.Errorf("counted %v", got)
	}
}
