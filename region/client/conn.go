package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// answerTimeout is how long a heartbeat may go unanswered.
const answerTimeout = 10 * time.Second

// renewBefore is how near its end a ticket has to be for a demand of the server
// to renew it; else the demand is for a new proof only.
const renewBefore = 5 * time.Minute

// conn is the connection that a client keeps.
type conn struct {
	*Link
	endpoint netip.AddrPort
	left     bool // the outbox had messages of an earlier connection or process

	gone chan struct{} // closed when the connection is over and no longer the client's current one

	writeMu sync.Mutex

	mu       sync.Mutex
	region   region.ID
	epoch    region.Epoch
	sequence uint64
	pending  map[uint64]chan reply // nil when the connection is over
	end      ending
}

type reply struct {
	frame wire.Frame // its body is the receiver's
	err   error
}

// ending is why a connection is over.
type ending struct {
	err      error
	redirect *v1.Redirect
	delay    time.Duration // the server asked to come back after a part of it
}

func (cn *conn) place() (region.ID, region.Epoch) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.region, cn.epoch
}

// fail ends the connection; the first reason counts.
func (cn *conn) fail(err error) {
	cn.mu.Lock()
	if cn.end.err == nil {
		cn.end.err = err
	}
	cn.mu.Unlock()
	_ = cn.nc.Close()
}

// call sends one request and waits for its answer.
func (cn *conn) call(ctx context.Context, m wire.Method, req, resp proto.Message) error {
	ch := make(chan reply, 1)
	cn.mu.Lock()
	if cn.pending == nil {
		cn.mu.Unlock()
		return lost(net.ErrClosed)
	}
	cn.sequence++
	seq := cn.sequence
	cn.pending[seq] = ch
	cn.mu.Unlock()
	defer func() {
		cn.mu.Lock()
		delete(cn.pending, seq)
		cn.mu.Unlock()
	}()
	b, err := wire.AppendMessage(nil, m, 0, seq, req)
	if err != nil {
		return err
	}
	if err := cn.write(b); err != nil {
		cn.fail(err)
		return lost(err)
	}
	select {
	case r := <-ch:
		if r.err != nil {
			return r.err
		}
		if r.frame.Is(wire.FlagError) {
			return errorOf(r.frame)
		}
		if resp == nil {
			return nil
		}
		return wire.Unmarshal(r.frame, resp)
	case <-ctx.Done():
		return region.Errorf(region.Unavailable, "no answer in time").WithCause(ctx.Err())
	}
}

func (cn *conn) write(b []byte) error {
	cn.writeMu.Lock()
	defer cn.writeMu.Unlock()
	_ = cn.nc.SetWriteDeadline(time.Now().Add(answerTimeout))
	_, err := cn.nc.Write(b)
	return err
}

// serve reads the connection until it is over, and says why.
func (cn *conn) serve(c *Client) ending {
	stop := context.AfterFunc(c.ctx, func() { cn.fail(errClosed) })
	defer stop()
	ctx, cancel := context.WithCancel(c.ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { cn.beat(ctx, c) })
	tasks.Go(func() { c.tend(ctx, cn) })
	for {
		f, err := cn.r.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the server closed the connection")
			}
			cn.fail(err)
			break
		}
		cn.receive(ctx, c, &tasks, f)
	}
	cancel()
	cn.abandon(true)
	tasks.Wait()
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.end
}

// abandon answers every waiting call with "unknown"; over takes no more.
func (cn *conn) abandon(over bool) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	for seq, ch := range cn.pending {
		ch <- reply{err: lost(cn.end.err)}
		delete(cn.pending, seq)
	}
	if over {
		cn.pending = nil
	}
}

