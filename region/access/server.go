package access

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Server is the front doors of a region on one node.
type Server struct {
	o        Options
	m        *metrics
	handlers map[wire.Method]handler
	sender   Sender // nil: a Send is answered like everything else
	auth     func(ctx context.Context, ticket string) (core.Device, error)
	trusted  func(netip.Addr) bool

	ctx     context.Context // of everything the server started
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	parking *parking
	workers *workers
	conns   atomic.Int64

	greeting atomic.Int64 // long connections in mid-handshake
	shakes   shakes

	listeners map[region.Service]net.Listener
	https     []*http.Server
	polls     *polls

	closing   atomic.Bool
	closeOnce sync.Once
	closeErr  error
}

// New listens on the addresses of the options and serves them.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	s := &Server{o: o, m: m, handlers: handlers(), listeners: map[region.Service]net.Listener{}}
	if o.Remote != nil {
		s.auth = o.Remote.Authenticate
	} else {
		s.auth = o.Logic.Authenticate
		s.sender, _ = o.Logic.(Sender)
	}
	s.trusted = func(a netip.Addr) bool {
		for _, p := range o.Proxies {
			if p.Contains(a.Unmap()) {
				return true
			}
		}
		return false
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.parking, err = newParking(o.idle()); err != nil {
		s.cancel()
		return nil, fmt.Errorf("access: %w", err)
	}
	s.shakes = make(shakes, maxShakes)
	s.workers = newWorkers(s.ctx, &s.tasks)
	s.polls = newPolls(s)
	for service, addr := range map[region.Service]string{region.Long: o.Long, region.Short: o.Short, region.Web: o.Web} {
		if addr == "" {
			continue
		}
		l, err := s.listen(addr)
		if err != nil {
			s.cancel()
			s.parking.stop()
			s.parking.free()
			for _, l := range s.listeners {
				_ = l.Close()
			}
			return nil, fmt.Errorf("access: %s listener: %w", service, err)
		}
		s.listeners[service] = l
	}
	s.start()
	return s, nil
}

// listen opens a TCP listener without MPTCP: the kernel refuses
// TCP_USER_TIMEOUT on MPTCP sockets, and Go turns MPTCP on by default. Go's
// keepalive, every 15 s, would wake the radio of every phone; the heartbeat
// keeps the connection, at the interval the server asks for.
func (s *Server) listen(addr string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	lc.KeepAlive = -1
	lc.Control = deadPeer(s.o.Write)
	l, err := lc.Listen(s.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return s.proxied(l), nil
}

func (s *Server) start() {
	s.tasks.Go(s.parking.run)
	s.tasks.Go(func() { s.parking.sweep(s.ctx.Done()) })
	if l := s.listeners[region.Long]; l != nil {
		s.tasks.Go(func() { s.acceptLong(l) })
	}
	if l := s.listeners[region.Short]; l != nil {
		s.serveHTTP(l, s.shortHandler(region.Short))
	}
	if l := s.listeners[region.Web]; l != nil {
		s.serveHTTP(l, s.webHandler())
	}
	s.tasks.Go(s.watch)
}

// Addr returns where a service is listened for; invalid when it is not.
func (s *Server) Addr(service region.Service) netip.AddrPort {
	l := s.listeners[service]
	if l == nil {
		return netip.AddrPort{}
	}
	a, _ := netip.ParseAddrPort(l.Addr().String())
	return a
}

// Online returns the number of users and of their connections.
func (s *Server) Online() (users, connections int) { return s.o.Presence.Online() }

// watch sends clients away whose owner another region acts for, whenever the
// world or the overlay changes.
func (s *Server) watch() {
	for {
		changed := s.o.World.Changed()
		if v := s.o.World.View(); v != nil {
			s.o.Presence.all(func(n *session) {
				p, ok := v.Placement(n.caller.UIN)
				if n.s != s || !ok || p.Acting == s.o.Region || n.leaving.Load() {
					return
				}
				n.redirect(s.redirectTo(n.service, v, p, n.caller))
			})
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return
		}
	}
}

// Close drains the server: it stops accepting, tells every client to go, waits
// until they went, Options.Drain passed or ctx ended, ends what is left, and
// returns when every goroutine of the server has.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() { s.closeErr = s.close(ctx) })
	return s.closeErr
}

func (s *Server) close(ctx context.Context) error {
	s.closing.Store(true)
	ctx, cancel := context.WithTimeout(ctx, s.o.Drain)
	defer cancel()
	var errs []error
	if l := s.listeners[region.Long]; l != nil {
		errs = append(errs, l.Close())
	}
	mine := func(f func(*session)) {
		s.o.Presence.all(func(n *session) {
			if n.s == s {
				f(n)
			}
		})
	}
	mine(func(n *session) {
		n.push(wire.GoAway, &v1.GoAway{DelayMilli: uint32(s.o.Drain.Milliseconds()), Reason: "the node is going down"})
	})
	// HTTP servers close their listeners here and wait for plain requests;
	// hijacked WebSockets and polls are sessions.
	var down sync.WaitGroup
	for _, h := range s.https {
		down.Go(func() {
			if err := h.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				_ = h.Close()
			}
		})
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for left := 1; left > 0 && ctx.Err() == nil; {
		left = 0
		mine(func(*session) { left++ })
		if left > 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}
	mine(func(n *session) { n.shutdown() })
	s.polls.close()
	s.cancel()
	s.parking.stop()
	down.Wait()
	for _, h := range s.https {
		_ = h.Close()
	}
	s.tasks.Wait()
	s.parking.free()
	return errors.Join(errs...)
}
