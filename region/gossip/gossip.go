// Package gossip tells a node who else is alive, how far away they are, and
// that there is a world of some version.
//
// Guarantee: none that matters. Membership is a hint about liveness and
// distance, never proof of anything: an announcement carries a version and the
// beginning of a hash, and whoever hears it fetches and verifies the world by
// itself. What gossip does promise is that a node that joins late hears of the
// newest world, and that [Gossip.Close] leaves and stops everything it started.
//
// An announcement is a serf user event "world" of 16 bytes: version, big-endian,
// then the first eight bytes of the world's hash.
package gossip

import (
	"context"
	"encoding/binary"
	"io"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
)

// Timing is how eagerly members are probed.
type Timing int

// The timings.
const (
	WAN  Timing = iota // between sites: failures are noticed within half a minute
	LAN                // in one site: within seconds
	Fast               // on loopback, for demos and tests: within a second
)

// The tags every member has.
const (
	TagKind   = "kind"   // region, pop, dns or ids
	TagRegion = "region" // region ID, or the one a POP is near; may be empty
	TagAdmin  = "admin"  // URL of the admin listener
)

// TagLoad is one that a member may have and change: its part of its region's or
// POP's capacity in use, in hundredths of a percent.
const TagLoad = "load"

// Options configure a [Gossip].
type Options struct {
	Name string            // unique; kind and name, such as "region/sh"
	Bind string            // host:port to listen on, TCP and UDP; port 0 takes a free one
	Join []string          // host:port of members to join; tried again until one answers
	Tags map[string]string // see TagKind and the others
	Key  []byte            // 32 bytes of AES-256 shared by all members; nil is no encryption

	Timing Timing
	// AnnounceInterval is the mean time between two announcements of the world
	// by all members together: each waits it times the number of members. 10 s
	// when 0. It bounds how long a member that missed an event stays behind.
	AnnounceInterval time.Duration

	// OnWorld is called with every announcement of another member, from one
	// goroutine; it must not block. May be nil.
	OnWorld func(version uint64, hash region.ShortHash)

	// OnHealth is called with what another member told by [Gossip.TellHealth], as
	// OnWorld is. May be nil.
	OnHealth func(payload []byte)

	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Status is what the others think of a member.
type Status string

// The statuses.
const (
	Alive  Status = "alive"
	Failed Status = "failed"
	Left   Status = "left"
)

// Member is one member as this node sees it.
type Member struct {
	Name    string
	Address string // host:port of its gossip listener
	Tags    map[string]string
	Status  Status
	RTT     time.Duration // from here, by estimate; 0 while unknown
}

// Gossip is this node's membership. It is safe for concurrent use.
type Gossip struct {
	o      Options
	serf   *serf.Serf
	events chan serf.Event
	stop   context.CancelFunc
	gone   chan struct{} // closed when serf is down
	moved  chan bool     // members changed; true when somebody joined
	joined chan struct{}
	wg     sync.WaitGroup

	members   *prometheus.GaugeVec
	announced prometheus.Counter
	heard     prometheus.Counter

	mu      sync.Mutex
	version uint64
	hash    region.ShortHash
}

// Open listens and joins in the background. It does not wait for others.
func Open(o Options) (*Gossip, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.AnnounceInterval <= 0 {
		o.AnnounceInterval = 10 * time.Second
	}
	if n := len(o.Key); n != 0 && n != 32 {
		return nil, region.Errorf(region.BadInput, "gossip key has %d bytes: want 32", n)
	}
	host, portText, err := net.SplitHostPort(o.Bind)
	port, perr := strconv.ParseUint(portText, 10, 16)
	if err != nil || perr != nil {
		return nil, region.Errorf(region.BadInput, "gossip address %q: want host:port", o.Bind)
	}
	g := &Gossip{o: o, events: make(chan serf.Event, 256),
		gone: make(chan struct{}), moved: make(chan bool, 16), joined: make(chan struct{})}
	g.metrics(o.Registry)
	c := g.config(host, int(port))
	if g.serf, err = serf.Create(c); err != nil {
		return nil, region.Errorf(region.Unavailable, "gossip cannot listen on %s", o.Bind).WithCause(err).WithHint("is the port taken?")
	}
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	for _, loop := range []func(context.Context){g.joinLoop, g.eventLoop, g.announceLoop} {
		g.wg.Add(1)
		go func() {
			defer g.wg.Done()
			loop(ctx)
		}()
	}
	return g, nil
}

func (g *Gossip) metrics(r prometheus.Registerer) {
	g.members = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "homing_gossip_members", Help: "Members by status, as this node sees them."}, []string{"status"})
	g.announced = prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_gossip_announced_worlds_total", Help: "Announcements of the world made."})
	g.heard = prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_gossip_heard_worlds_total", Help: "Announcements of a world heard."})
	for _, c := range []prometheus.Collector{g.members, g.announced, g.heard} {
		if err := r.Register(c); err != nil {
			g.o.Logger.Debug("metric registered before", "err", err)
		}
	}
}

