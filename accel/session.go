package accel

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/homing-im/homing/accel/relay"
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// linger is how long a client has to read the POP's last words before the socket
// is closed under bytes it may have sent meanwhile, which would lose them.
const linger = time.Second

// halfOpen is how long one direction may go on after the other has ended.
const halfOpen = 30 * time.Second

// session is a long connection that reached its region: two ends and a goroutine
// per direction. Nothing of it but the two ends knows which region serves the
// client, so a session can outlive its region once the POP learns to hold it.
type session struct {
	p      *POP
	uin    region.UIN
	region region.ID
	client *relay.Conn
	server *relay.Conn
	toUser *relay.Frames // in front of client
	quiet  bool          // the region refused HELLO: it has said all there is to say
	left   atomic.Bool   // the client ended its direction
}

// acceptLong accepts until the listener is closed.
func (p *POP) acceptLong(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: give some time to come free.
			p.o.Logger.Error("accept failed", "listener", "long", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-p.ctx.Done():
				return
			}
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			_ = c.Close()
			continue
		}
		from := addrOf(c.RemoteAddr())
		if why := p.limits.take(from.Addr()); why != "" {
			p.m.rejected.WithLabelValues(why).Inc()
			_ = c.Close()
			continue
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			p.limits.give(from.Addr())
			_ = c.Close()
			return
		}
		p.opening[c] = struct{}{}
		p.wg.Add(1)
		p.mu.Unlock()
		p.m.accepted.WithLabelValues(string(region.Long)).Inc()
		go p.open(tcp, client{from: from, to: addrOf(c.LocalAddr())})
	}
}

// open brings a connection to its region and starts its relay. It runs in a
// goroutine of its own that ends when the relay begins: a TLS handshake grows
// the stack, and an idle connection shall not keep it.
func (p *POP) open(tcp *net.TCPConn, c client) {
	defer p.wg.Done()
	conn := relay.Plain(tcp)
	if p.o.TLS != nil {
		conn = relay.Server(tcp, p.o.TLS)
	}
	s, err := p.greeted(conn, c)
	p.mu.Lock()
	delete(p.opening, tcp)
	start := err == nil && !p.closed
	if start {
		p.sessions[s] = struct{}{}
		p.users[s.uin]++
		p.wg.Add(2)
	}
	draining := p.draining
	p.mu.Unlock()
	if !start {
		if err == nil {
			_ = s.server.Abort()
		}
		_ = conn.Abort()
		p.limits.give(c.from.Addr())
		p.finished()
		return
	}
	user := make(chan struct{})
	go func() {
		defer p.wg.Done()
		defer close(user)
		s.fromUser()
	}()
	go func() {
		defer p.wg.Done()
		s.fromRegion()
		<-user
		s.end()
		p.limits.give(c.from.Addr())
		p.finished()
	}()
	if draining {
		s.goAway("drain", p.o.DrainSpread)
	}
}

