// Package node runs a node: the roles its configuration lists, in one process,
// joined to each other. The demo is several of these in one process; homing run
// is one of them alone. Nothing but wiring happens here.
package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/homing-im/homing/cmd/homing/console"
	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/dns/health"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access/presence"
	"github.com/homing-im/homing/region/gossip"
	"github.com/homing-im/homing/region/keeper"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/worldfile"
)

// Options are what a node gets from the program around it.
type Options struct {
	Logger *slog.Logger
	// TicketKey, when set, signs tickets in place of the member's key. It exists
	// for the demo's negative control: the world does not know such a key, so no
	// ticket is believed.
	TicketKey ed25519.PrivateKey
}

// Node is a running node.
type Node struct {
	cfg    *Config
	log    *slog.Logger
	self   peer.Identity
	key    ed25519.PrivateKey
	reg    *prometheus.Registry
	peers  *http.Client // signs what it sends
	server *tls.Config  // of client-facing listeners; nil is plain
	roots  *tls.Config  // for dialling other nodes' long listeners; nil is plain
	world  *keeper.Keeper
	holds  atomic.Pointer[keeper.Keeper] // world, for calls that it makes itself while it opens
	gossip *gossip.Gossip
	link   link
	admin  *admin
	line   *line

	region   *regionRole
	presence *presence.Client // of a region in parts
	queue    closer
	pop      *popRole
	dns      *dnsRole
	ids      *idsRole

	steering *steering                     // of the region or DNS role
	talks    atomic.Pointer[gossip.Gossip] // gossip, for what runs before it
	measured atomic.Pointer[health.Measured]

	mu      sync.Mutex
	ready   bool
	closers []named // in the order they were started
}

type closer interface{ Close() error }

type named struct {
	name  string
	close func(context.Context) error
}

// Start runs the node and returns when all its listeners accept. It may not
// admit writes yet: see Status. On error everything already started is stopped.
func Start(ctx context.Context, cfg *Config, o Options) (_ *Node, err error) {
	n := &Node{cfg: cfg, log: o.Logger.With("name", cfg.Name), reg: prometheus.NewRegistry(), line: new(line)}
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			_ = n.Close(stop)
			err = explain(err)
		}
	}()
	n.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := n.identify(); err != nil {
		return nil, err
	}
	if err := n.openWorld(); err != nil {
		return nil, err
	}
	w := n.world.View().World
	adminAddr, gossipTags, err := n.place(w)
	if err != nil {
		return nil, err
	}
	l, err := listen(ctx, adminAddr)
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	n.admin = newAdmin(n.reg, n.Status, n.line, n.log)
	n.admin.mux.Handle("GET /world", n.world.Handler())
	n.admin.mux.Handle("GET /world/", n.world.Handler())
	if cfg.Admin == "" {
		// Only the member's own process votes: a second one with the same key and
		// a memory of its own could accept another world.
		n.admin.mux.Handle("POST /world", n.world.Handler())
		n.admin.mux.Handle("POST /world/", n.world.Handler())
		n.admin.mux.Handle("/overlay", n.world.Handler())
	}
	if n.self.Kind == peer.KindRegion {
		n.serveGrants()
	}
	for _, r := range []struct {
		role  Role
		start func(context.Context, Options) error
	}{
		{RoleQueue, n.startQueue}, {RoleIDs, n.startIDs}, {RoleRegion, n.startRegion},
		{RolePresence, n.startPresence}, {RoleAccess, n.startAccess}, {RoleStore, n.startStore}, {RoleLogic, n.startLogic},
		{RolePOP, n.startPOP}, {RoleDNS, n.startDNS},
	} {
		if !cfg.Has(r.role) {
			continue
		}
		if err := r.start(ctx, o); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("role %s: %w", r.role, err)
		}
	}
	if cfg.Has(RoleRegion) {
		n.collectLess()
	}
	if n.region != nil || n.presence != nil {
		n.admin.mux.HandleFunc("GET /presence", n.getPresence)
	}
	n.admin.serve(n.link.secure(l, adminAddr))
	n.onClose("admin", n.admin.close)
	if err := n.startGossip(gossipTags); err != nil {
		return nil, err
	}
	if cfg.Has(RoleConsole) {
		if err := n.startConsole(ctx); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	n.ready = true
	n.mu.Unlock()
	n.log.Info("node runs", "roles", cfg.Roles, "admin", adminAddr, "world", w.Version)
	return n, nil
}

