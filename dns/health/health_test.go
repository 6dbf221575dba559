package health

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// await waits until the checker's health is as wanted.
func await(t *testing.T, c *Checker, what string, want func(*Snapshot) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := c.Changed()
		if want(c.Health()) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s did not come true: %+v", what, c.Report())
		}
	}
}

func listen(t *testing.T) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener), l.Addr().(*net.TCPAddr).AddrPort()
}

func viewOf(w *region.World) func() *region.View {
	v := region.NewView(w, region.Hash{}, nil)
	return func() *region.View { return v }
}

// A real listener comes up with the first round and is out soon after it dies.
func TestListenerLivesAndDies(t *testing.T) {
	pop, popAddr := listen(t)
	_, shAddr := listen(t)
	reg := prometheus.NewRegistry()
	c := New(Options{
		View: viewOf(&region.World{
			POPs:    []region.POP{{ID: "pop-1", Serves: region.Endpoints{Long: popAddr}}, {ID: "none"}},
			Regions: []region.Region{{ID: "sh", Serves: region.Endpoints{Short: shAddr}}},
		}),
		Interval: 20 * time.Millisecond, Registry: reg,
	})
	defer c.Close()
	if c.POP("pop-2") || c.Region("hk") || c.POP("none") {
		t.Error("somebody who was never checked is healthy")
	}
	await(t, c, "both up", func(s *Snapshot) bool { return s.POP("pop-1") && s.Region("sh") })
	before := c.Health()
	_ = pop.Close()
	await(t, c, "POP down", func(s *Snapshot) bool { return !s.POP("pop-1") && s.Region("sh") })
	if !before.POP("pop-1") {
		t.Error("a snapshot changed")
	}
	report := c.Report()
	if len(report) != 2 || report[0].Member != "pop pop-1" || report[0].Up || !strings.Contains(report[0].Error, "refused") || report[1].Member != "region sh" || !report[1].Up {
		t.Errorf("report: %+v", report)
	}
	if got := gauges(t, reg, "homing_dns_health_up_bool"); !maps.Equal(got, map[string]float64{"pop pop-1": 0, "region sh": 1}) {
		t.Errorf("metrics: %v", got)
	}
}

// What was measured and when somebody fell is in the snapshot; a new measure is
// a new snapshot.
func TestMeasuredAndFalls(t *testing.T) {
	pop, popAddr := listen(t)
	var measured atomic.Pointer[Measured]
	c := New(Options{
		View:     viewOf(&region.World{POPs: []region.POP{{ID: "pop-1", Serves: region.Endpoints{Long: popAddr}}}}),
		Interval: 20 * time.Millisecond, Measured: measured.Load,
	})
	defer c.Close()
	site := steer.Site{POP: "pop-1"}
	await(t, c, "up", func(s *Snapshot) bool { return s.POP("pop-1") })
	if _, ok := c.Health().Up().Fell(site); ok {
		t.Error("it fell before it did")
	}
	measured.Store(&Measured{Loads: map[steer.Site]uint32{site: 9000}, RTTs: map[steer.Path]uint32{{From: site, To: "sh"}: 12}})
	await(t, c, "measured", func(s *Snapshot) bool {
		load, _ := s.Up().Load(site)
		ms, _ := s.Up().RTT(steer.Path{From: site, To: "sh"})
		return load == 9000 && ms == 12
	})
	before := time.Now().Unix()
	_ = pop.Close()
	await(t, c, "down", func(s *Snapshot) bool {
		at, ok := s.Up().Fell(site)
		return ok && at >= before && !s.POP("pop-1")
	})
}