func (cn *conn) receive(ctx context.Context, c *Client, tasks *sync.WaitGroup, f wire.Frame) {
	if f.Is(wire.FlagResponse) {
		cn.mu.Lock()
		ch := cn.pending[f.Sequence]
		delete(cn.pending, f.Sequence)
		cn.mu.Unlock()
		if ch != nil {
			f.Body = append([]byte(nil), f.Body...)
			ch <- reply{frame: f}
		}
		return
	}
	if !f.Is(wire.FlagPush) {
		return // a newer server's idea
	}
	switch f.Method {
	case wire.Notice:
		n := new(v1.Notice)
		if wire.Unmarshal(f, n) == nil {
			sendNewest(c.notices, n)
		}
	case wire.Redirect:
		r := new(v1.Redirect)
		if wire.Unmarshal(f, r) == nil {
			cn.leave(ending{err: errors.New("another region acts for this user now"), redirect: r})
		}
	case wire.GoAway:
		if f.Is(wire.FlagError) {
			cn.leave(ending{err: errorOf(f)})
			return
		}
		g := new(v1.GoAway)
		if wire.Unmarshal(f, g) == nil {
			cn.leave(ending{err: errors.New("the server said: " + g.Reason), delay: time.Duration(max(g.DelayMilli, 1)) * time.Millisecond})
		}
	case wire.Rehomed:
		h := new(v1.Rehomed)
		e, err := region.Epoch{}, error(nil)
		if wire.Unmarshal(f, h) == nil {
			if e, err = wire.EpochFromProto(h.Epoch); err != nil {
				return
			}
			cn.mu.Lock()
			cn.region, cn.epoch = region.ID(h.Region), e
			cn.mu.Unlock()
			c.emit(Event{Kind: Rehomed, Endpoint: cn.endpoint, Region: region.ID(h.Region), POP: cn.POP})
			// What was asked of the region before may be unanswered for ever.
			cn.abandon(false)
			c.outbox.nudge()
		}
	case wire.Reauth:
		r := new(v1.Reauth)
		if wire.Unmarshal(f, r) == nil {
			tasks.Go(func() { cn.prove(ctx, c, r.Nonce) })
		}
	}
}

// leave ends the connection at the server's wish.
func (cn *conn) leave(e ending) {
	cn.mu.Lock()
	if cn.end.err == nil {
		cn.end = e
	}
	cn.mu.Unlock()
	_ = cn.nc.Close()
}

// prove answers the server's demand for a new proof, with a new ticket when the
// old one is about to end.
func (cn *conn) prove(ctx context.Context, c *Client, nonce []byte) {
	ctx, cancel := context.WithTimeout(ctx, c.o.ConnectTimeout)
	defer cancel()
	r := &v1.Reauth{Nonce: nonce}
	if time.Until(c.Identity().Expires) < renewBefore {
		ask := func(m wire.Method, req, resp proto.Message) error { return cn.call(ctx, m, req, resp) }
		if err := c.renew(ask); err != nil {
			c.o.Logger.Warn("the ticket cannot be renewed", "error", err)
			return // the server ends the connection when the ticket does
		}
	}
	id := c.Identity()
	r.Ticket = id.Ticket
	at, epoch := cn.place()
	r.Signature = ed25519.Sign(id.Key, wire.ConnectionProof(string(at), epoch, c.connectionID, nonce, id.UIN))
	resp := new(v1.ReauthReply)
	if err := cn.call(ctx, wire.Reauth, r, resp); err != nil {
		c.o.Logger.Warn("the proof was not taken", "error", err)
		return
	}
	if resp.TicketExpiresUnix > 0 {
		c.ticketExpires(time.Unix(resp.TicketExpiresUnix, 0))
	}
}

// beat keeps the connection alive and finds out when it is not.
func (cn *conn) beat(ctx context.Context, c *Client) {
	every := cn.Heartbeat
	t := time.NewTimer(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		world := c.world
		c.mu.Unlock()
		r := new(v1.HeartbeatReply)
		call, cancel := context.WithTimeout(ctx, answerTimeout)
		err := cn.call(call, wire.Heartbeat, &v1.Heartbeat{WorldVersion: world}, r)
		cancel()
		if err != nil {
			cn.fail(err)
			return
		}
		c.heardOf(r.WorldVersion)
		if r.HeartbeatSeconds > 0 {
			every = time.Duration(r.HeartbeatSeconds) * time.Second
		}
		t.Reset(every)
	}
}