// identify reads key and certificates.
func (n *Node) identify() error {
	kind, name, err := n.cfg.member()
	if err != nil {
		return err
	}
	n.self = peer.Identity{Kind: kind, Name: name}
	if n.key, err = worldfile.ReadKey(n.cfg.Key); err != nil {
		return err
	}
	if err := os.MkdirAll(n.cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := n.readTLS(); err != nil {
		return err
	}
	n.peers = &http.Client{Transport: peer.NewTransport(n.self, n.key, n.line.over(n.link.transport()))}
	return nil
}

// readTLS reads the certificates.
func (n *Node) readTLS() error {
	n.link.view = func() *region.View {
		if k := n.holds.Load(); k != nil {
			return k.View()
		}
		return nil
	}
	if n.cfg.TLS.Cert == "" {
		return nil
	}
	cert, pool, err := n.cfg.TLS.read()
	if err != nil {
		return err
	}
	n.server = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	n.roots = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
	n.link.server, n.link.dial = peer.ServerTLS(cert, pool), peer.ClientTLS(cert, pool)
	return nil
}

func (n *Node) openWorld() error {
	b, err := os.ReadFile(n.cfg.World)
	if err != nil {
		return err
	}
	genesis := new(region.Envelope)
	if err := json.Unmarshal(b, genesis); err != nil {
		return fmt.Errorf("%s is not a signed world: %w", n.cfg.World, err)
	}
	root, err := worldfile.KeysIn(filepath.Dir(n.cfg.Root))(strings.TrimSuffix(filepath.Base(n.cfg.Root), ".pub"))
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	n.world, err = keeper.Open(keeper.Options{
		Dir: filepath.Join(n.cfg.Dir, "world"), Self: n.self, Key: n.key, Pinned: root, Genesis: genesis,
		Client: &http.Client{Timeout: 5 * time.Second, Transport: n.line.over(n.link.transport())}, Logger: n.log, Registry: n.reg,
	})
	if err != nil {
		return err
	}
	n.holds.Store(n.world)
	n.onClose("world", func(context.Context) error { return n.world.Close() })
	if n.world.View() == nil {
		return fmt.Errorf("%s holds no world that the root key vouches for", n.cfg.World)
	}
	key, ok := peer.KeyOf(n.world.View().World, n.self)
	if !ok {
		return fmt.Errorf("world %d has no member %q", n.world.View().World.Version, n.cfg.Member)
	}
	if !bytes.Equal(n.key.Public().(ed25519.PublicKey), key) {
		return fmt.Errorf("%s is not the key that world %d gives to %s", n.cfg.Key, n.world.View().World.Version, n.cfg.Member)
	}
	return nil
}

// place returns the admin address and the gossip tags of this node.
func (n *Node) place(w *region.World) (admin string, tags map[string]string, err error) {
	admin = n.cfg.Admin
	if admin == "" {
		if admin, _ = peer.AdminOf(w, n.self); admin == "" {
			return "", nil, fmt.Errorf("the world gives %s no admin address: set \"admin\"", n.cfg.Member)
		}
	}
	if err := n.link.check(admin, n.self, w.Zone); err != nil {
		return "", nil, err
	}
	return admin, map[string]string{gossip.TagKind: n.self.Kind, gossip.TagRegion: n.self.Name, gossip.TagAdmin: region.AdminURL(admin)}, nil
}

func (n *Node) startGossip(tags map[string]string) error {
	if n.cfg.Gossip.Bind == "" {
		return nil
	}
	var key []byte
	if n.cfg.Gossip.Key != "" {
		b, err := os.ReadFile(n.cfg.Gossip.Key)
		if err != nil {
			return err
		}
		if key, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(b))); err != nil || len(key) != 32 {
			return fmt.Errorf("%s: want the base64 of 32 bytes", n.cfg.Gossip.Key)
		}
	}
	timing := gossip.WAN
	if loopback(n.cfg.Gossip.Bind) {
		timing = gossip.Fast
	}
	g, err := gossip.Open(gossip.Options{
		Name: n.cfg.Name, Bind: n.cfg.Gossip.Bind, Join: n.cfg.Gossip.Join, Tags: tags, Key: key, Timing: timing,
		OnWorld: n.world.HintWorld, OnHealth: n.hearHealth, Logger: n.log, Registry: n.reg,
	})
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	n.gossip = g
	n.talks.Store(g)
	n.onClose("gossip", func(context.Context) error { return g.Close() })
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			changed := n.world.Changed()
			g.Announce(n.worldNow())
			select {
			case <-changed:
			case <-stop:
				return
			}
		}
	}()
	n.onClose("announcer", func(context.Context) error { close(stop); <-done; return nil })
	n.startMeasuring()
	return nil
}

