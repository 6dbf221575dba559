package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/dns/authority/static"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// Geo knows facts about addresses. Lookups do not block.
type Geo interface {
	Lookup(netip.Addr) steer.Facts
	// Generation changes after the facts have changed, other than with the view.
	Generation() uint64
}

// Options configure a [Server].
type Options struct {
	View func() *region.View // the newest world; nil while there is none
	// Health returns a snapshot that does not change: a pointer, the same one for
	// as long as nobody went up or down, because what was answered by it is
	// remembered until there is another.
	Health func() steer.Health
	Geo    Geo
	Listen []string // host:port for UDP and TCP; port 0 takes a free one for both
	HTTP   []string // host:port for HTTPDNS
	DoT    []string // host:port for DNS over TLS; needs TLS
	DoH    []string // host:port for DNS over HTTPS, and HTTPDNS there; needs TLS
	DoQ    []string // host:port (UDP) for DNS over QUIC; needs TLS
	// TLS has the certificate, or the function that finds it, for DoT, DoH and DoQ.
	TLS *tls.Config
	// Workers is the number of UDP sockets per address, with a goroutine each, among
	// which the kernel spreads clients; 0 is one per processor. On Linux one that waits
	// keeps a processor of the runtime for up to ten milliseconds: GOMAXPROCS is best
	// higher than this.
	Workers int
	// CookieSecret is what cookies are made with (RFC 9018). Nodes that answer at
	// one address, by anycast or behind a balancer, need the same; nil is a random
	// one, which a restart changes.
	CookieSecret *[16]byte
	// RateLimit bounds answers over UDP to clients without a good cookie.
	RateLimit RateLimit
	// Shadow is the present server (IP:port), whose answers clients get while this
	// one remembers where it would have said something else: see
	// [Server.Differences]. HTTPDNS and transfers are this server's all the same.
	Shadow string
	// QueryLog gets every LogEvery'th question of a worker (0 is 1); nil is none.
	QueryLog QueryLog
	LogEvery uint64
	// Keys sign the zone (DNSSEC, ECDSA P-256); none leave it unsigned. All DNS
	// nodes need the same. The first signs; the others are published next to it,
	// for a rollover. The parent zone needs the [DS] of one of them.
	Keys []*ecdsa.PrivateKey
	// Retiring keys are published, and sign the keys, for those who still have
	// signatures of theirs; the parent is no longer asked for them. See [KeyRing].
	Retiring []*ecdsa.PrivateKey
	// Static are the zones from files, nil for none. A file of the world's zone adds
	// what the world does not say; another one is a zone of its own, not signed.
	Static func() *static.Set
	// TransferKeys are who may have whole zones (AXFR) and what changes in them (IXFR);
	// none is nobody.
	TransferKeys []TransferKey
	// Notify are the secondaries (IP:port) that are told of a new serial, signed
	// with the first of the keys.
	Notify []string
	// NSID is what the node calls itself when asked for (RFC 5001); empty: nothing.
	NSID string
	// Accounts may ask HTTPDNS with signed questions; SignedOnly refuses all others,
	// but for those of DNS itself.
	Accounts   []Account
	SignedOnly bool
	// ServiceAddrs are where clients that ask for it are told to ask (host or
	// host:port), of the DNS nodes' HTTPDNS listeners; nil is nowhere.
	ServiceAddrs func() []string
	// Sign returns the header that proves an HTTPDNS answer (package region/answer),
	// for the region that acts for the client; empty when there is nothing to sign
	// with. nil signs nothing.
	Sign     func(acting region.ID, target string, body []byte) string
	Logger   *slog.Logger // nil is silent
	Registry prometheus.Registerer
}

// Limits of TCP and HTTP clients.
const (
	maxConns    = 1024             // TCP connections at once; the next ones wait in the kernel
	idleTimeout = 10 * time.Second // between two questions on a connection (RFC 7766 section 6.2.3)
	readTimeout = 2 * time.Second  // for one message or HTTP header, against slow writers
	maxHeader   = 16 << 10         // bytes of an HTTP request's header
	maxNSID     = 128              // bytes, which fit any answer
)

// Server answers until it is closed.
type Server struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	plan    atomic.Pointer[plan]
	desks   []*desk // of HTTPDNS
	bodies  sync.Pool
	baker   baker
	limiter *limiter               // nil: no limit
	signer  atomic.Pointer[signer] // nil: not signed
	now     func() time.Time

	secondaries []netip.AddrPort
	archive     archive // of zones that they may have

	questions questions
	talkers   talkers
	shadow    *shadow // nil: there is no present server
	lines     chan logged
	slow      struct { // of all transports but UDP
		mu sync.Mutex
		sampler
	}
	slowBudget struct {
		mu sync.Mutex
		budget
	}

	udp      []*net.UDPConn
	detached []int // descriptors of workers' sockets, on Linux, once they are started
	tcp      []*net.TCPListener
	dot      []*net.TCPListener
	web      []net.Listener
	secure   []net.Listener
	https    []*http.Server
	quic     []*doq

	slots   chan struct{} // one per open connection
	stop    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{} // open TCP connections
}