func (g *Gossip) config(host string, port int) *serf.Config {
	c := serf.DefaultConfig()
	c.NodeName = g.o.Name
	c.Tags = maps.Clone(g.o.Tags)
	c.EventCh = g.events
	c.EnableNameConflictResolution = false // two nodes of one name: the operator's mistake to mend, not ours to guess
	c.Logger = log.New(logWriter{g.o.Logger}, "", 0)
	c.LogOutput = io.Discard
	m := memberlist.DefaultWANConfig()
	c.LeavePropagateDelay, c.BroadcastTimeout = time.Second, 2*time.Second
	switch g.o.Timing {
	case LAN:
		m = memberlist.DefaultLANConfig()
		c.LeavePropagateDelay = 500 * time.Millisecond
	case Fast:
		m = memberlist.DefaultLocalConfig()
		m.ProbeInterval, m.ProbeTimeout, m.SuspicionMult = 200*time.Millisecond, 100*time.Millisecond, 2
		m.GossipInterval, m.PushPullInterval = 20*time.Millisecond, 5*time.Second
		m.TCPTimeout = time.Second
		c.LeavePropagateDelay, c.BroadcastTimeout = 60*time.Millisecond, 500*time.Millisecond
		c.ReconnectInterval, c.ReapInterval = time.Second, time.Second
	}
	m.BindAddr, m.BindPort, m.AdvertisePort = host, port, port
	m.Name, m.SecretKey = g.o.Name, g.o.Key
	m.Logger, m.LogOutput = c.Logger, nil
	c.LogOutput = nil
	c.MemberlistConfig = m
	return c
}

// Addr is the host:port this node is reached at.
func (g *Gossip) Addr() string { return g.serf.Memberlist().LocalNode().FullAddress().Addr }

// SetTag changes one of this node's tags, which the others hear of within
// moments. The empty value removes it. It waits up to a few seconds until the
// change is on its way; the error says that it was not by then, and may still be.
func (g *Gossip) SetTag(name, value string) error {
	tags := maps.Clone(g.serf.LocalMember().Tags)
	if tags[name] == value {
		return nil
	}
	if tags[name] = value; value == "" {
		delete(tags, name)
	}
	return g.serf.SetTags(tags)
}

// Announce tells the others, now and from time to time, which world is the
// newest here. It does not block.
func (g *Gossip) Announce(version uint64, hash region.ShortHash) {
	g.mu.Lock()
	same := g.version == version && g.hash == hash
	g.version, g.hash = version, hash
	g.mu.Unlock()
	if !same {
		g.announce()
	}
}

func (g *Gossip) announce() {
	g.mu.Lock()
	version, hash := g.version, g.hash
	g.mu.Unlock()
	if version == 0 {
		return
	}
	payload := append(binary.BigEndian.AppendUint64(nil, version), hash[:]...)
	if err := g.serf.UserEvent("world", payload, false); err != nil {
		g.o.Logger.Warn("world not announced", "err", err)
		return
	}
	g.announced.Inc()
}

// Members returns everybody this node knows, itself included.
func (g *Gossip) Members() []Member {
	var out []Member
	for _, m := range g.serf.Members() {
		s := Left
		switch m.Status {
		case serf.StatusAlive:
			s = Alive
		case serf.StatusFailed:
			s = Failed
		}
		rtt, _ := g.RTT(g.o.Name, m.Name)
		out = append(out, Member{Name: m.Name, Address: net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port))), Tags: m.Tags, Status: s, RTT: rtt})
	}
	return out
}

