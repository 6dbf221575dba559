package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	crand "crypto/rand"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Client keeps one user connected. All methods are safe for concurrent use.
type Client struct {
	o            Options
	connectionID []byte

	ctx    context.Context
	cancel context.CancelFunc
	start  sync.Once
	done   chan struct{} // closed when run has returned
	kick   chan struct{} // of capacity 1: connect now

	notices chan *v1.Notice
	outbox  *outbox
	cache   *cache // of the goroutine of run
	tasks   sync.WaitGroup

	eventsMu     sync.Mutex
	events       chan Event
	eventsClosed bool

	mu       sync.Mutex
	identity Identity
	known    []netip.AddrPort // what worked or was found last, best first
	snapshot []byte           // of the app's last Sync
	world    uint64           // newest version heard of
	current  *conn            // ready; nil while there is none
	changed  chan struct{}    // closed and replaced when current or failure changes
	failure  error            // for good
}

// New makes a client, and reads what an earlier one left in Options.Dir; nothing
// is started before [Client.Connect].
func New(o Options) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{
		o: o, connectionID: make([]byte, 16), identity: o.Identity, known: slices.Clone(o.Known),
		done: make(chan struct{}), kick: make(chan struct{}, 1), changed: make(chan struct{}),
		notices: make(chan *v1.Notice, 256), events: make(chan Event, 64),
	}
	_, _ = crand.Read(c.connectionID)
	c.cache = openCache(o.Dir)
	if cached := c.cache.load(); len(c.known) == 0 {
		c.known = cached
	}
	if c.outbox, err = openOutbox(outboxPath(o.Dir, o.Identity.UIN), o.Logger); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Connect starts the client and blocks until it is connected, failed for good,
// or ctx ends. In the last case the client goes on trying until Close.
func (c *Client) Connect(ctx context.Context) error {
	c.start.Do(func() {
		if c.o.OnEvent != nil || c.o.OnNotice != nil {
			c.tasks.Go(c.deliver)
		}
		go c.run()
	})
	_, err := c.ready(ctx)
	return err
}

// Close disconnects and waits for the client's goroutines.
func (c *Client) Close() error {
	c.cancel()
	c.start.Do(func() { close(c.done) }) // was never started
	<-c.done
	c.tasks.Wait()
	c.eventsMu.Lock()
	defer c.eventsMu.Unlock()
	if !c.eventsClosed {
		c.eventsClosed = true
		close(c.events)
	}
	return nil
}

// Reconnect drops the connection and makes a new one at once, without asking
// DNS first. Apps call it when the operating system says the network changed.
func (c *Client) Reconnect() {
	c.mu.Lock()
	cur := c.current
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
	if cur != nil {
		cur.fail(errors.New("the app asked for a new connection"))
	}
}

// Notices returns the channel of notices. When it is full the oldest is
// dropped: notices are hints, and Sync is the truth.
func (c *Client) Notices() <-chan *v1.Notice { return c.notices }

// Identity returns the identity with its newest ticket.
func (c *Client) Identity() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity
}

// Known returns the endpoints that worked or were found last, best first, for
// Options.Known of the next start.
func (c *Client) Known() []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.known)
}

// Where returns the region and POP ("" for none) of the connection, and false
// while there is none.
func (c *Client) Where() (region.ID, string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return "", "", false
	}
	id, _ := c.current.place()
	return id, c.current.POP, true
}

// ready returns the connection, waiting for one. Errors: ctx's, and the one the
// client failed with for good.
func (c *Client) ready(ctx context.Context) (*conn, error) {
	for {
		c.mu.Lock()
		cur, failure, changed := c.current, c.failure, c.changed
		c.mu.Unlock()
		if failure != nil {
			return nil, failure
		}
		if cur != nil {
			return cur, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, region.Errorf(region.Unavailable, "not connected").WithCause(ctx.Err())
		case <-c.ctx.Done():
			return nil, errClosed
		}
	}
}

var errClosed = region.Errorf(region.Unavailable, "the client is closed")

func (c *Client) set(cur *conn, failure error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.failure = cur, failure
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) heardOf(world uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.world = max(c.world, world)
}

