package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// establish connects to one of the endpoints and proves the device key. A
// ticket that is no longer good is renewed once. A redirect is an error that
// carries it.
func (c *Client) establish(ends []netip.AddrPort) (*conn, error) {
	if len(ends) == 0 {
		return nil, region.Errorf(region.Unavailable, "no endpoint is known").WithHint("is the network up?")
	}
	cn, err := c.attempt(ends)
	if region.KindOf(err) != region.Unauthenticated {
		return cn, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.o.ConnectTimeout)
	defer cancel()
	if rerr := c.renewShort(ctx); rerr != nil {
		if region.KindOf(rerr) == region.Unauthenticated {
			return nil, rerr
		}
		// The short connection being down is no proof that the device is
		// refused: try again later.
		return nil, region.Errorf(region.Unavailable, "the ticket is no longer good and cannot be renewed now").WithCause(errors.Join(err, rerr))
	}
	return c.attempt(ends)
}

// attempt races the endpoints to a secured connection, and does the handshake
// on the first; the next is taken when that one cannot serve now. Two
// handshakes are never under way at once: the server takes the second for a
// reconnect, and drops the first.
func (c *Client) attempt(ends []netip.AddrPort) (*conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.ConnectTimeout)
	defer cancel()
	r := c.race(ctx, ends)
	defer r.stop()
	var last error
	for {
		d, err := r.next(ctx)
		if err != nil {
			if last == nil || errors.Is(last, context.Canceled) {
				last = err
			}
			return nil, last
		}
		// An endpoint that takes connections and then says nothing must leave
		// time for the others.
		turn, cancel := context.WithTimeout(ctx, c.o.ConnectTimeout/2)
		cn, err := c.handshake(turn, d.conn, d.endpoint)
		silent := turn.Err() != nil
		cancel()
		if err == nil {
			return cn, nil
		}
		_ = d.conn.Close()
		if silent {
			c.avoid(d.endpoint)
		}
		if k := region.KindOf(err); wire.RedirectOf(err) != nil || k == region.Unauthenticated || hopeless(err) {
			return nil, err
		}
		last = err
	}
}

// link is what this client's connections have in common.
func (c *Client) link() *LinkOptions {
	c.mu.Lock()
	id, world := c.identity, c.world
	c.mu.Unlock()
	return &LinkOptions{Identity: id, ClientVersion: c.o.ClientVersion, Platform: c.o.Platform, World: world, ConnectionID: c.connectionID,
		Zone: c.o.Zone, RootCAs: c.o.RootCAs, Plain: c.o.Plain, Dial: c.o.Dial}
}

// handshake sends Hello and the proof.
func (c *Client) handshake(ctx context.Context, nc net.Conn, endpoint netip.AddrPort) (*conn, error) {
	l, err := c.link().prove(ctx, nc)
	if err != nil {
		return nil, err
	}
	c.heardOf(l.World)
	c.ticketExpires(l.Expires)
	return &conn{Link: l, endpoint: endpoint, region: l.Region, epoch: l.Epoch, sequence: proofs, pending: map[uint64]chan reply{}, gone: make(chan struct{})}, nil
}

func (c *Client) ticketExpires(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !at.IsZero() {
		c.identity.Expires = at
	}
}

// errorOf reads the error that a frame carries.
func errorOf(f wire.Frame) error {
	p := new(v1.Error)
	if err := wire.Unmarshal(f, p); err != nil {
		return err
	}
	return wire.FromProto(p)
}

// lost is the error of a call whose connection ended: the outcome is unknown,
// and the idempotency key makes another try harmless.
func lost(err error) error {
	return region.Errorf(region.Unavailable, "the connection ended").WithCause(err)
}

type dialed struct {
	conn     net.Conn
	endpoint netip.AddrPort
	err      error
}

// race dials endpoints beside each other, each Stagger after the one before, or
// at once when that one failed (RFC 8305).
type race struct {
	results chan dialed
	left    int
	cancel  context.CancelFunc
}

func (c *Client) race(ctx context.Context, ends []netip.AddrPort) *race {
	ctx, cancel := context.WithCancel(ctx)
	r := &race{results: make(chan dialed), left: len(ends), cancel: cancel}
	failed := make(chan struct{}, len(ends))
	go func() {
		defer close(r.results)
		inner := make(chan dialed, len(ends))
		running := 0
		t := time.NewTimer(0)
		defer t.Stop()
		for i := 0; i < len(ends) || running > 0; {
			var out chan dialed
			var head dialed
			timer := t.C
			if i >= len(ends) {
				timer = nil
			}
			// Whoever is still dialing ends with ctx; they are waited for, so that
			// no goroutine or connection outlives the attempt.
			drain := func() {
				for ; running > 0; running-- {
					if d := <-inner; d.conn != nil {
						_ = d.conn.Close()
					}
				}
			}
			select {
			case <-ctx.Done():
				drain()
				return
			case <-timer:
				e := ends[i]
				i++
				running++
				t.Reset(c.o.Stagger)
				go func() { inner <- c.dialOne(ctx, e) }()
				continue
			case <-failed:
				t.Reset(0)
				continue
			case head = <-inner:
				running--
				if head.err != nil {
					t.Reset(0)
				}
				out = r.results
			}
			select {
			case out <- head:
			case <-ctx.Done():
				if head.conn != nil {
					_ = head.conn.Close()
				}
				drain()
				return
			}
		}
	}()
	return r
}

// next returns the next secured connection, or an error when none is left.
func (r *race) next(ctx context.Context) (dialed, error) {
	var last error
	for d := range r.results {
		if d.err == nil {
			return d, nil
		}
		last = d.err
	}
	if ctx.Err() != nil && last == nil {
		last = ctx.Err()
	}
	if last == nil {
		last = errors.New("no endpoint is left")
	}
	return dialed{}, region.Errorf(region.Unavailable, "no endpoint can be reached").WithCause(last)
}

// stop ends the dialing and closes what nobody took.
func (r *race) stop() {
	r.cancel()
	for d := range r.results {
		if d.conn != nil {
			_ = d.conn.Close()
		}
	}
}

func (c *Client) dialOne(ctx context.Context, e netip.AddrPort) dialed {
	nc, err := c.link().secure(ctx, e)
	return dialed{conn: nc, endpoint: e, err: err}
}
