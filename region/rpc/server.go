package rpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homing-im/homing/region"
)

// Handler serves the calls of other processes.
type Handler interface {
	// Call answers one call; it may block until ctx ends, and calls of one peer
	// run at the same time. The body is the handler's.
	Call(ctx context.Context, from *Peer, m Method, body []byte) ([]byte, error)
	// Tell takes what a peer tells, in the order it was told, and must not block.
	Tell(from *Peer, m Method, body []byte)
	// Connected and Gone bracket everything that a connection's peer says.
	Connected(*Peer)
	Gone(*Peer)
}

// Peer is the other end of a connection that this process listens for.
type Peer struct {
	Name string // proven only as "a process of this region"
	out  *outbox
}

// Tell sends something that has no answer. It never blocks, and is false when
// the peer does not keep up or is gone.
func (p *Peer) Tell(m Method, body []byte) bool {
	return len(body) <= MaxBody && p.out.put(frame{kind: kindTell, method: m, body: body})
}

// ServerOptions configures a [Server]. Identity, Address and Handler are
// required.
type ServerOptions struct {
	Identity Identity
	Address  string // IP:port
	Handler  Handler

	// TLS is required unless Address is a loopback address.
	TLS *tls.Config

	// MaxInFlight is the limit of calls of one connection that are worked on;
	// 4,096 when 0. Beyond it they are refused as overloaded.
	MaxInFlight int

	Logger *slog.Logger // nil discards
}

// Server listens for the other processes of a region.
type Server struct {
	o        ServerOptions
	listener net.Listener
	ctx      context.Context // of the handlers
	cancel   context.CancelFunc
	closing  atomic.Bool
	accepts  sync.WaitGroup
	serving  sync.WaitGroup // a connection each

	mu     sync.Mutex
	conns  map[*Peer]net.Conn
	active int           // calls under way
	idle   chan struct{} // closed when the server is closing and none is under way
}

// Listen starts a server.
func Listen(o ServerOptions) (*Server, error) {
	if err := o.Identity.validate(); err != nil {
		return nil, err
	}
	if o.Handler == nil {
		return nil, region.Errorf(region.BadInput, "rpc: a handler is required")
	}
	if err := plain(o.Address, o.TLS); err != nil {
		return nil, err
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 4096
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", o.Address)
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, listener: l, conns: map[*Peer]net.Conn{}, idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.accepts.Go(s.accept)
	return s, nil
}

// plain refuses an address beyond loopback without TLS.
func plain(address string, t *tls.Config) error {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	if err != nil || ip == nil {
		return region.Errorf(region.BadInput, "rpc: address %q", address).WithHint("want IP:port")
	}
	if t == nil && !ip.IsLoopback() {
		return region.Errorf(region.BadInput, "rpc: %s is not loopback and there is no TLS", address).WithHint("give the node a certificate")
	}
	return nil
}

// Addr returns the address listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if s.closing.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			s.o.Logger.Error("cannot accept", "error", err)
			select {
			case <-time.After(50 * time.Millisecond): // out of file descriptors, most likely
			case <-s.ctx.Done():
				return
			}
			continue
		}
		s.serving.Go(func() { s.serve(c) })
	}
}

func (s *Server) serve(c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(s.ctx, func() { _ = c.Close() })
	defer stop()
	if s.o.TLS != nil {
		c = tls.Server(c, s.o.TLS)
	}
	r := bufio.NewReaderSize(c, 32<<10)
	name, err := s.o.Identity.accepted(c, r)
	if err != nil {
		if !errors.Is(err, io.EOF) { // a health check that only connects
			s.o.Logger.Warn("a connection was refused", "from", c.RemoteAddr().String(), "error", err)
		}
		return
	}
	p := &Peer{Name: name, out: newOutbox(c)}
	var writing sync.WaitGroup
	writing.Go(p.out.run)
	s.mu.Lock()
	s.conns[p] = c
	s.mu.Unlock()
	if s.closing.Load() {
		p.out.put(frame{kind: kindBye})
	}
	s.o.Handler.Connected(p)
	ctx, cancel := context.WithCancel(s.ctx)
	err = s.read(ctx, p, r)
	cancel()
	if !errors.Is(err, io.EOF) && s.ctx.Err() == nil {
		s.o.Logger.Info("a connection ended", "peer", name, "error", err)
	}
	s.o.Handler.Gone(p)
	s.mu.Lock()
	delete(s.conns, p)
	s.mu.Unlock()
	p.out.close()
	_ = c.Close()
	writing.Wait()
}