// New binds all listeners; when it returns, their addresses are known. Nothing
// is answered before [Server.Start]. Errors are of kind region.BadInput for
// wrong options, region.Unavailable for an address that cannot be had.
func New(o Options) (*Server, error) {
	if o.TLS == nil && len(o.DoT)+len(o.DoH)+len(o.DoQ) > 0 {
		return nil, region.Errorf(region.BadInput, "DNS over TLS, HTTPS or QUIC without a certificate").WithHint("give the node a certificate, or listen on none of them")
	}
	if o.View == nil || o.Health == nil || o.Geo == nil {
		return nil, region.Errorf(region.BadInput, "a DNS server needs a view, health and geo facts")
	}
	if len(o.NSID) > maxNSID {
		return nil, region.Errorf(region.BadInput, "an NSID of %d bytes", len(o.NSID)).WithHint("want %d at most", maxNSID)
	}
	if err := checkAccounts(o.Accounts, o.SignedOnly); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Workers <= 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), runtime.NumCPU())
	}
	secondaries, err := addrPorts(o.Notify)
	if err != nil {
		return nil, err
	}
	s := &Server{
		secondaries: secondaries,
		o:           o, log: o.Logger, metrics: newMetrics(o.Registry), now: time.Now,
		slots: make(chan struct{}, maxConns), stop: make(chan struct{}), conns: make(map[net.Conn]struct{}),
	}
	if o.QueryLog != nil {
		s.o.LogEvery = max(1, o.LogEvery)
		s.lines = make(chan logged, logQueue)
		s.slow.every = s.o.LogEvery
	} else {
		s.o.LogEvery = 0
	}
	s.talkers.init()
	s.archive.zones = make(map[string]history)
	s.desks = newDesks(s, o.Workers)
	s.bodies.New = func() any { b := make([]byte, 0, 2048); return &b }
	if s.shadow, err = newShadow(o.Shadow); err != nil {
		return nil, err
	}
	if err := s.setKeys(o.Keys, o.Retiring); err != nil {
		return nil, err
	}
	var secret, shared [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	shared = secret
	if o.CookieSecret != nil {
		shared = *o.CookieSecret
	}
	s.baker = baker{newSipKey(shared)}
	s.limiter = newLimiter(o.RateLimit, newSipKey(secret), s.metrics.limited)
	for _, address := range o.Listen {
		if err := s.bind(address); err != nil {
			_ = s.closeListeners()
			return nil, cannotListen(address, err)
		}
	}
	for _, group := range []struct {
		addresses []string
		keep      func(*net.TCPListener)
	}{
		{o.HTTP, func(l *net.TCPListener) { s.web = append(s.web, l) }},
		{o.DoT, func(l *net.TCPListener) { s.dot = append(s.dot, l) }},
		{o.DoH, func(l *net.TCPListener) { s.secure = append(s.secure, l) }},
	} {
		for _, address := range group.addresses {
			l, err := listenTCP(address)
			if err != nil {
				_ = s.closeListeners()
				return nil, cannotListen(address, err)
			}
			group.keep(l)
		}
	}
	for _, address := range o.DoQ {
		l, err := s.listenDoQ(address)
		if err != nil {
			_ = s.closeListeners()
			return nil, cannotListen(address, err)
		}
		s.quic = append(s.quic, l)
	}
	return s, nil
}

// unix is the time in seconds, as cookies have it.
func (s *Server) unix() uint32 { return uint32(s.now().Unix()) }

func cannotListen(address string, err error) error {
	return region.Errorf(region.Unavailable, "DNS cannot listen on %s", address).WithCause(err).
		WithHint("choose a free port, or stop what uses it")
}

