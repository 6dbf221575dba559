package client_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is one region's real access server.
type site struct {
	*access.Server
	world *accesstest.World
	logic *accesstest.Logic
}

func (s *site) long() netip.AddrPort  { return s.Addr(region.Long) }
func (s *site) short() netip.AddrPort { return s.Addr(region.Short) }

// rig is two regions, an HTTPDNS that says what a test wants, and a network
// that breaks when a test wants.
type rig struct {
	t      testing.TB
	users  *accesstest.Users
	sh, hk *site
	pool   *x509.CertPool

	httpdns string

	mu      sync.Mutex
	answers map[string][]netip.AddrPort // of HTTPDNS, by host
	queries []string
	dialed  []string
	conns   []net.Conn
	block   map[string]bool // addresses that cannot be dialed
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, users: accesstest.NewUsers(1_000_001), answers: map[string][]netip.AddrPort{}, block: map[string]bool{}}
	serverTLS, pool := accesstest.Authority("long.demo.test", "short.demo.test")
	r.pool = pool
	start := func(id region.ID) *site {
		p, err := access.NewPresence(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &site{world: accesstest.NewWorld(), logic: &accesstest.Logic{Region: id, Users: r.users, Notify: p.Notify}}
		s.Server, err = access.New(access.Options{
			Region: id, World: s.world, Logic: s.logic, Presence: p, TLS: serverTLS, WebTLS: serverTLS,
			Long: "127.0.0.1:0", Short: "127.0.0.1:0", Drain: 100 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = s.Close(ctx)
		})
		return s
	}
	r.sh, r.hk = start("sh"), start("hk")
	r.setWorld(1, "sh", "hk", 0, 0)
	r.answer("long.demo.test", r.sh.long())
	r.answer("short.demo.test", r.sh.short())
	h := httptest.NewServer(http.HandlerFunc(r.serveHTTPDNS))
	t.Cleanup(h.Close)
	r.httpdns = h.URL
	return r
}

// setWorld says in both regions who acts for sh and hk.
func (r *rig) setWorld(version uint64, shBy, hkBy region.ID, shCount, hkCount uint64) {
	for _, s := range []*site{r.sh, r.hk} {
		s.world.Set(r.view(version, shBy, hkBy, shCount, hkCount))
	}
}

func (r *rig) view(version uint64, shBy, hkBy region.ID, shCount, hkCount uint64) *region.View {
	return accesstest.View(version,
		accesstest.Place{ID: "sh", Long: r.sh.long(), Short: r.sh.short(), ActedBy: shBy, Failovers: shCount},
		accesstest.Place{ID: "hk", Long: r.hk.long(), Short: r.hk.short(), ActedBy: hkBy, Failovers: hkCount})
}

func (r *rig) answer(host string, ends ...netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[host] = ends
}

func (r *rig) serveHTTPDNS(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queries = append(r.queries, q.URL.RequestURI())
	host := q.URL.Query().Get("host")
	var ends, ips []string
	for _, e := range r.answers[host] {
		ends, ips = append(ends, e.String()), append(ips, e.Addr().String())
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"host": host, "ips": ips, "endpoints": ends, "ttl": 60, "world": 1})
}

func (r *rig) asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.queries...)
}

func (r *rig) dial(ctx context.Context, network, address string) (net.Conn, error) {
	r.mu.Lock()
	r.dialed = append(r.dialed, address)
	blocked := r.block[address]
	r.mu.Unlock()
	if blocked {
		return nil, fmt.Errorf("dial %s: the network says no", address)
	}
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		r.mu.Lock()
		r.conns = append(r.conns, c)
		r.mu.Unlock()
	}
	return c, err
}

// cut breaks every connection there is.
func (r *rig) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func (r *rig) dials(to netip.AddrPort) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, d := range r.dialed {
		if d == to.String() {
			n++
		}
	}
	return n
}

// client makes a client of a fresh user.
func (r *rig) client(uin region.UIN, change func(*client.Options)) *client.Client {
	r.t.Helper()
	key, ticket := r.users.Add(uin)
	o := client.Options{
		Zone: "demo.test", HTTPDNS: r.httpdns, RootCAs: r.pool, Dial: r.dial,
		Identity:      client.Identity{UIN: uin, Key: key, Ticket: ticket},
		ClientVersion: 80003, Platform: "test", PretendIP: netip.MustParseAddr("223.5.5.5"),
		BackoffMin: 20 * time.Millisecond, BackoffMax: 200 * time.Millisecond, Stagger: 50 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	c, err := client.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (r *rig) connected(c *client.Client) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// await reads events up to one of a kind, and returns all that it read.
func await(t testing.TB, c *client.Client, kind client.EventKind) (seen []client.Event) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-c.Events():
			if !ok {
				t.Fatalf("no %s before the end; seen %v", kind, seen)
			}
			seen = append(seen, e)
			if e.Kind == kind {
				return seen
			}
		case <-deadline:
			t.Fatalf("no %s within 10 s; seen %v", kind, seen)
		}
	}
}

func last(seen []client.Event) client.Event { return seen[len(seen)-1] }

func kinds(seen []client.Event) string {
	s := ""
	for _, e := range seen {
		s += string(e.Kind) + " "
	}
	return s
}
