package access

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access/webchat"
	"github.com/homing-im/homing/region/wire"
)

// maxEnvelope is the largest envelope, bytes: a body of MaxBody and what is
// around it.
const maxEnvelope = wire.MaxBody + 1<<10

func (s *Server) webHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ws", s.cross(http.HandlerFunc(s.serveWebSocket)))
	mux.Handle("/poll", s.cross(http.HandlerFunc(s.polls.serve)))
	mux.Handle("/homing.v1.IM/", s.cross(s.shortHandler(region.Web)))
	mux.Handle(webchat.Path, webchat.Handler(s.webListeners, s.o.WebTLS != nil))
	mux.Handle("/{$}", http.RedirectHandler(webchat.Path, http.StatusFound))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "WebSocket is served at /ws, long polling at /poll, single calls at /homing.v1.IM/, a chat page at "+webchat.Path, http.StatusNotFound)
	})
	return mux
}

// serveWebSocket is one WebSocket from its handshake to its end. This goroutine
// reads; another one writes.
func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if s.closing.Load() {
		http.Error(w, "the node is going down", http.StatusServiceUnavailable)
		return
	}
	if s.conns.Add(1) > int64(s.o.MaxConnections) {
		s.conns.Add(-1)
		s.m.rejected.WithLabelValues("full").Inc()
		http.Error(w, "the node is full", http.StatusServiceUnavailable)
		return
	}
	// Shutdown of the HTTP server forgets hijacked connections; this one is the
	// server's own to wait for.
	s.tasks.Add(1)
	defer s.tasks.Done()
	defer s.conns.Add(-1)
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // cross has looked at the origin
	if err != nil {
		s.m.rejected.WithLabelValues("not-websocket").Inc()
		return // Accept has answered
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxEnvelope)
	n := s.newSession("ws", region.Web, jsonCodec{}, s.callerOf(r))
	n.kill = func() { _ = c.CloseNow() }
	written := make(chan struct{})
	go func() {
		defer close(written)
		n.writeWebSocket(c)
	}()
	n.readWebSocket(c)
	if n.leaving.Load() {
		<-written // the last words, and the close handshake
	}
	n.finish()
	_ = c.CloseNow()
	<-written
}

func (n *session) readWebSocket(c *websocket.Conn) {
	handshake := time.Now().Add(n.s.o.Handshake)
	for {
		deadline := handshake
		if n.state == ready {
			deadline = time.Now().Add(n.idle())
		}
		// Not n.ctx: the end of the context would tear the connection down under
		// the writer's last words.
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		_, b, err := c.Read(ctx)
		cancel()
		if err != nil {
			switch {
			case n.leaving.Load():
			case errors.Is(err, context.DeadlineExceeded) && n.state != ready:
				n.s.m.rejected.WithLabelValues("handshake-timeout").Inc()
			case errors.Is(err, context.DeadlineExceeded):
				n.s.m.cutOff.WithLabelValues("idle").Inc()
			}
			return
		}
		if n.feedEnvelope(b) != nil {
			return
		}
	}
}

// feedEnvelope hands one envelope to the session; an error ends it.
func (n *session) feedEnvelope(b []byte) error {
	f, err := openEnvelope(b)
	if err != nil {
		return n.fatal("bad-frame", err)
	}
	return n.handle(f)
}

func (n *session) writeWebSocket(c *websocket.Conn) {
	for {
		batch, ok := n.out.take(context.Background())
		if !ok {
			if n.ctx.Err() != nil && !n.s.closing.Load() {
				_ = c.CloseNow() // aborted
				return
			}
			_ = c.Close(websocket.StatusGoingAway, "")
			return
		}
		for _, b := range batch {
			ctx, cancel := context.WithTimeout(context.Background(), n.s.o.Write)
			err := c.Write(ctx, websocket.MessageText, b)
			cancel()
			if err != nil {
				if errors.Is(err, context.DeadlineExceeded) {
					n.s.m.cutOff.WithLabelValues("slow").Inc()
				}
				n.abort()
				return
			}
		}
	}
}
