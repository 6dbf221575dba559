package rpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
)

const (
	// redialFirst and redialLast bound the pause between two attempts to connect;
	// it doubles and is jittered.
	redialFirst = 20 * time.Millisecond
	redialLast  = time.Second
	dialTimeout = 3 * time.Second
)

// ClientOptions configures a [Client]. Identity and Address are required.
type ClientOptions struct {
	Identity Identity
	Address  string // IP:port

	// TLS is required unless Address is a loopback address.
	TLS *tls.Config

	// Tell takes what the other end tells, in order; it must not block. May be nil.
	Tell func(m Method, body []byte)
	// Connected is called whenever a connection was made; it may Tell, and must
	// not block. May be nil.
	Connected func()

	Logger *slog.Logger // nil discards
}

// Client keeps one connection to a process, and makes it again when it ends.
// Its methods are safe for concurrent use.
type Client struct {
	o      ClientOptions
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	current *link         // nil while there is none
	changed chan struct{} // closed and replaced when current changes
	failure error         // of the last attempt to connect
}

// link is one connection of a client.
type link struct {
	out *outbox

	mu      sync.Mutex
	bye     bool
	next    uint64
	pending map[uint64]chan frame // nil when the connection is over
}

// Dial starts a client. It does not wait for the connection.
func Dial(o ClientOptions) (*Client, error) {
	if err := o.Identity.validate(); err != nil {
		return nil, err
	}
	if err := plain(o.Address, o.TLS); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, done: make(chan struct{}), changed: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go c.run()
	return c, nil
}

// Close ends the connection and waits for the client's goroutines. Calls under
// way are answered by [Lost].
func (c *Client) Close() error {
	c.cancel()
	<-c.done
	return nil
}

// Address returns the address of the other end.
func (c *Client) Address() string { return c.o.Address }

// Ready blocks until there is a connection that takes calls, or ctx ends; then
// the error says why there is none.
func (c *Client) Ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		l, changed, failure := c.current, c.changed, c.failure
		c.mu.Unlock()
		if l != nil && !l.leaving() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if failure == nil {
				failure = ctx.Err()
			}
			return lost(false, failure, "no connection to %s", c.o.Address)
		case <-c.ctx.Done():
			return lost(false, net.ErrClosed, "the connection to %s is closed", c.o.Address)
		}
	}
}

// Up says whether there is a connection that takes calls.
func (c *Client) Up() bool {
	c.mu.Lock()
	l := c.current
	c.mu.Unlock()
	return l != nil && !l.leaving()
}

// Call makes one call and waits for its answer, which is the caller's. It fails
// at once while there is no connection.
//
// Errors: those of the other end's handler; a [*Lost] when there is none.
func (c *Client) Call(ctx context.Context, m Method, body []byte) ([]byte, error) {
	if len(body) > MaxBody {
		return nil, region.Errorf(region.TooLarge, "a call of %d bytes is over the limit of %d", len(body), MaxBody)
	}
	var timeout uint32
	if d, ok := ctx.Deadline(); ok {
		left := time.Until(d)
		if left <= 0 {
			return nil, lost(false, context.DeadlineExceeded, "no time is left for the call")
		}
		timeout = uint32(min(max(left.Milliseconds(), 1), 1<<31))
	}
	c.mu.Lock()
	l, failure := c.current, c.failure
	c.mu.Unlock()
	if l == nil {
		return nil, lost(false, failure, "no connection to %s", c.o.Address)
	}
	seq, answer, err := l.begin(c.o.Address)
	if err != nil {
		return nil, err
	}
	if !l.out.put(frame{kind: kindRequest, method: m, sequence: seq, timeout: timeout, body: body}) {
		l.forget(seq)
		return nil, lost(false, nil, "%s does not keep up", c.o.Address)
	}
	select {
	case f, ok := <-answer:
		switch {
		case !ok:
			return nil, lost(true, nil, "the connection to %s ended", c.o.Address)
		case f.kind == kindResponse:
			return f.body, nil
		case f.kind == kindRefused:
			err := errorOf(f.body)
			if region.KindOf(err) == region.Overloaded {
				return nil, err
			}
			return nil, lost(false, err, "%s takes no calls", c.o.Address)
		default:
			return nil, errorOf(f.body)
		}
	case <-ctx.Done():
		l.forget(seq)
		l.out.put(frame{kind: kindCancel, method: m, sequence: seq})
		return nil, lost(true, ctx.Err(), "%s did not answer in time", c.o.Address)
	}
}

