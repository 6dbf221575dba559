package access

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
)

const (
	maxPollWait = 25 * time.Second // proxies give up at 30 s
	// pollIdle is how long a session outlives its last poll.
	pollIdle = 45 * time.Second
)

// pollRequest and pollResponse are the bodies of /poll.
type pollRequest struct {
	Session   string            `json:"session"` // empty to begin one
	WaitMilli int64             `json:"wait_milli"`
	Envelopes []json.RawMessage `json:"envelopes"`
}

type pollResponse struct {
	Session   string            `json:"session"`
	Envelopes []json.RawMessage `json:"envelopes"`
	Over      bool              `json:"over,omitempty"` // begin a new one with Hello
}

// polls are the sessions of long polling: connections that live from request
// to request.
type polls struct {
	s *Server

	mu       sync.Mutex
	sessions map[string]*poll
	closed   bool
}

type poll struct {
	*session
	token string

	feed sync.Mutex // held while envelopes are fed: the session wants one feeder

	mu     sync.Mutex
	cancel context.CancelFunc // of the poll that waits; nil when none does
	timer  *time.Timer        // ends the session; stopped while a poll waits
	over   bool
}

func newPolls(s *Server) *polls { return &polls{s: s, sessions: map[string]*poll{}} }

func (p *polls) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		http.Error(w, "POST a poll", http.StatusMethodNotAllowed)
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEnvelope))
	if err != nil {
		http.Error(w, "the poll is too large", http.StatusRequestEntityTooLarge)
		return
	}
	var q pollRequest
	if err := json.Unmarshal(b, &q); err != nil {
		http.Error(w, `want {"session":"","wait_milli":0,"envelopes":[]}`, http.StatusBadRequest)
		return
	}
	n := p.find(q.Session, r)
	if n == nil {
		p.answer(w, pollResponse{Over: true})
		return
	}
	n.feed.Lock()
	for _, e := range q.Envelopes {
		if n.feedEnvelope(e) != nil {
			break
		}
	}
	isReady := n.state == ready
	n.feed.Unlock()

	wait := time.Duration(min(max(q.WaitMilli, 0), maxPollWait.Milliseconds())) * time.Millisecond
	if !isReady && len(q.Envelopes) > 0 {
		wait = max(wait, p.s.o.Handshake) // the handshake's answer always comes at once
	}
	resp := pollResponse{Session: n.token}
	for _, e := range n.collect(r.Context(), wait) {
		resp.Envelopes = append(resp.Envelopes, e)
	}
	if n.leaving.Load() && len(resp.Envelopes) == 0 {
		resp.Over = true
	}
	if n.leaving.Load() {
		p.end(n)
	}
	p.answer(w, resp)
}

func (p *polls) answer(w http.ResponseWriter, r pollResponse) {
	if r.Envelopes == nil {
		r.Envelopes = []json.RawMessage{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(r)
}

// collect waits for what the session has to say; a newer poll ends the wait.
func (n *poll) collect(ctx context.Context, wait time.Duration) [][]byte {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	n.mu.Lock()
	if n.cancel != nil && wait > 0 {
		n.cancel()
	}
	if wait > 0 {
		n.cancel = cancel
		n.timer.Stop()
	}
	n.mu.Unlock()
	batch, _ := n.out.take(ctx)
	n.mu.Lock()
	if !n.over {
		n.timer.Reset(pollIdle)
	}
	n.mu.Unlock()
	return batch
}

// find returns the session of a token, a new one for no token, nil when there
// is none (any more).
func (p *polls) find(token string, r *http.Request) *poll {
	p.mu.Lock()
	defer p.mu.Unlock()
	if token != "" {
		return p.sessions[token]
	}
	if p.closed || p.s.conns.Load() >= int64(p.s.o.MaxConnections) {
		p.s.m.rejected.WithLabelValues("full").Inc()
		return nil
	}
	p.s.conns.Add(1)
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	n := &poll{token: base64.RawURLEncoding.EncodeToString(b), session: p.s.newSession("poll", region.Web, jsonCodec{}, p.s.callerOf(r))}
	n.timer = time.AfterFunc(p.s.o.Handshake, func() { p.end(n) })
	p.sessions[n.token] = n
	return n
}

// end forgets a session and waits for its requests.
func (p *polls) end(n *poll) {
	p.mu.Lock()
	_, there := p.sessions[n.token]
	delete(p.sessions, n.token)
	p.mu.Unlock()
	if !there {
		return
	}
	p.s.conns.Add(-1)
	n.mu.Lock()
	n.over = true
	n.timer.Stop()
	n.mu.Unlock()
	n.abort()
	n.feed.Lock()
	defer n.feed.Unlock()
	n.finish()
}

func (p *polls) close() {
	p.mu.Lock()
	p.closed = true
	var all []*poll
	for _, n := range p.sessions {
		all = append(all, n)
	}
	p.mu.Unlock()
	for _, n := range all {
		p.end(n)
	}
}
