package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/homing-im/homing/cmd/homing/console"
	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/dns/geo"
	"github.com/homing-im/homing/dns/health"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/kafka"
)

// regionRole is a region in one process: front doors, core, store, and the
// copying between regions.
type regionRole struct {
	node       *Node
	store      store.Store
	core       *core.Core
	access     *access.Server
	replicator *replicator.Replicator
	copies     atomic.Pointer[replicator.Replicator] // the same, for the core, which is there before it
	stored     atomic.Uint64                         // inbox entries since the start
}

// counted counts what the core stores on its way to the front doors.
type counted struct {
	core.Notifier
	n *atomic.Uint64
}

func (c counted) Notify(owner region.UIN, newest uint64, m *v1.Message) {
	c.n.Add(1)
	c.Notifier.Notify(owner, newest, m)
}

func (r *regionRole) count(to core.Notifier) core.Notifier { return counted{to, &r.stored} }

func (n *Node) startRegion(ctx context.Context, o Options) error {
	id := region.ID(n.self.Name)
	w := n.world.View().World
	me, ok := w.Region(id)
	if !ok {
		return fmt.Errorf("world %d has no region %s", w.Version, id)
	}
	r := &regionRole{node: n}
	log := n.log.With("region", id)
	var err error
	if r.store, err = n.cfg.OpenStore(w.Partitions, log, n.reg); err != nil {
		return err
	}
	n.onClose("store", func(context.Context) error { return r.store.Close() })

	if err := n.world.Guard(r.fence); err != nil {
		return err
	}
	n.onClose("guard", func(context.Context) error { return n.world.Guard(func(*region.View) error { return nil }) })

	presence, err := access.NewPresence(n.reg)
	if err != nil {
		return err
	}
	ticketKey := n.key
	if o.TicketKey != nil {
		ticketKey = o.TicketKey
	}
	var directory core.Directory
	if len(w.IDs) > 0 {
		directory = ids.NewClient("http://"+w.IDs[0].Address, n.peers, ids.WithWorld(n.version))
	}
	if r.core, err = core.New(core.Options{
		Store: r.store, Self: id, Key: ticketKey, View: n.world.View, Changed: n.world.Changed, Admitting: n.world.Admitting,
		Held: r.held, Directory: directory, Notifier: r.count(presence), Logger: log, Registry: n.reg,
		Retention: n.cfg.Messages.Retention, UserRate: n.cfg.Messages.UserRate, DeviceRate: n.cfg.Messages.DeviceRate,
	}); err != nil {
		return err
	}
	n.onClose("core", func(context.Context) error { r.core.Close(); return nil })

	if err := r.startReplicator(id, me); err != nil {
		return err
	}
	redirect, err := n.newSteering(ctx)
	if err != nil {
		return err
	}
	proxies := make([]netip.Prefix, 0, len(w.POPs))
	for _, p := range w.POPs {
		if a := p.Serves.Long.Addr(); a.IsValid() {
			proxies = append(proxies, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	if r.access, err = access.New(access.Options{
		Region: id, World: n.world, Logic: r.core, Presence: presence, Redirect: redirect.addresses,
		Long: addr(me.Serves.Long), Short: addr(me.Serves.Short), Web: addr(me.Serves.Web),
		TLS: n.server, WebTLS: n.webTLS(me.Serves.Short), Proxies: proxies, MaxConnections: n.cfg.ShedAbove,
		Logger: log, Registerer: n.reg,
	}); err != nil {
		return err
	}
	n.onClose("access", r.access.Close)
	n.region = r
	return nil
}

// held tells the core how much the backup has; nothing before the replicator
// has started.
func (r *regionRole) held(p region.Partition) (core.Mark, bool) {
	c := r.copies.Load()
	if c == nil {
		return core.Mark{}, false
	}
	m, ok := c.Held(p)
	return core.Mark(m), ok
}

// fenceTimeout bounds raising the fence: a disk that hangs keeps the old world
// for another try.
const fenceTimeout = 5 * time.Second

// fence makes the store refuse what was admitted under older terms, for every
// home: this region may act for any of them.
func (r *regionRole) fence(v *region.View) error {
	ctx, cancel := context.WithTimeout(context.Background(), fenceTimeout)
	defer cancel()
	for _, home := range v.World.Regions {
		_, term, _ := v.Acting(home.ID)
		if err := r.store.Fence(ctx, home.ID, term); err != nil {
			return fmt.Errorf("raising the fence of %s: %w", home.ID, err)
		}
	}
	return nil
}

func (r *regionRole) startReplicator(id region.ID, me *region.Region) error {
	n := r.node
	log := n.log.With("region", id)
	open := func(_ region.ID, brokers string) (replicator.Queue, error) {
		return kafka.New(kafka.Options{Brokers: []string{brokers}, ClientID: "homing-" + string(id), Logger: log})
	}
	var err error
	if r.replicator, err = replicator.New(replicator.Options{
		Self: id, Store: r.store, Executor: r.core, View: n.world.View, Changed: n.world.Changed, Open: open,
		Client: n.peers, Logger: log, Registry: n.reg,
	}); err != nil {
		return err
	}
	r.copies.Store(r.replicator)
	n.onClose("replicator", func(context.Context) error { return r.replicator.Close() })
	journal := peer.NewVerifier(peer.Options{View: n.world.View}).Require(
		func(i peer.Identity) bool { return i.Kind == peer.KindRegion }, r.replicator.JournalHandler())
	for _, path := range []string{"/journal", "/positions", "/heads"} {
		n.admin.mux.Handle(path, journal)
	}
	return nil
}

// webTLS is the TLS of the short and web listeners: none on loopback, so that
// curl works on a developer's machine.
func (n *Node) webTLS(a netip.AddrPort) *tls.Config {
	if a.Addr().IsLoopback() {
		return nil
	}
	return n.server
}

func (n *Node) version() uint64 { return n.world.View().World.Version }

func addr(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func (r *regionRole) status(st *observe.NodeStatus) {
	s := &observe.RegionStatus{}
	s.Users, s.Connections = r.access.Online()
	s.Messages = r.stored.Load()
	if err := r.node.world.Admitting(); err != nil {
		st.Ready, st.NotReady = false, err.Error()
	} else {
		s.Admitting = true
	}
	for _, l := range r.replicator.Lag() {
		s.Lags = append(s.Lags, observe.Lag{Origin: string(l.Origin), Stream: string(l.Stream), Records: l.Records,
			Seconds: l.Seconds, State: string(pairState(l)), Reason: l.Reason})
	}
	st.Region = s
}

// pairState says it in the console's words.
func pairState(l replicator.Lag) console.PairState {
	switch {
	case l.State == replicator.StatePaused:
		return console.PairStalled
	case l.State == replicator.StateLive && l.Quarantined > 0:
		return console.PairQuarantine
	default:
		return console.PairState(l.State)
	}
}

// steering is the one brain that all of a node's answers come from: the same
// function, facts and health for redirects, DNS and HTTPDNS.
type steering struct {
	node   *Node
	geo    *geo.DB
	health *health.Checker
}

func (n *Node) newSteering(context.Context) (*steering, error) {
	s := &steering{node: n}
	var err error
	if s.geo, err = geo.Open(geo.Options{Files: n.cfg.Geo, View: n.world.View, Logger: n.log, Registry: n.reg}); err != nil {
		return nil, err
	}
	s.health = health.New(health.Options{
		View: n.world.View, Interval: n.cfg.Health.Interval, Timeout: n.cfg.Health.Timeout, Rise: n.cfg.Health.Rise, Fall: n.cfg.Health.Fall,
		Check: health.Default(n.checkTLS(), true), Logger: n.log, Registry: n.reg,
	})
	n.onClose("health", func(context.Context) error { s.health.Close(); return nil })
	n.steering = s
	return s, nil
}

// dialTLS is for connecting to long listeners: they are named after the
// service, whoever runs them.
func (n *Node) dialTLS() *tls.Config {
	if n.roots == nil {
		return nil
	}
	c := n.roots.Clone()
	c.ServerName = string(region.Long) + "." + n.world.View().World.Zone
	return c
}

// checkTLS is dialTLS made cheap, for connections that carry nothing: resumed
// when they can be, and without the post-quantum half of the key exchange.
func (n *Node) checkTLS() *tls.Config {
	c := n.dialTLS()
	if c != nil {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		c.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	return c
}

func (s *steering) addresses(service region.Service, c core.Caller) []netip.AddrPort {
	client := steer.Client{Service: service, UIN: c.UIN, Version: c.ClientVersion, Platform: c.Platform}
	if c.Address.IsValid() {
		a := c.Address.Unmap()
		client.Prefix = netip.PrefixFrom(a, a.BitLen())
		client.Facts = s.geo.Lookup(a)
	}
	answer := steer.Decide(s.node.world.View(), s.health.Health(), client)
	out := make([]netip.AddrPort, 0, len(answer.Endpoints))
	for _, e := range answer.Endpoints {
		out = append(out, e.Address)
	}
	return out
}