// greeted makes the handshake, reads HELLO, connects to the region and passes
// its reply on. When it fails the client has been told why, as far as it speaks
// the protocol.
func (p *POP) greeted(conn *relay.Conn, c client) (*session, error) {
	start := time.Now()
	if err := conn.SetDeadline(start.Add(p.o.Handshake)); err != nil {
		return nil, err
	}
	hctx, cancel := context.WithTimeout(p.ctx, p.o.Handshake)
	err := conn.Handshake(hctx)
	cancel()
	if err != nil {
		p.m.rejected.WithLabelValues(reasonOf(err, "tls")).Inc()
		return nil, err
	}
	h, err := readHello(conn)
	if err != nil {
		p.m.rejected.WithLabelValues(reasonOf(err, "hello")).Inc()
		if e := (*region.Error)(nil); errors.As(err, &e) {
			p.refuse(conn, h, err)
		}
		return nil, err
	}
	if v := p.version(); v > 0 && h.body.WorldVersion > v {
		p.o.World.Hint(h.body.WorldVersion)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	up, err := p.connect(p.ctx, h, c)
	if err != nil {
		p.m.rejected.WithLabelValues(region.KindOf(err).String()).Inc()
		if region.KindOf(err) != region.NotFound {
			p.o.Logger.Warn("no way to the acting region", "error", err)
		}
		p.refuse(conn, h, err)
		return nil, err
	}
	s := &session{
		p: p, uin: h.uin(), region: up.region, client: conn, server: up.conn,
		toUser: relay.NewFrames(conn), quiet: up.refused,
	}
	if _, err := s.toUser.Write(up.reply); err != nil {
		_ = up.conn.Abort()
		return nil, err
	}
	p.m.hello.Observe(time.Since(start).Seconds())
	return s, nil
}

// reasonOf labels a failed opening.
func reasonOf(err error, otherwise string) string {
	var ne net.Error
	switch {
	case errors.As(err, &ne) && ne.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "slow-" + otherwise
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return "gone"
	default:
		return "bad-" + otherwise
	}
}

// refuse answers HELLO with an error and gives the client time to read it.
func (p *POP) refuse(conn *relay.Conn, h *hello, err error) {
	if _, werr := conn.Write(h.refusal(err, p.version())); werr != nil {
		return
	}
	lingerClose(p.ctx, conn)
}

func lingerClose(ctx context.Context, conn *relay.Conn) {
	if conn.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(linger)) != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Abort() })
	defer stop()
	discard(conn)
}

// discard reads until the peer ends or the read deadline passes.
func discard(conn *relay.Conn) {
	for {
		b, err := conn.Next()
		if err != nil {
			return
		}
		b.Free()
	}
}

// fromUser relays until the client ends, and passes its half-close on. It is the
// last reader of the client's socket.
func (s *session) fromUser() {
	err := relay.Copy(s.server, s.client, s.p.m.bytesIn)
	var re *relay.Error
	switch {
	case err == nil:
		s.left.Store(true)
		// The region may still answer what it was sent, but not for ever.
		if s.server.CloseWrite() != nil || s.server.SetReadDeadline(time.Now().Add(halfOpen)) != nil {
			_ = s.server.Abort()
		}
	case errors.As(err, &re) && re.Reading:
		s.abort() // the client is gone
	default:
		// The region is gone, which fromRegion is about to tell the client.
		// Closing the socket now would lose that under what the client sent.
		_ = s.server.Abort()
		discard(s.client)
	}
}

// fromRegion relays until the region ends. When it was the region that went away
// the client is told to come back; a region that said so itself is not repeated.
func (s *session) fromRegion() {
	err := relay.Copy(s.toUser, s.server, s.p.m.bytesOut)
	var re *relay.Error
	if errors.As(err, &re) && !re.Reading || s.p.ctx.Err() != nil {
		s.abort() // the client does not read, or the POP is closing
		return
	}
	if !s.quiet && !s.left.Load() && wire.Method(s.toUser.Newest()) != wire.GoAway && s.toUser.Between() {
		s.goAway("region lost", s.p.o.Spread)
	}
	if s.client.CloseWrite() != nil || s.client.SetReadDeadline(time.Now().Add(linger)) != nil {
		_ = s.client.Abort()
	}
	_ = s.server.Abort()
}

// goAway tells the client to reconnect after a random part of the delay.
func (s *session) goAway(reason string, delay time.Duration) {
	// The client spreads by itself; a random delay on top spreads those that
	// reconnect at its end.
	ms := uint32((delay/2 + rand.N(delay/2+1)).Milliseconds())
	b, err := wire.AppendMessage(nil, wire.GoAway, wire.FlagPush, 0, &v1.GoAway{DelayMilli: ms, Reason: reason})
	if err != nil {
		return
	}
	s.p.m.goAways.WithLabelValues(reason).Inc()
	s.toUser.Inject(b)
}

// abort closes both ends at once, which ends both directions.
func (s *session) abort() {
	_ = s.client.Abort()
	_ = s.server.Abort()
}

// end takes the session out of the books; both directions have ended.
func (s *session) end() {
	s.abort()
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s)
	if p.users[s.uin]--; p.users[s.uin] <= 0 {
		delete(p.users, s.uin)
	}
}
