package presence

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/rpc"
)

// maxPending is how many entries wait for a node that cannot be reached; beyond
// it everything is said when it is back.
const maxPending = 200_000

// updateTimeout bounds one update.
const updateTimeout = 5 * time.Second

// queue is what one process has yet to say to a node. An entry that is said is
// forgotten when the node has answered.
type queue struct {
	kick chan struct{} // of capacity 1

	mu      sync.Mutex
	pending map[Connection]Entry
	full    bool // everything is to be said first
}

func newQueue() *queue {
	return &queue{kick: make(chan struct{}, 1), pending: map[Connection]Entry{}, full: true}
}

// put never blocks.
func (q *queue) put(entries []Entry) {
	if len(entries) == 0 {
		return
	}
	q.mu.Lock()
	for _, e := range entries {
		q.pending[e.Connection] = e
	}
	if len(q.pending) > maxPending {
		clear(q.pending)
		q.full = true
	}
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

func (q *queue) everything() {
	q.mu.Lock()
	q.full = true
	q.mu.Unlock()
	q.wake()
}

// take returns some of what is pending; all of the sender is asked when
// everything is to be said. more says that it was not all.
func (q *queue) take(all func() []Entry) (some []Entry, more bool) {
	q.mu.Lock()
	full := q.full
	q.full = false
	q.mu.Unlock()
	if full {
		for _, e := range all() {
			q.mu.Lock()
			if _, newer := q.pending[e.Connection]; !newer {
				q.pending[e.Connection] = e
			}
			q.mu.Unlock()
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.pending {
		if len(some) == maxEntries {
			return some, true
		}
		some = append(some, e)
	}
	return some, false
}

// done forgets what was said, unless something newer is pending.
func (q *queue) done(some []Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range some {
		if have, ok := q.pending[e.Connection]; ok && have.Gone == e.Gone {
			delete(q.pending, e.Connection)
		}
	}
}

// say makes one update.
func say(ctx context.Context, c *rpc.Client, u *v1.PresenceUpdate) (again bool, err error) {
	body, err := encode(u)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	b, err := c.Call(ctx, methodUpdate, body)
	if err != nil {
		return false, err
	}
	r := new(v1.PresenceReply)
	if err := proto.Unmarshal(b, r); err != nil {
		return false, malformed("an answer", err)
	}
	return r.Again, nil
}

// partner is another node, and what it has yet to be told.
type partner struct {
	*queue
	node   *Node
	index  int
	client *rpc.Client
}

func newPartner(n *Node, index int, c *rpc.Client) *partner {
	return &partner{queue: newQueue(), node: n, index: index, client: c}
}

// put takes what this node heard first-hand and the partner holds as well.
func (p *partner) put(entries []Entry) {
	p.queue.put(slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return !p.node.layout.holds(p.index, e.UIN) }))
}

func (p *partner) run(ctx context.Context) {
	t := time.NewTicker(beat)
	defer t.Stop()
	for {
		if p.client.Ready(ctx) != nil {
			return
		}
		more := p.round(ctx)
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-p.kick:
		}
	}
}

func (p *partner) round(ctx context.Context) (more bool) {
	n := p.node
	some, more := p.take(func() []Entry {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.table.Entries(func(u region.UIN) bool { return n.layout.holds(p.index, u) && n.layout.holds(n.self, u) })
	})
	u := &v1.PresenceUpdate{Sender: n.layout.nodes[n.self].Name, Incarnation: n.incarnation, Node: true, Entries: entriesToProto(some)}
	n.mu.Lock()
	alive := maps.Clone(n.table.Alive())
	n.mu.Unlock()
	for q, at := range alive {
		u.Alive = append(u.Alive, &v1.PresenceAlive{Access: q.Name, Incarnation: q.Incarnation, AgeMilli: uint32(max(time.Since(at).Milliseconds(), 0))})
	}
	again, err := say(ctx, p.client, u)
	if err != nil {
		n.log.Info("the other presence node was not told", "node", n.layout.nodes[p.index].Name, "error", err)
		return false
	}
	p.done(some)
	if again {
		p.everything()
		return true
	}
	return more
}
