package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	// Interval is the time between two states of a page. One second is fast
	// enough to watch a failover and slow enough to ask every node each time.
	Interval = time.Second

	// fresh is how long a state is shared by everybody who asks. Shorter than
	// Interval, so that a page's own tick never finds the state of its tick before.
	fresh = Interval * 9 / 10

	// patience bounds one call of Options.State, so that one node that hangs
	// does not stop the page for good.
	patience = 5 * time.Second

	// maxStreams bounds the event streams open at once: each holds a connection
	// and a goroutine, and the console has no login.
	maxStreams = 64

	// writeLimit is how long a browser may leave an event unread.
	writeLimit = 10 * time.Second
)

// Options are what the console needs.
type Options struct {
	// State returns what to show. It is called while anybody looks, about once
	// per Interval, never concurrently with itself, and should return within
	// an Interval; its context ends after five seconds. It must not be nil.
	State func(ctx context.Context) State

	// Hosts are host names, without port, the page may be asked for by; IP
	// addresses and localhost always work.
	Hosts []string

	// Logger is told of failures; nil discards.
	Logger *slog.Logger
}

// Console is the page's handler.
type Console struct {
	state   func(ctx context.Context) State
	logger  *slog.Logger
	handler http.Handler

	streams chan struct{} // one token per open event stream
	closed  chan struct{} // closed by Close

	mu      sync.Mutex
	closing bool           // no stream may enter open any more
	open    sync.WaitGroup // event streams

	asking chan struct{} // holds one token; whoever has it owns the two fields below
	last   []byte        // JSON of the newest state; nil when none yet
	asked  time.Time     // when it was asked for
}

// New makes the console. It starts nothing: State is called in the goroutine
// of a request.
func New(o Options) *Console {
	c := &Console{
		state:   o.State,
		logger:  o.Logger,
		streams: make(chan struct{}, maxStreams),
		closed:  make(chan struct{}),
		asking:  make(chan struct{}, 1),
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	for _, a := range assets() {
		mux.Handle(a.route, a)
	}
	mux.HandleFunc("/api/state", c.serveState)
	mux.HandleFunc("/events", c.serveEvents)
	c.handler = guard(o.Hosts, mux)
	return c
}

// ServeHTTP answers a request.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }

// Close ends the open event streams and waits for them. Call it before
// http.Server.Shutdown, which waits for requests and would wait for ever.
func (c *Console) Close() {
	c.mu.Lock()
	if !c.closing {
		c.closing = true
		close(c.closed)
	}
	c.mu.Unlock()
	c.open.Wait()
}

// enter counts a stream in, unless the console is closing.
func (c *Console) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.open.Add(1)
	return true
}

var errClosed = errors.New("the console is closing")

// newest returns the JSON of a state not older than fresh. It blocks while
// State runs, until ctx ends.
func (c *Console) newest(ctx context.Context) ([]byte, error) {
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.closed:
		return nil, errClosed
	}
	if c.last != nil && time.Since(c.asked) < fresh {
		return c.last, nil
	}
	// The answer is everybody's, so the one who happened to ask for it does
	// not take it along by leaving.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	c.asked = time.Now()
	s := c.state(ctx)
	s.fill()
	b, err := json.Marshal(s)
	if err != nil { // a NaN in a rate, say
		c.logger.Error("console: state cannot be sent", "err", err)
		return nil, err
	}
	c.last = b
	return b, nil
}

// fill makes nil lists empty, so that the page's script has no third case.
func (s *State) fill() {
	s.Regions = append([]Region{}, s.Regions...)
	s.POPs = append([]POP{}, s.POPs...)
	s.Pairs = append([]Pair{}, s.Pairs...)
	s.DNS = append([]Node{}, s.DNS...)
	s.IDs = append([]Node{}, s.IDs...)
	s.Alarms = append([]Alarm{}, s.Alarms...)
	for i := range s.Regions {
		s.Regions[i].Backups = append([]string{}, s.Regions[i].Backups...)
	}
	for i := range s.POPs {
		if s.POPs[i].RTTMillis == nil {
			s.POPs[i].RTTMillis = map[string]float64{}
		}
	}
}

func (c *Console) serveState(w http.ResponseWriter, r *http.Request) {
	b, err := c.newest(r.Context())
	if err != nil {
		http.Error(w, "no state at the moment; try again", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b)
}

// serveEvents sends Server-Sent Events (WHATWG HTML, section 9.2).
func (c *Console) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many pages are open; close one", http.StatusServiceUnavailable)
		return
	}
	if !c.enter() {
		http.Error(w, "this node is stopping", http.StatusServiceUnavailable)
		return
	}
	defer c.open.Done()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	out := http.NewResponseController(w)
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		b, err := c.newest(r.Context())
		if r.Context().Err() != nil || errors.Is(err, errClosed) {
			return
		}
		if err == nil {
			// The server's own write deadline, if any, was meant for pages.
			_ = out.SetWriteDeadline(time.Now().Add(writeLimit))
			if _, err := fmt.Fprintf(w, "event: state\ndata: %s\n\n", b); err != nil {
				return
			}
			if out.Flush() != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-c.closed:
			return
		}
	}
}