// gauges returns a gauge's values by the label member.
func gauges(t *testing.T, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				out[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	return out
}

// A member that moves to another address, or leaves, is forgotten.
func TestWorldChanges(t *testing.T) {
	_, a := listen(t)
	_, b := listen(t)
	world := func(addr netip.AddrPort) *region.View {
		return region.NewView(&region.World{POPs: []region.POP{{ID: "pop-1", Serves: region.Endpoints{Long: addr}}}}, region.Hash{}, nil)
	}
	var view atomic.Pointer[region.View] // none at first
	var allow atomic.Bool
	allow.Store(true)
	c := New(Options{View: view.Load, Interval: 10 * time.Millisecond, Check: func(ctx context.Context, t Target) error {
		if t.Listen == b && !allow.Load() {
			return errors.New("not yet")
		}
		return connect(ctx, t.Listen, nil)
	}})
	defer c.Close()
	view.Store(world(a))
	await(t, c, "up at the first address", func(s *Snapshot) bool { return s.POP("pop-1") })
	allow.Store(false)
	view.Store(world(b))
	await(t, c, "unknown at the second", func(s *Snapshot) bool { return !s.POP("pop-1") })
	allow.Store(true)
	await(t, c, "up at the second", func(s *Snapshot) bool { return s.POP("pop-1") })
	view.Store(region.NewView(&region.World{}, region.Hash{}, nil))
	await(t, c, "gone", func(s *Snapshot) bool { return !s.POP("pop-1") })
	if r := c.Report(); len(r) != 0 {
		t.Errorf("report after all left: %+v", r)
	}
}

// Close waits for a check that hangs until its context ends, and checks are
// never more at once than allowed.
func TestConcurrencyIsBounded(t *testing.T) {
	var w region.World
	for i := range 20 {
		addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i+1))
		w.POPs = append(w.POPs, region.POP{ID: region.POPID("pop-" + string(rune('a'+i))), Serves: region.Endpoints{Long: addr}})
	}
	var mu sync.Mutex
	now, most, total := 0, 0, 0
	full := make(chan struct{})
	c := New(Options{View: viewOf(&w), Interval: time.Millisecond, Concurrency: 3, Timeout: time.Hour, Check: func(ctx context.Context, _ Target) error {
		mu.Lock()
		now, total = now+1, total+1
		most = max(most, now)
		if total == 3 {
			close(full)
		}
		mu.Unlock()
		<-ctx.Done()
		mu.Lock()
		now--
		mu.Unlock()
		return ctx.Err()
	}})
	<-full
	c.Close()
	mu.Lock()
	defer mu.Unlock()
	if now != 0 || most != 3 {
		t.Errorf("%d checks still run, at most %d ran at once, want 0 and 3", now, most)
	}
	if c.POP("pop-a") {
		t.Error("a check that Close ended counted")
	}
}

// The default check wants a handshake when it has a TLS config, and /readyz of
// regions when told so.
func TestDefaultCheck(t *testing.T) {
	cert, roots := certificate(t)
	plain, plainAddr := listen(t)
	go func() { // speaks no TLS: answers and closes
		for {
			conn, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello, plain text\n"))
			_ = conn.Close()
		}
	}()
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = secure.Close() }()
	go func() {
		for {
			conn, err := secure.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	secureAddr := secure.Addr().(*net.TCPAddr).AddrPort()
	var ready atomic.Bool
	admins := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer admin.Close()
	sh := Target{Region: "sh", Listen: plainAddr, Admin: admin.Listener.Addr().String()}

	for _, c := range []struct {
		name   string
		config *tls.Config
		ready  bool
		target Target
		want   string // in the error; empty for success
	}{
		{"TCP is enough without TLS", nil, false, Target{POP: "p", Listen: plainAddr}, ""},
		{"handshake", &tls.Config{RootCAs: roots}, false, Target{POP: "p", Listen: secureAddr}, ""},
		{"foreign CA", &tls.Config{RootCAs: x509.NewCertPool()}, false, Target{POP: "p", Listen: secureAddr}, "unknown authority"},
		{"no TLS at all", &tls.Config{RootCAs: roots}, false, Target{POP: "p", Listen: plainAddr}, "tls"},
		{"not ready, not asked", nil, false, sh, ""},
		{"not ready", nil, true, sh, "503"},
		{"a POP's admin listener is not asked", nil, true, Target{POP: "p", Listen: plainAddr, Admin: sh.Admin}, ""},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		client := admins
		if !c.ready {
			client = nil
		}
		err := Default(c.config, client)(ctx, c.target)
		cancel()
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	ready.Store(true)
	if err := Default(nil, admins)(t.Context(), sh); err != nil {
		t.Errorf("ready region: %v", err)
	}
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// Snapshots between which nobody went up or down have the same pointer.
func TestUpStaysTheSame(t *testing.T) {
	c := &Checker{changed: make(chan struct{}), council: &council{now: time.Now}}
	c.snapshot.Store(&Snapshot{})
	first := c.Health().Up()
	members := map[Target]*member{{POP: "pop-1"}: {}}
	c.publish(nil, members)
	if c.Health().Up() != first || len(c.Health().report) != 1 {
		t.Error("another pointer although nobody is up")
	}
	members[Target{POP: "pop-1"}].state.Up = true
	c.publish(nil, members)
	up := c.Health().Up()
	if up == first || !up.POP("pop-1") || !c.Health().POP("pop-1") {
		t.Error("the same pointer although somebody went up")
	}
	c.publish(nil, members)
	if c.Health().Up() != up {
		t.Error("another pointer although nothing changed")
	}
}