// run is the client's life: find endpoints, connect, serve, again.
func (c *Client) run() {
	defer close(c.done)
	var next []netip.AddrPort             // where a redirect leads
	failures, drops, redirects := 0, 0, 0 // each in a row
	settled := false                      // connected before
	for c.ctx.Err() == nil {
		ends, source := next, "redirect"
		from := map[netip.AddrPort]string(nil)
		if next = nil; len(ends) == 0 {
			ends, from = c.candidates(failures, settled)
			source = ""
		}
		started := time.Now()
		cn, err := c.establish(ends)
		if r := wire.RedirectOf(err); r != nil {
			redirects++
			next = c.follow(r)
			if redirects <= maxRedirects && len(next) > 0 {
				continue
			}
			next, redirects = nil, 0
		}
		if err != nil {
			if c.ctx.Err() != nil {
				return
			}
			c.emit(Event{Kind: Disconnected, Err: err})
			if hopeless(err) {
				c.emit(Event{Kind: Failed, Err: err})
				c.set(nil, err)
				return
			}
			failures++
			c.pause(max(c.backoff(failures), retryAfter(err)))
			continue
		}
		failures, redirects, settled = 0, 0, true
		if source == "" {
			source = from[cn.endpoint]
		}
		c.prefer(cn.endpoint)
		c.remember()
		cn.left = !c.outbox.empty() // before anybody can send on it
		c.set(cn, nil)
		id, _ := cn.place()
		c.emit(Event{Kind: Connected, Endpoint: cn.endpoint, Region: id, POP: cn.POP, Source: source, Took: time.Since(started), World: cn.World})
		end := cn.serve(c)
		c.set(nil, nil)
		close(cn.gone) // after set, so that whoever waits for it finds no dead connection
		if c.ctx.Err() != nil {
			return
		}
		c.emit(Event{Kind: Disconnected, Endpoint: cn.endpoint, Err: end.err})
		switch {
		case end.redirect != nil:
			redirects = 1
			next = c.follow(end.redirect)
		case end.delay > 0:
			c.avoid(cn.endpoint)
			c.pause(rand.N(end.delay))
		case time.Since(started) < c.o.ConnectTimeout:
			// A server that accepts and drops must not be hammered, nor be the
			// only one that is tried.
			if drops++; drops > maxDrops {
				failures = drops
			}
			c.pause(c.backoff(drops))
			continue
		}
		drops = 0
	}
}

// hopeless says whether trying again cannot help before the app or its user
// does something.
func hopeless(err error) bool {
	switch region.KindOf(err) {
	case region.Unauthenticated, region.Forbidden, region.Unsupported, region.BadInput:
		return true
	default:
		return false
	}
}

// retryAfter is the pause the region asked for and up to half of it more, so
// that those who were told the same do not come back together.
func retryAfter(err error) time.Duration {
	var e *wire.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return e.RetryAfter + rand.N(e.RetryAfter/2+1)
	}
	return 0
}

// backoff is the pause after so many failures in a row: doubling, and anywhere
// between its half and its whole, so that clients cut off together do not come
// back together.
func (c *Client) backoff(failures int) time.Duration {
	d := c.o.BackoffMin
	for i := 1; i < failures && d < c.o.BackoffMax; i++ {
		d *= 2
	}
	d = min(d, c.o.BackoffMax)
	return d/2 + rand.N(d/2+1)
}

func (c *Client) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.kick:
	case <-c.ctx.Done():
	}
}

func (c *Client) follow(r *v1.Redirect) []netip.AddrPort {
	c.heardOf(r.WorldVersion)
	ends := parseEndpoints(r.Endpoints)
	c.emit(Event{Kind: Redirected, Region: region.ID(r.Acting), Endpoints: len(ends), World: r.WorldVersion})
	return ends
}

// prefer puts an endpoint first among the known ones, avoid last.
func (c *Client) prefer(a netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(c.known), func(k netip.AddrPort) bool { return k == a })
	c.known = append([]netip.AddrPort{a}, rest...)
	if len(c.known) > maxKnown {
		c.known = c.known[:maxKnown]
	}
}

// remember keeps the known endpoints for the next start.
func (c *Client) remember() {
	if err := c.cache.store(c.Known()); err != nil {
		c.o.Logger.Warn("the endpoints are not kept for the next start", "error", err)
	}
}

func (c *Client) avoid(a netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(c.known), func(k netip.AddrPort) bool { return k == a })
	if len(rest) > 0 {
		c.known = append(rest, a)
	}
}

const (
	maxKnown = 16
	maxDrops = 3 // connections dropped early in a row before the endpoints are looked up again
)