// RTT estimates the round trip between any two members from their network
// coordinates (Vivaldi; Dabek et al., SIGCOMM 2004). It is false until both
// have been probed.
func (g *Gossip) RTT(a, b string) (time.Duration, bool) {
	if a == b {
		return 0, true
	}
	ca, ok := g.serf.GetCachedCoordinate(a)
	cb, ok2 := g.serf.GetCachedCoordinate(b)
	if !ok || !ok2 {
		return 0, false
	}
	return ca.DistanceTo(cb), true
}

// Joined is closed once a member of Options.Join has answered, or at once when
// there is nobody to join.
func (g *Gossip) Joined() <-chan struct{} { return g.joined }

// joinLoop tries until somebody answers. Members that fail later are looked
// for by serf itself.
func (g *Gossip) joinLoop(ctx context.Context) {
	if len(g.o.Join) == 0 {
		close(g.joined)
		return
	}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		if n, err := g.serf.Join(g.o.Join, false); n > 0 {
			close(g.joined)
			return
		} else if err != nil {
			g.o.Logger.Debug("nobody to join answers yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// eventLoop hands announcements on. It calls nothing of serf, which holds its
// lock while it waits for us, and reads until serf is down for the same reason.
func (g *Gossip) eventLoop(context.Context) {
	for {
		select {
		case <-g.gone:
			return
		case e := <-g.events:
			switch e := e.(type) {
			case serf.UserEvent:
				g.world(e)
			case serf.MemberEvent:
				select {
				case g.moved <- e.EventType() == serf.EventMemberJoin:
				default: // enough of them wait already
				}
			}
		}
	}
}

// TellHealth sends what this node sees of others' health to all members, this
// one included. It does not block; what is over 480 bytes is refused.
func (g *Gossip) TellHealth(payload []byte) error { return g.serf.UserEvent("health", payload, false) }

func (g *Gossip) world(e serf.UserEvent) {
	if e.Name == "health" && g.o.OnHealth != nil {
		g.o.OnHealth(e.Payload)
		return
	}
	if e.Name != "world" || len(e.Payload) != 16 {
		return
	}
	g.heard.Inc()
	version, hash := binary.BigEndian.Uint64(e.Payload), region.ShortHash(e.Payload[8:])
	g.mu.Lock()
	same := version == g.version && hash == g.hash
	g.mu.Unlock()
	if !same && g.o.OnWorld != nil {
		g.o.OnWorld(version, hash)
	}
}

func (g *Gossip) count() {
	n := map[Status]int{Alive: 0, Failed: 0, Left: 0}
	for _, m := range g.Members() {
		n[m.Status]++
	}
	for s, c := range n {
		g.members.WithLabelValues(string(s)).Set(float64(c))
	}
}

// announceLoop repeats the announcement from time to time, and greets who joins:
// about three members do, however many there are.
func (g *Gossip) announceLoop(ctx context.Context) {
	for {
		d := g.o.AnnounceInterval * time.Duration(max(1, g.serf.NumNodes()))
		select {
		case <-ctx.Done():
			return
		case joined := <-g.moved:
			g.count()
			if joined && rand.IntN(g.serf.NumNodes()+1) < 3 {
				g.announce()
			}
		case <-time.After(d/2 + rand.N(d)):
			g.announce()
		}
	}
}

// Close tells the others that this node leaves, stops, and waits. It takes up
// to a few seconds when the others do not answer.
func (g *Gossip) Close() error {
	g.stop()
	err := g.serf.Leave()
	if err != nil {
		g.o.Logger.Debug("left without being heard", "err", err)
	}
	err = g.serf.Shutdown()
	close(g.gone)
	g.wg.Wait()
	return err
}

// logWriter turns the libraries' lines, "[WARN] memberlist: ...", into slog.
// Their information is our debugging; probes that fail are no news.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelDebug, string(line)
	for prefix, l := range map[string]slog.Level{"[WARN] ": slog.LevelInfo, "[ERR] ": slog.LevelWarn, "[ERROR] ": slog.LevelWarn, "[INFO] ": slog.LevelDebug, "[DEBUG] ": slog.LevelDebug} {
		if len(text) >= len(prefix) && text[:len(prefix)] == prefix {
			level, text = l, text[len(prefix):]
			break
		}
	}
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
	}
	w.log.Log(context.Background(), level, "gossip", "said", text)
	return len(line), nil
}
