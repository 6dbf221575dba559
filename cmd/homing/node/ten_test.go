package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/deploy/test/child"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/keeper"
	"github.com/homing-im/homing/region/worldfile"
)

// Bounds that the product promises. The test allows more, because it shares the
// machine with others, and logs what it saw.
const (
	newWorldBound = time.Second
	failedBound   = 3 * time.Second
	failoverBound = time.Second
	slack         = 10
)

// Ten DNS nodes: a new world answers everywhere within a second, a POP that
// died is gone from the answers within three, and a failover leads a user
// elsewhere within a second of the push.
func TestTenDNSNodes(t *testing.T) {
	const nodes = 10
	pop, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pop.Close() }()
	var home, other net.Listener // long listeners of the regions
	if home, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = home.Close() }()
	if other, err = net.Listen("tcp", "127.0.0.2:0"); err != nil {
		t.Skip("this machine has one loopback address: ", err)
	}
	defer func() { _ = other.Close() }()
	addr := func(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }
	w := &region.World{
		Name: "ten", Zone: "ten.test", Partitions: 1,
		Steering: region.Steering{TTL: 30, Answers: 1, AllDown: "everything"},
		Regions: []region.Region{
			{ID: "sh", Zones: []string{"a"}, Backups: []region.ID{"hk"}, Serves: region.Endpoints{Long: addr(home)}},
			{ID: "hk", Zones: []string{"a"}, Backups: []region.ID{"sh"}, Serves: region.Endpoints{Long: addr(other)}},
		},
		POPs:     []region.POP{{ID: "pop-1", Serves: region.Endpoints{Long: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), addr(pop).Port())}, Check: region.Check{Via: region.ViaTCP}}},
		Segments: []region.Segment{{First: 1, Last: 1_000_000, Home: "sh"}, {First: 1_000_001, Last: 2_000_000, Home: "hk"}},
	}
	_ = pop.Close()
	if pop, err = net.Listen("tcp", w.POPs[0].Serves.Long.String()); err != nil {
		t.Fatal(err)
	}
	at := child.Addresses(4 * nodes)
	for i := range nodes {
		w.DNS = append(w.DNS, region.Node{Name: fmt.Sprintf("dns-%d", i+1), Address: at[3*i], HTTP: at[3*i+1], Admin: at[3*i+2]})
	}
	dir := t.TempDir()
	d, genesis, err := worldfile.Init(worldfile.Options{Dir: dir, World: w})
	if err != nil {
		t.Fatal(err)
	}
	gossips := at[3*nodes:]
	for i := range nodes {
		name := fmt.Sprintf("dns-%d", i+1)
		cfg := &Config{
			Name: name, Member: "dns " + name, Roles: []Role{RoleDNS}, Dir: filepath.Join(dir, "state", name),
			Key: d.KeyFile("dns-" + name), World: filepath.Join(dir, worldfile.GenesisName), Root: filepath.Join(dir, "keys", "root.pub"),
			Gossip: Gossip{Bind: gossips[i], Join: gossips[:1]},
			Health: Health{Interval: 500 * time.Millisecond},
		}
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		n, err := Start(t.Context(), cfg, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			_ = n.Close(ctx)
		})
	}
	// everywhere waits until each node's answer about the user has what is wanted.
	everywhere := func(want string) time.Duration {
		t.Helper()
		began := time.Now()
		for i := range nodes {
			ask := fmt.Sprintf("http://%s/d?host=long.ten.test&uin=7", w.DNS[i].HTTP)
			got := ""
			for !strings.Contains(got, want) {
				if time.Since(began) > 30*time.Second {
					t.Fatalf("%s says %s, want %s", w.DNS[i].Name, got, want)
				}
				if got = body(t, ask); !strings.Contains(got, want) {
					<-time.After(5 * time.Millisecond)
				}
			}
		}
		return time.Since(began)
	}
	quick := func(what string, took, bound time.Duration) {
		t.Helper()
		t.Logf("%s everywhere after %s (promised: %s)", what, took.Round(time.Millisecond), bound)
		if took > slack*bound {
			t.Errorf("%s took %s, promised are %s", what, took, bound)
		}
	}
	everywhere(`"ips":["127.0.0.3"]`)

	world, err := genesis.Signed.Decode()
	if err != nil {
		t.Fatal(err)
	}
	push := func(w *region.World, to ...string) time.Duration {
		t.Helper()
		if err := os.WriteFile(d.File(), []byte(worldfile.Show(w)), 0o600); err != nil {
			t.Fatal(err)
		}
		next, err := d.SignNext(true) // no region runs that could vote
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := keeper.Push(t.Context(), http.DefaultClient, next.Signed, nil, to); err != nil {
			t.Fatal(err)
		}
		if world, err = next.Signed.Decode(); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	changed := *world
	changed.Steering.TTL = 29
	took := push(&changed, keeper.AdminURLs(world)...) // as homing world push does
	quick("a new world", took+everywhere(`"ttl":29`), newWorldBound)
	changed = *world
	changed.Steering.TTL = 28
	took = push(&changed, keeper.AdminURLs(world)[0])
	t.Logf("a new world that only one node was given everywhere after %s", (took + everywhere(`"ttl":28`)).Round(time.Millisecond))

	_ = pop.Close()
	quick("the death of a POP", everywhere(`"ips":["127.0.0.1"]`), failedBound)

	changed = *world
	changed.Regions = append([]region.Region(nil), world.Regions...)
	changed.Regions[0].Acting = region.Acting{Region: "hk", Counter: world.Regions[0].Acting.Counter + 1}
	took = push(&changed, keeper.AdminURLs(world)...)
	quick("a failover", took+everywhere(`"acting":"hk"`), failoverBound)
	everywhere(`"ips":["127.0.0.2"]`)
}

func body(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
