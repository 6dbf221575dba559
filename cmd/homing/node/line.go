package node

import (
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/homing-im/homing/replicator/embedded"
)

// line is what joins a node with the others: its calls to them, and theirs to
// its admin listener. Stories cut it.
type line struct{ cut atomic.Bool }

var errLineCut = errors.New("the line to the other nodes is cut")

// over sends requests while the line is not cut.
func (l *line) over(t http.RoundTripper) http.RoundTripper { return &lineTransport{l, t} }

type lineTransport struct {
	line *line
	base http.RoundTripper
}

func (t *lineTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.line.cut.Load() {
		return nil, errLineCut
	}
	return t.base.RoundTrip(r)
}

// CloseIdleConnections is asked for by http.Client.
func (t *lineTransport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// into serves requests while the line is not cut; else their connections end.
func (l *line) into(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.cut.Load() {
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	})
}

// CutOff cuts a region with an embedded queue off from the other regions, the
// operator and the voters: nothing it wrote leaves it, and no world reaches it.
// Clients reach it as before, and gossip, which tells versions of worlds but
// nothing that would have to be believed.
func (n *Node) CutOff() error {
	q, ok := n.queue.(*embedded.Broker)
	if !ok || n.region == nil || n.region.replicator == nil {
		return errors.New("only a region with an embedded queue can be cut off")
	}
	n.line.cut.Store(true)
	n.region.replicator.Replay().Pause()
	q.Cut(true)
	n.peers.CloseIdleConnections()
	return nil
}

// Rejoin ends a CutOff.
func (n *Node) Rejoin() error {
	q, ok := n.queue.(*embedded.Broker)
	if !ok || n.region == nil || n.region.replicator == nil {
		return errors.New("only a region with an embedded queue is cut off")
	}
	n.line.cut.Store(false)
	n.region.replicator.Replay().Resume()
	q.Cut(false)
	return nil
}