// read takes frames until the connection ends.
func (s *Server) read(ctx context.Context, p *Peer, r *bufio.Reader) error {
	var mu sync.Mutex
	running := map[uint64]context.CancelFunc{}
	for {
		f, err := readFrame(r, MaxBody)
		if err != nil {
			return err
		}
		switch f.kind {
		case kindTell:
			s.o.Handler.Tell(p, f.method, f.body)
		case kindCancel:
			mu.Lock()
			cancel := running[f.sequence]
			mu.Unlock()
			if cancel != nil {
				cancel()
			}
		case kindRequest:
			mu.Lock()
			full := len(running) >= s.o.MaxInFlight
			mu.Unlock()
			if full || !s.begin() {
				s.refuse(p, f, full)
				continue
			}
			call, cancel := s.deadline(ctx, f.timeout)
			mu.Lock()
			running[f.sequence] = cancel
			mu.Unlock()
			go func() {
				defer s.end()
				s.answer(call, p, f)
				cancel()
				mu.Lock()
				delete(running, f.sequence)
				mu.Unlock()
			}()
		default:
			return region.Errorf(region.BadInput, "the peer sends a frame of kind %d", f.kind)
		}
	}
}

// begin counts a call, unless the server is closing.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.active++
	return true
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 && s.closing.Load() {
		close(s.idle)
	}
}

func (s *Server) deadline(ctx context.Context, milli uint32) (context.Context, context.CancelFunc) {
	if milli == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(milli)*time.Millisecond)
}

func (s *Server) refuse(p *Peer, f frame, full bool) {
	err := region.Errorf(region.Unavailable, "the process is going down").WithHint("ask another one")
	if full {
		err = region.Errorf(region.Overloaded, "%d calls are under way on one connection", s.o.MaxInFlight).WithHint("slow down")
	}
	p.out.put(frame{kind: kindRefused, method: f.method, sequence: f.sequence, body: errorBody(err)})
}

func (s *Server) answer(ctx context.Context, p *Peer, f frame) {
	out := frame{kind: kindResponse, method: f.method, sequence: f.sequence}
	body, err := s.call(ctx, p, f)
	if err == nil && len(body) > MaxBody {
		err = region.Errorf(region.TooLarge, "an answer of %d bytes", len(body))
	}
	if out.body = body; err != nil {
		out.kind, out.body = kindError, errorBody(err)
	}
	if !p.out.put(out) {
		// An answer that is never sent would keep its caller waiting: the peer does
		// not keep up, or is gone already.
		s.drop(p)
	}
}

func (s *Server) drop(p *Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conns[p]; c != nil {
		_ = c.Close()
	}
}

func (s *Server) call(ctx context.Context, p *Peer, f frame) (body []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.o.Logger.Error("a call panicked", "method", f.method, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			body, err = nil, region.Errorf(region.Internal, "internal error").WithHint("ask the operator")
		}
	}()
	return s.o.Handler.Call(ctx, p, f.method, f.body)
}

// Close says so to the peers, refuses new calls, waits until those under way are
// answered or ctx ends, and returns when every goroutine of the server has.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closing.Swap(true) {
		s.mu.Unlock()
		return nil
	}
	if s.active == 0 {
		close(s.idle)
	}
	for p := range s.conns {
		p.out.put(frame{kind: kindBye})
	}
	s.mu.Unlock()
	err := s.listener.Close()
	select {
	case <-s.idle:
	case <-ctx.Done():
	}
	// What was answered leaves before the connections are closed.
	s.mu.Lock()
	for p := range s.conns {
		p.out.close()
	}
	s.mu.Unlock()
	s.accepts.Wait()
	grace := time.AfterFunc(time.Second, s.cancel)
	defer grace.Stop()
	s.serving.Wait()
	s.cancel()
	<-s.idle
	return err
}