// listenTCP listens without MPTCP, which Go turns on by default and under which
// some socket options fail.
func listenTCP(address string) (*net.TCPListener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// bind takes one address for UDP and TCP.
func (s *Server) bind(address string) error {
	const tries = 16 // a free TCP port may be taken for UDP
	var err error
	for range tries {
		var tcp *net.TCPListener
		if tcp, err = listenTCP(address); err != nil {
			return err
		}
		var udp []*net.UDPConn
		if udp, err = listenUDP(tcp.Addr().(*net.TCPAddr).AddrPort(), s.o.Workers); err == nil {
			s.tcp, s.udp = append(s.tcp, tcp), append(s.udp, udp...)
			return nil
		}
		_ = tcp.Close()
		if _, port, e := net.SplitHostPort(address); e != nil || port != "0" {
			return err
		}
	}
	return err
}

// Addrs are the addresses of the UDP and TCP listeners, in the order of
// Options.Listen.
func (s *Server) Addrs() []netip.AddrPort { return listening(s.tcp) }

// HTTPAddrs are the addresses of the HTTPDNS listeners.
func (s *Server) HTTPAddrs() []netip.AddrPort { return listening(s.web) }

// DoTAddrs are the addresses of the listeners for DNS over TLS.
func (s *Server) DoTAddrs() []netip.AddrPort { return listening(s.dot) }

// DoHAddrs are the addresses of the listeners for DNS over HTTPS.
func (s *Server) DoHAddrs() []netip.AddrPort { return listening(s.secure) }

// DoQAddrs are the addresses of the listeners for DNS over QUIC.
func (s *Server) DoQAddrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, l := range s.quic {
		out = append(out, l.Addr().(*net.UDPAddr).AddrPort())
	}
	return out
}

func listening[L net.Listener](listeners []L) []netip.AddrPort {
	var out []netip.AddrPort
	for _, l := range listeners {
		out = append(out, l.Addr().(*net.TCPAddr).AddrPort())
	}
	return out
}

// Start begins to answer and returns at once. Call it once.
func (s *Server) Start() {
	for _, conn := range s.udp {
		if err := conn.SetReadBuffer(udpBuffer); err != nil {
			s.log.Warn("UDP receive buffer stays small", "err", err)
		}
		if isWildcard(conn) {
			if err := askDestinations(conn); err != nil {
				s.log.Warn("answers may come from another address than was asked; listen on each address instead", "err", err)
			}
		}
		if s.shadow != nil {
			s.running.Go(func() { s.serveShadow(conn) })
			continue
		}
		s.startUDP(conn)
	}
	for _, l := range s.tcp {
		s.running.Go(func() { s.serveTCP(l, nil) })
	}
	if s.o.TLS != nil {
		config := s.o.TLS.Clone()
		config.NextProtos = []string{"dot"}
		for _, l := range s.dot {
			s.running.Go(func() { s.serveTCP(l, config) })
		}
	}
	for _, l := range s.quic {
		s.running.Go(func() { s.serveDoQ(l) })
	}
	if len(s.secondaries) > 0 {
		s.running.Go(func() { s.notify(s.secondaries) })
	}
	if len(s.o.TransferKeys) > 0 {
		s.running.Go(s.keepHistories)
	}
	if s.lines != nil {
		s.running.Go(s.writeLog)
	}
	handler := s.Handler()
	for _, l := range s.web {
		s.serveHTTP(l, handler, nil)
	}
	for _, l := range s.secure {
		s.serveHTTP(l, handler, s.o.TLS.Clone())
	}
}

// serveHTTP serves on a listener, with HTTP/2 when there is TLS.
func (s *Server) serveHTTP(l net.Listener, handler http.Handler, config *tls.Config) {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, TLSConfig: config,
		WriteTimeout: idleTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.https = append(s.https, server)
	s.running.Go(func() {
		var err error
		if config == nil {
			err = server.Serve(l)
		} else {
			err = server.ServeTLS(l, "", "")
		}
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("HTTP server of DNS ended", "addr", l.Addr(), "err", err)
		}
	})
}

// Close stops all listeners and connections and waits for their goroutines.
// Calling it again is no error.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.wakeUDP()
	err := s.closeListeners()
	for _, server := range s.https {
		err = errors.Join(err, ignoreClosed(server.Close()))
	}
	s.running.Wait()
	s.closeUDP()
	if err != nil {
		return fmt.Errorf("closing the DNS server: %w", err)
	}
	return nil
}

func (s *Server) closeListeners() error {
	var errs []error
	for _, c := range s.udp {
		errs = append(errs, ignoreClosed(c.Close()))
	}
	for _, l := range slices.Concat(s.tcp, s.dot) {
		errs = append(errs, l.Close())
	}
	for _, l := range slices.Concat(s.web, s.secure) {
		errs = append(errs, ignoreClosed(l.Close()))
	}
	for _, l := range s.quic {
		errs = append(errs, ignoreClosed(l.Close()))
	}
	return errors.Join(errs...)
}

// ignoreClosed is for what may be closed already: HTTP listeners by their servers,
// UDP sockets when a worker took them over.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
