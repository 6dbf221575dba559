package console

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Interval is the time between two states of a page. One second is fast enough
// to watch a failover and slow enough to ask every node each time.
const Interval = time.Second

// Options are what the console needs.
type Options struct {
	// State returns what to show. It is called at most once per Interval while
	// anybody looks, never concurrently with itself, and should return within
	// an Interval; its context ends after five seconds. It must not be nil.
	State func(ctx context.Context) State
	// Hosts are host names, without port, the page may be asked for by; IP
	// addresses and localhost always work.
	Hosts []string
	// Logger is told of failures; nil discards.
	Logger *slog.Logger
}

// Console is the page's handler. Close ends its open event streams, which
// http.Server.Shutdown would otherwise wait for.
type Console struct {
	http.Handler
}

// New makes the console.
func New(o Options) *Console {
	return &Console{}
}

// Close ends every event stream and waits for them.
func (c *Console) Close() {}
