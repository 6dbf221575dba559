package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
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
	"github.com/homing-im/homing/region/access/route"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/dump"
	"github.com/homing-im/homing/region/store/remote"
	"github.com/homing-im/homing/region/succession"
	"github.com/homing-im/homing/replicator"
)

// regionRole is a region in one process: front doors, core, store, and the
// copying between regions.
type regionRole struct {
	node       *Node
	log        *slog.Logger
	online     *access.Presence
	rows       *remote.Rows  // of a process without the store
	router     *route.Router // of a process without logic
	store      dump.Engine
	core       *core.Core
	access     *access.Server
	succession *succession.Manager
	replicator *replicator.Replicator
	copies     atomic.Pointer[replicator.Replicator] // the same, for the core, which is there before it
	peaks      *peaks                                // nil in a process without front doors
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

// newRegionRole makes this node's, or returns it when another role has.
func (n *Node) newRegionRole() (*regionRole, *region.Region, error) {
	w := n.world.View().World
	me, ok := w.Region(region.ID(n.self.Name))
	if !ok {
		return nil, nil, fmt.Errorf("world %d has no region %s", w.Version, n.self.Name)
	}
	if n.region == nil {
		n.region = &regionRole{node: n, log: n.log.With("region", me.ID)}
	}
	return n.region, me, nil
}

// startRegion is the whole region in one process.
func (n *Node) startRegion(ctx context.Context, o Options) error {
	r, me, err := n.newRegionRole()
	if err != nil {
		return err
	}
	if err := r.openStore(); err != nil {
		return err
	}
	online, err := access.NewPresence(n.reg)
	if err != nil {
		return err
	}
	if err := r.startCore(r.store, r.held, online, o); err != nil {
		return err
	}
	if err := r.startReplicator(me.ID, me); err != nil {
		return err
	}
	return r.serveClients(ctx, me, access.Options{Logic: r.core, Presence: online})
}

func (r *regionRole) openStore() error {
	n := r.node
	var err error
	if r.store, err = n.cfg.OpenStore(n.world.View().World.Partitions, r.log, n.reg); err != nil {
		return err
	}
	n.onClose("store", func(context.Context) error { return r.store.Close() })
	r.serveBackup()
	r.servePurge()
	if err := n.world.Guard(r.fence); err != nil {
		return err
	}
	n.onClose("guard", func(context.Context) error { return n.world.Guard(func(*region.View) error { return nil }) })
	if r.succession, err = succession.New(succession.Options{
		Self: region.ID(n.self.Name), Store: r.store, View: n.world.View, Changed: n.world.Changed, Change: n.world.Change, Logger: r.log, Registry: n.reg,
	}); err != nil {
		return err
	}
	n.onClose("succession", func(context.Context) error { return r.succession.Close() })
	return nil
}

func (r *regionRole) startCore(rows store.Rows, held func(region.ID, region.Partition) (core.Mark, bool), to core.Notifier, o Options) error {
	n := r.node
	w := n.world.View().World
	ticketKey := n.key
	if o.TicketKey != nil {
		ticketKey = o.TicketKey
	}
	var directory core.Directory
	if len(w.IDs) > 0 {
		directory = ids.NewClient("http://"+w.IDs[0].Address, n.peers, ids.WithWorld(n.version))
	}
	var taken func(region.ID, region.Term, region.Partition) error
	if r.succession != nil { // else the process with the store refuses
		taken = r.succession.Admit
	}
	var err error
	if r.core, err = core.New(core.Options{
		Store: rows, Self: region.ID(n.self.Name), Key: ticketKey, View: n.world.View, Changed: n.world.Changed, Admitting: n.world.Admitting,
		Taken: taken, Held: held, Budgeted: r.budgeted, Directory: directory, Notifier: r.count(to), Logger: r.log, Registry: n.reg,
		Retention: n.cfg.Messages.Retention, UserRate: n.cfg.Messages.UserRate, DeviceRate: n.cfg.Messages.DeviceRate,
	}); err != nil {
		return err
	}
	n.onClose("core", func(context.Context) error { r.core.Close(); return nil })
	n.operate(r.core)
	return nil
}

// serveClients opens the region's front doors; o says what is behind them.
func (r *regionRole) serveClients(ctx context.Context, me *region.Region, o access.Options) error {
	n := r.node
	redirect, err := n.newSteering(ctx)
	if err != nil {
		return err
	}
	pops := n.world.View().World.POPs
	proxies := make([]netip.Prefix, 0, len(pops))
	for _, p := range pops {
		if a := p.Serves.Long.Addr(); a.IsValid() {
			proxies = append(proxies, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	o.Region, o.World, o.Redirect = me.ID, n.world, redirect.addresses
	o.Long, o.Short, o.Web = addr(me.Serves.Long), addr(me.Serves.Short), addr(me.Serves.Web)
	o.TLS, o.WebTLS, o.Proxies, o.MaxConnections = n.server, n.webTLS(me.Serves.Short), proxies, n.cfg.ShedAbove
	o.Origins = n.cfg.Origins
	o.Heartbeat, o.Heartbeats, o.Carrier = n.cfg.Access.Heartbeat, n.cfg.Access.Carriers, redirect.carrier
	o.Logger, o.Registerer = r.log, n.reg
	if r.access, err = access.New(o); err != nil {
		return err
	}
	n.onClose("access", r.access.Close)
	r.online = o.Presence
	r.startPeaks(me.ID)
	return nil
}

// held tells the core how much the backup has; nothing before the replicator
// has started.
func (r *regionRole) held(home region.ID, p region.Partition) (core.Mark, bool) {
	c := r.copies.Load()
	if c == nil {
		return core.Mark{}, false
	}
	m, ok := c.Held(home, p)
	return core.Mark(m), ok
}

// budgeted tells the core for whom too much waits; nobody before the replicator
// has started.
func (r *regionRole) budgeted(home region.ID) error {
	if c := r.copies.Load(); c != nil {
		return c.Budgeted(home)
	}
	return nil
}

// fenceTimeout bounds raising the fence: a disk that hangs keeps the old world
// for another try.
const fenceTimeout = 5 * time.Second

// fence makes the store refuse what was admitted under older terms, for every
// home: this region may act for any of them.
func (r *regionRole) fence(v *region.View) error {
	ctx, cancel := context.WithTimeout(context.Background(), fenceTimeout)
	defer cancel()
	return succession.Fence(ctx, r.store, v)
}

func (r *regionRole) startReplicator(id region.ID, me *region.Region) error {
	n := r.node
	log := n.log.With("region", id)
	open, err := n.cfg.Kafka.opener(id, log)
	if err != nil {
		return err
	}
	if r.replicator, err = replicator.New(replicator.Options{
		Self: id, Store: r.store, Mend: r.store, Executor: r.core, Merger: merger{r}, View: n.world.View, Changed: n.world.Changed, Open: open,
		Budget: n.cfg.Journal.bytes, Client: n.peers, Logger: log, Registry: n.reg,
	}); err != nil {
		return err
	}
	r.copies.Store(r.replicator)
	r.startMover(n.cfg.Has(RoleRegion))
	n.onClose("replicator", func(context.Context) error { return r.replicator.Close() })
	journal := peer.NewVerifier(peer.Options{View: n.world.View}).Require(
		func(i peer.Identity) bool { return i.Kind == peer.KindRegion }, r.replicator.JournalHandler())
	n.admin.mux.HandleFunc("GET /region/report", r.report)
	n.repairing(r.replicator)
	for _, path := range []string{"/journal", "/positions", "/heads", "/part"} {
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
	if r.access != nil {
		s.Users, s.Connections = r.access.Online()
	}
	s.Messages = r.stored.Load()
	if r.peaks != nil {
		s.Peak, s.Peaks = r.peaks.read(time.Now())
		s.Peak = max(s.Peak, s.Connections)
	}
	if err := r.node.world.Admitting(); err != nil {
		st.Ready, st.NotReady = false, err.Error()
		s.Refuses = err.Error()
	} else if err := r.writable(); err != nil {
		s.Refuses = err.Error() // reads go on, so the region stays ready
	} else {
		s.Admitting = true
	}
	switch {
	case r.rows != nil && !r.rows.Up():
		st.Ready, st.NotReady = false, "the process with the store cannot be reached"
	case r.router != nil && !slices.Contains(slices.Collect(maps.Values(r.router.Usable())), true):
		st.Ready, st.NotReady = false, "no logic process can be reached"
	}
	st.Region = s
	if r.replicator == nil {
		return
	}
	for _, l := range r.replicator.Lag() {
		s.Lags = append(s.Lags, observe.Lag{Origin: string(l.Origin), Stream: string(l.Stream), Records: l.Records,
			Seconds: l.Seconds, State: string(pairState(l)), Reason: l.Reason, Unheard: l.Unheard})
	}
	for _, d := range r.replicator.Damaged() {
		s.Damaged = append(s.Damaged, fmt.Sprintf("home %s, partition %d", d.Home, d.Partition))
	}
}

// writable is asked of the store by the process that has it; the others hear of
// it with every write.
func (r *regionRole) writable() error {
	if r.store == nil {
		return nil
	}
	return r.store.Writable()
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
	if s.geo, err = geo.Open(geo.Options{Files: n.cfg.Geo, View: n.world.View, Logger: n.log, Registry: n.reg, Degrade: true}); err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() { defer close(watched); s.geo.Watch(watching) }()
	n.onClose("geo", func(context.Context) error { stop(); <-watched; return nil })
	s.health = health.New(health.Options{
		View: n.world.View, Interval: n.cfg.Health.Interval, Timeout: n.cfg.Health.Timeout, Rise: n.cfg.Health.Rise, Fall: n.cfg.Health.Fall,
		Measured: n.measured.Load, Self: n.self.Kind + " " + n.self.Name, Tell: n.tellHealth,
		Check: health.Default(n.checkTLS(), n.link.once()), Logger: n.log, Registry: n.reg,
	})
	n.onClose("health", func(context.Context) error { s.health.Close(); return nil })
	n.steering = s
	return s, nil
}

// tellHealth tells the other observers what this one sees, once there is gossip.
func (n *Node) tellHealth(payload []byte) {
	if g := n.talks.Load(); g != nil {
		if err := g.TellHealth(payload); err != nil {
			n.log.Warn("the others are not told what is healthy", "err", err)
		}
	}
}

// hearHealth takes what another observer tells.
func (n *Node) hearHealth(payload []byte) {
	if n.steering == nil {
		return
	}
	if err := n.steering.health.Hear(payload); err != nil {
		n.log.Debug("what an observer told is not understood", "err", err)
	}
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
	answer := steer.Decide(s.node.world.View(), s.health.Health().Up(), client)
	out := make([]netip.AddrPort, 0, len(answer.Endpoints))
	for _, e := range answer.Endpoints {
		out = append(out, e.Address)
	}
	return out
}
