package accel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
)

// POP is a running point of presence. Its methods are safe for concurrent use.
type POP struct {
	o      Options
	m      *metrics
	limits *limits
	probes *probes
	start  time.Time

	regionTLS map[region.Service]*tls.Config // nil when plain; without a server name
	names     sync.Map                       // server name: its *tls.Config
	dialer    net.Dialer

	listeners  map[region.Service]net.Listener
	servers    []*http.Server
	transports []*http.Transport

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine and every HTTP handler

	mu       sync.Mutex
	draining bool
	closed   bool
	sessions map[*session]struct{}
	opening  map[net.Conn]struct{} // long connections before their relay began
	web      map[*counted]struct{} // HTTP connections, WebSockets included
	users    map[region.UIN]int    // long connections relayed per UIN
	idle     chan struct{}         // closed when draining and nothing is left; made by Drain
}

// New opens the listeners and begins to serve. Close ends it.
//
// Errors: an option that cannot be, a listener that cannot be opened.
func New(o Options) (*POP, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &POP{
		o: o, start: time.Now(),
		limits:    newLimits(o.MaxConnections, o.MaxPerAddress),
		listeners: make(map[region.Service]net.Listener),
		sessions:  make(map[*session]struct{}),
		opening:   make(map[net.Conn]struct{}),
		web:       make(map[*counted]struct{}),
		users:     make(map[region.UIN]int),
		regionTLS: map[region.Service]*tls.Config{
			region.Long:  upstreamTLS(o.RegionTLS),
			region.Short: upstreamTLS(o.RegionWebTLS, "h2", "http/1.1"),
			region.Web:   upstreamTLS(o.RegionWebTLS, "http/1.1"), // a WebSocket needs a connection of its own
		},
		dialer: net.Dialer{KeepAliveConfig: keepAlive},
	}
	// MPTCP sockets refuse options such as TCP_USER_TIMEOUT.
	p.dialer.SetMultipathTCP(false)
	// A region believes the PROXY header of the addresses that the world gives to
	// POPs, so the POP calls from the one it listens on.
	if a, err := netip.ParseAddrPort(o.Long); err == nil && !a.Addr().IsUnspecified() {
		p.dialer.LocalAddr = &net.TCPAddr{IP: a.Addr().AsSlice()}
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.probes = newProbes(p)
	if err := p.listen(); err != nil {
		p.cancel()
		p.closeListeners()
		return nil, err
	}
	p.m = newMetrics(o.Registry) // after what may fail, so that New can be called again
	p.serveHTTP(region.Short)
	p.serveHTTP(region.Web)
	if l := p.listeners[region.Long]; l != nil {
		p.wg.Go(func() { p.acceptLong(l) })
	}
	p.wg.Go(p.probes.run)
	p.m.watch(p, o.Registry)
	return p, nil
}

// keepAlive finds peers that vanished without a word: after about a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

func upstreamTLS(c *tls.Config, protocols ...string) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS13
	}
	if len(protocols) > 0 {
		c.NextProtos = protocols
	}
	if c.ClientSessionCache == nil {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(64) // a resumed handshake spares the region a signature
	}
	return c
}

func (p *POP) listen() error {
	for _, l := range []struct {
		service region.Service
		addr    string
	}{{region.Long, p.o.Long}, {region.Short, p.o.Short}, {region.Web, p.o.Web}} {
		if l.addr == "" {
			continue
		}
		lc := net.ListenConfig{KeepAliveConfig: keepAlive}
		lc.SetMultipathTCP(false)
		ln, err := lc.Listen(p.ctx, "tcp", l.addr)
		if err != nil {
			return fmt.Errorf("accel: %s listener: %w", l.service, err)
		}
		p.listeners[l.service] = ln
	}
	return nil
}

func (p *POP) closeListeners() {
	for _, l := range p.listeners {
		_ = l.Close() // a second close of it says so; nothing is lost
	}
}

// Addr returns where a service listens, and whether it is served.
func (p *POP) Addr(s region.Service) (netip.AddrPort, bool) {
	l, ok := p.listeners[s]
	if !ok {
		return netip.AddrPort{}, false
	}
	return l.Addr().(*net.TCPAddr).AddrPort(), true
}

// Choose returns the region to which this POP takes an owner now.
//
// Errors: region.Unavailable while there is no world, region.NotFound for a UIN
// in nobody's segment.
func (p *POP) Choose(u region.UIN) (region.ID, error) {
	v := p.o.World.View()
	if v == nil {
		return "", region.Errorf(region.Unavailable, "the POP has no world yet").WithHint("try again, or another POP")
	}
	pl, ok := v.Placement(u)
	if !ok {
		return "", region.Errorf(region.NotFound, "UIN %d belongs to no region of world %d", u, v.World.Version).WithHint("check the number")
	}
	return pl.Acting, nil
}

// version returns the version of the world, 0 when there is none.
func (p *POP) version() uint64 {
	if v := p.o.World.View(); v != nil {
		return v.World.Version
	}
	return 0
}

// Close ends the listeners and all connections and waits for every goroutine.
func (p *POP) Close() error {
	p.mu.Lock()
	p.closed = true
	conns := make([]net.Conn, 0, len(p.opening))
	for c := range p.opening {
		conns = append(conns, c)
	}
	for c := range p.web {
		conns = append(conns, c)
	}
	sessions := p.snapshot()
	p.mu.Unlock()

	p.cancel()
	p.closeListeners()
	for _, c := range conns {
		_ = c.Close()
	}
	for _, s := range sessions {
		s.abort()
	}
	var errs []error
	for _, s := range p.servers {
		errs = append(errs, s.Close())
	}
	p.wg.Wait()
	for _, t := range p.transports {
		t.CloseIdleConnections()
	}
	for i, err := range errs {
		if errors.Is(err, net.ErrClosed) { // Drain had closed the listener
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// begin counts a piece of work that Close waits for; false when it is too late.
func (p *POP) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.wg.Add(1)
	}
	return !p.closed
}

func (p *POP) snapshot() []*session {
	all := make([]*session, 0, len(p.sessions))
	for s := range p.sessions {
		all = append(all, s)
	}
	return all
}