func (n *Node) worldNow() (uint64, region.ShortHash) {
	v := n.world.View()
	return v.World.Version, v.Hash.Short()
}

func (n *Node) startConsole(ctx context.Context) error {
	l, err := listen(ctx, n.cfg.Console)
	if err != nil {
		return fmt.Errorf("console listener: %w", err)
	}
	transport := n.link.transport()
	c := observe.New(n.world.View, &http.Client{Transport: transport})
	page := console.New(console.Options{State: c.State, Hosts: n.cfg.ConsoleHosts, Logger: n.log})
	s := &http.Server{Handler: page, ReadHeaderTimeout: 5 * time.Second}
	base, cancel := context.WithCancel(context.Background())
	s.BaseContext = func(net.Listener) context.Context { return base }
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	n.onClose("console", func(ctx context.Context) error {
		cancel() // event streams never end by themselves
		err := s.Shutdown(ctx)
		if err != nil {
			err = s.Close()
		}
		<-done
		transport.CloseIdleConnections()
		return err
	})
	return nil
}

func (n *Node) onClose(name string, f func(context.Context) error) {
	n.closers = append(n.closers, named{name, f})
}

// Reload reads the geo databases and zone files again. What is wrong stays as it
// was; the errors are returned together.
func (n *Node) Reload() error {
	var errs []error
	if n.steering != nil {
		errs = append(errs, n.steering.geo.Reload())
	}
	if n.dns != nil {
		errs = append(errs, n.dns.reload())
	}
	return errors.Join(errs...)
}

// Close stops what Start started, last first, and waits for it. It gives
// clients until ctx ends to go by themselves.
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	n.ready = false
	n.mu.Unlock()
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		began := time.Now()
		if err := n.closers[i].close(ctx); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", n.closers[i].name, err))
		}
		if d := time.Since(began); d > 500*time.Millisecond {
			n.log.Warn("slow to stop", "part", n.closers[i].name, "took", d)
		}
	}
	n.closers = nil
	if n.peers != nil {
		n.peers.CloseIdleConnections()
	}
	return errors.Join(errs...)
}

// Keeper returns the node's keeper of the world.
func (n *Node) Keeper() *keeper.Keeper { return n.world }

// Config returns the node's configuration; it must not be changed.
func (n *Node) Config() *Config { return n.cfg }

// Status says how the node is.
func (n *Node) Status() observe.NodeStatus {
	v := n.world.View()
	st := observe.NodeStatus{Name: n.cfg.Name, Member: n.cfg.Member, World: v.World.Version, Hash: v.Hash.String()}
	for _, r := range n.cfg.Roles {
		st.Roles = append(st.Roles, string(r))
	}
	n.mu.Lock()
	st.Ready = n.ready
	n.mu.Unlock()
	if !st.Ready {
		st.NotReady = "starting or stopping"
	}
	if n.region != nil {
		n.region.status(&st)
	}
	if n.pop != nil {
		n.pop.status(&st)
	}
	if n.dns != nil {
		n.dns.status(&st)
	}
	if n.steering != nil {
		st.Degraded = degraded(n.steering.geo)
	}
	if n.ids != nil {
		n.ids.status(&st)
	}
	return st
}

// listen opens a TCP listener. MPTCP is off, as everywhere: with it
// TCP_USER_TIMEOUT cannot be set, and a dead peer is noticed late.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, "tcp", addr)
}