// Tell sends something that has no answer. It never blocks, and is false when it
// was not sent.
func (c *Client) Tell(m Method, body []byte) bool {
	c.mu.Lock()
	l := c.current
	c.mu.Unlock()
	return l != nil && len(body) <= MaxBody && l.out.put(frame{kind: kindTell, method: m, body: body})
}

func (l *link) leaving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bye || l.pending == nil
}

func (l *link) begin(address string) (uint64, chan frame, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bye || l.pending == nil {
		return 0, nil, lost(false, nil, "%s takes no calls", address)
	}
	l.next++
	ch := make(chan frame, 1)
	l.pending[l.next] = ch
	return l.next, ch, nil
}

func (l *link) forget(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, seq)
}

func (l *link) take(seq uint64) chan frame {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch := l.pending[seq]
	delete(l.pending, seq)
	return ch
}

// end answers every waiting call with nothing.
func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ch := range l.pending {
		close(ch)
	}
	l.pending = nil
}

func (c *Client) set(l *link, failure error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.failure = l, failure
	close(c.changed)
	c.changed = make(chan struct{})
}

// run is the client's life: connect, read, again.
func (c *Client) run() {
	defer close(c.done)
	pause := redialFirst
	for c.ctx.Err() == nil {
		conn, r, err := c.connect()
		if err != nil {
			c.set(nil, err)
			c.o.Logger.Debug("no connection", "to", c.o.Address, "error", err)
			t := time.NewTimer(pause/2 + rand.N(pause/2+1))
			select {
			case <-t.C:
			case <-c.ctx.Done():
			}
			t.Stop()
			pause = min(2*pause, redialLast)
			continue
		}
		pause = redialFirst
		c.serve(conn, r)
	}
	c.set(nil, net.ErrClosed)
}

func (c *Client) connect() (net.Conn, *bufio.Reader, error) {
	d := net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(c.ctx, "tcp", c.o.Address)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	defer stop()
	secured := conn
	if c.o.TLS != nil {
		secured = tls.Client(conn, c.o.TLS)
	}
	r := bufio.NewReaderSize(secured, 32<<10)
	if _, err := c.o.Identity.dialed(secured, r); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return secured, r, nil
}

func (c *Client) serve(conn net.Conn, r *bufio.Reader) {
	stop := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	defer stop()
	l := &link{out: newOutbox(conn), pending: map[uint64]chan frame{}}
	var writing sync.WaitGroup
	writing.Go(l.out.run)
	c.set(l, nil)
	if c.o.Connected != nil {
		c.o.Connected()
	}
	err := c.read(l, r)
	c.set(nil, err)
	l.end()
	l.out.close()
	_ = conn.Close()
	writing.Wait()
}

func (c *Client) read(l *link, r *bufio.Reader) error {
	for {
		f, err := readFrame(r, MaxBody)
		if err != nil {
			return err
		}
		switch f.kind {
		case kindResponse, kindError, kindRefused:
			if ch := l.take(f.sequence); ch != nil {
				ch <- f
			}
		case kindTell:
			if c.o.Tell != nil {
				c.o.Tell(f.method, f.body)
			}
		case kindBye:
			l.mu.Lock()
			l.bye = true
			l.mu.Unlock()
		default:
			return region.Errorf(region.BadInput, "the other end sends a frame of kind %d", f.kind)
		}
	}
}
