package access

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Presence knows who is connected to this node and pushes notices to them. It
// is a core.Notifier. It is made before the core and the [Server], and handed
// to both.
type Presence struct {
	notices     *prometheus.CounterVec // by result
	queued      prometheus.Counter     // of notices
	dropped     prometheus.Counter     // of notices
	users       prometheus.Gauge
	connections *prometheus.GaugeVec // by front

	ids    atomic.Uint64
	watch  atomic.Pointer[func(c Connection, gone bool)]
	shards [64]presenceShard
}

// Connection is a proven connection, as others may know it.
type Connection struct {
	ID            uint64 // unique in this process
	UIN           region.UIN
	DeviceKeyID   [8]byte
	Platform      string
	ClientVersion uint32
	Front         string // long, ws, poll
	Since         time.Time
}

func (n *session) connection() Connection {
	return Connection{ID: n.id, UIN: n.caller.UIN, DeviceKeyID: n.caller.DeviceKeyID, Platform: n.caller.Platform,
		ClientVersion: n.caller.ClientVersion, Front: n.front, Since: n.since}
}

// Watch has f called for every connection that begins, and when it is gone. f
// must not block. There is one watcher.
func (p *Presence) Watch(f func(c Connection, gone bool)) { p.watch.Store(&f) }

// changed is called under the user's lock, so that a connection's end never
// overtakes its beginning.
func (p *Presence) changed(n *session, gone bool) {
	if f := p.watch.Load(); f != nil {
		(*f)(n.connection(), gone)
	}
}

// Connections returns all connections there are.
func (p *Presence) Connections() []Connection {
	var all []Connection
	p.all(func(n *session) { all = append(all, n.connection()) })
	return all
}

// Of returns a user's connections, oldest first.
func (p *Presence) Of(owner region.UIN) []Connection {
	var all []Connection
	for _, n := range p.of(owner) {
		all = append(all, n.connection())
	}
	return all
}

type presenceShard struct {
	mu    sync.Mutex
	users map[region.UIN][]*session // oldest first, never empty
	conns int
}

// NewPresence makes an empty one; the registerer may be nil.
func NewPresence(r prometheus.Registerer) (*Presence, error) {
	p := &Presence{
		notices:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_access_notices_total", Help: "Notices for connections, by result: queued, or dropped because the client reads too slowly."}, []string{"result"}),
		users:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "homing_access_online_users", Help: "Users with at least one proven connection."}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "homing_access_connections", Help: "Proven connections, by front."}, []string{"front"}),
	}
	p.queued, p.dropped = p.notices.WithLabelValues("queued"), p.notices.WithLabelValues("dropped")
	for i := range p.shards {
		p.shards[i].users = map[region.UIN][]*session{}
	}
	return p, register(r, p.notices, p.users, p.connections)
}

// Online returns the number of users and of their connections.
func (p *Presence) Online() (users, connections int) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		users += len(s.users)
		connections += s.conns
		s.mu.Unlock()
	}
	return users, connections
}

// Notify pushes a notice to all connections of the owner. It never blocks: a
// client that does not read loses its connection, and syncs when it is back.
func (p *Presence) Notify(owner region.UIN, newest uint64, m *v1.Message) {
	sessions := p.of(owner)
	if len(sessions) == 0 {
		return
	}
	n := &v1.Notice{Sequence: newest}
	if m != nil && wire.MessageSize(m) <= maxNoticeBody {
		n.Message = m
	}
	for _, s := range sessions {
		if s.push(wire.Notice, n) {
			p.queued.Inc()
		} else {
			p.dropped.Inc()
		}
	}
}

// Revoked ends the connections of a user's device. The client is told that it is
// unauthenticated, as it would be at its next request.
func (p *Presence) Revoked(owner region.UIN, keyID [8]byte) {
	for _, s := range p.of(owner) {
		if s.caller.DeviceKeyID == keyID {
			_ = s.fatal("revoked", region.Errorf(region.Unauthenticated, "the device was revoked").WithHint("register this device"))
		}
	}
}

func (p *Presence) shard(u region.UIN) *presenceShard {
	return &p.shards[region.PartitionOf(u, len(p.shards))]
}

func (p *Presence) of(u region.UIN) []*session {
	s := p.shard(u)
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*session(nil), s.users[u]...)
}

// add makes the session known. It returns the one that has to go for it: an
// older session of the very same client, whose end the network has not told us
// yet, or the oldest of a user who has too many.
func (p *Presence) add(n *session) (displaced *session) {
	s := p.shard(n.caller.UIN)
	s.mu.Lock()
	list := s.users[n.caller.UIN]
	if len(list) == 0 {
		p.users.Inc()
	}
	for _, o := range list {
		if o.caller.DeviceKeyID == n.caller.DeviceKeyID && o.connectionID == n.connectionID {
			displaced = o
			break
		}
	}
	if displaced == nil && len(list) >= maxPerUser {
		displaced = list[0]
	}
	n.id, n.since = p.ids.Add(1), time.Now()
	s.users[n.caller.UIN] = append(list, n)
	s.conns++
	p.changed(n, false)
	s.mu.Unlock()
	p.connections.WithLabelValues(n.front).Inc()
	return displaced
}

func (p *Presence) remove(n *session) {
	s := p.shard(n.caller.UIN)
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.users[n.caller.UIN]
	for i, o := range list {
		if o != n {
			continue
		}
		s.conns--
		p.changed(n, true)
		p.connections.WithLabelValues(n.front).Dec()
		if len(list) == 1 {
			delete(s.users, n.caller.UIN)
			p.users.Dec()
			return
		}
		s.users[n.caller.UIN] = append(append([]*session(nil), list[:i]...), list[i+1:]...)
		return
	}
}

// all calls f for every session, without holding a lock.
func (p *Presence) all(f func(*session)) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		var list []*session
		for _, l := range s.users {
			list = append(list, l...)
		}
		s.mu.Unlock()
		for _, n := range list {
			f(n)
		}
	}
}
