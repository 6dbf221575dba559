package presence

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/rpc"
)

// maxNotice is the largest message that a notice takes along, in bytes; access
// would leave out a larger one anyway.
const maxNotice = 4 << 10

// Connections are those of an access process. *access.Presence is one, by
// [Local].
type Connections interface {
	// Watch calls f for every connection that begins or ends from now on, in the
	// order of a connection's life. f must not block.
	Watch(f func(Entry))
	// Entries returns the connections there are now; their Process is empty.
	Entries() []Entry
	// Notify and Revoked are those of core.Notifier.
	Notify(owner region.UIN, newest uint64, m *v1.Message)
	Revoked(owner region.UIN, keyID [8]byte)
}

// Options configures a [Client]. Identity and Nodes are required.
type Options struct {
	Identity rpc.Identity
	Nodes    []NodeAddress
	TLS      *tls.Config // nil is plain, for loopback

	// Connections, when set, are announced and get notices: this is an access
	// process.
	Connections Connections

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics unregistered
}

// Client is how other processes use the presence nodes: access announces, logic
// notifies, operators ask. It is a core.Notifier.
type Client struct {
	o       Options
	log     *slog.Logger
	layout  *layout
	self    Process
	nodes   []*far
	notices *prometheus.CounterVec // by result

	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

// far is a node as a client sees it.
type far struct {
	*queue
	client *rpc.Client
}

// NewClient dials the nodes; it waits for none.
func NewClient(o Options) (*Client, error) {
	l, err := newLayout(o.Nodes)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, log: o.Logger, layout: l, self: Process{o.Identity.Name, uint64(time.Now().UnixNano())},
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_presence_sent_notices_total", Help: "Notices on their way to presence nodes, by result: primary, backup (the primary cannot be reached), or dropped."}, []string{"result"})}
	if o.Registerer != nil {
		if err := o.Registerer.Register(c.notices); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	for _, n := range o.Nodes {
		client, err := rpc.Dial(rpc.ClientOptions{Identity: o.Identity, Address: n.Address, TLS: o.TLS, Logger: o.Logger, Tell: c.told})
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		c.nodes = append(c.nodes, &far{queue: newQueue(), client: client})
	}
	if o.Connections != nil {
		o.Connections.Watch(c.changed)
		for i, n := range c.nodes {
			c.tasks.Go(func() { c.announce(ctx, i, n) })
		}
	}
	return c, nil
}

// Close ends the connections to the nodes.
func (c *Client) Close() error {
	c.cancel()
	c.tasks.Wait()
	for _, n := range c.nodes {
		_ = n.client.Close()
	}
	return nil
}

// Up says how many nodes can be reached.
func (c *Client) Up() (up, all int) {
	for _, n := range c.nodes {
		if n.client.Up() {
			up++
		}
	}
	return up, len(c.nodes)
}

// changed is told of a connection; it queues it for the node to hear first.
func (c *Client) changed(e Entry) {
	e.Process = c.self
	p, b := c.layout.pair(e.UIN)
	if !c.nodes[p].client.Up() {
		// To both: whichever comes back first.
		c.nodes[b].put([]Entry{e})
	}
	c.nodes[p].put([]Entry{e})
}

// mine are the connections that node i holds.
func (c *Client) mine(i int) []Entry {
	var all []Entry
	for _, e := range c.o.Connections.Entries() {
		if c.layout.holds(i, e.UIN) {
			e.Process = c.self
			all = append(all, e)
		}
	}
	return all
}

// gather is how long announcements are collected, so that a storm of
// connections is a few large updates.
const gather = 20 * time.Millisecond

// announce keeps one node up to date.
func (c *Client) announce(ctx context.Context, i int, n *far) {
	t := time.NewTicker(beat)
	defer t.Stop()
	for {
		if n.client.Ready(ctx) != nil {
			return
		}
		if c.round(ctx, i, n) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-n.kick:
			select {
			case <-ctx.Done():
				return
			case <-time.After(gather):
			}
		}
	}
}

func (c *Client) round(ctx context.Context, i int, n *far) (more bool) {
	some, more := n.take(func() []Entry { return c.mine(i) })
	u := &v1.PresenceUpdate{Sender: c.self.Name, Incarnation: c.self.Incarnation, Entries: entriesToProto(some)}
	if !more {
		var sum uint64
		for _, e := range c.mine(i) {
			sum ^= mix(e.ID)
		}
		u.Sum = &sum
	}
	again, err := say(ctx, n.client, u)
	if err != nil {
		c.log.Info("connections are not announced", "node", c.layout.nodes[i].Name, "error", err)
		return false
	}
	n.done(some)
	if again {
		n.everything()
		return true
	}
	return more
}

// told takes what a node tells an access process.
func (c *Client) told(m rpc.Method, body []byte) {
	n := new(v1.PresenceNotice)
	if m != methodNotice || c.o.Connections == nil || proto.Unmarshal(body, n) != nil {
		return
	}
	if len(n.Revoked) == 8 {
		c.o.Connections.Revoked(region.UIN(n.Owner), [8]byte(n.Revoked))
		return
	}
	c.o.Connections.Notify(region.UIN(n.Owner), n.Notice.GetSequence(), n.Notice.GetMessage())
}

// Notify implements core.Notifier.
func (c *Client) Notify(owner region.UIN, newest uint64, m *v1.Message) {
	n := &v1.Notice{Sequence: newest}
	if m != nil && proto.Size(m) <= maxNotice {
		n.Message = m
	}
	body, err := encode(&v1.PresenceNotice{Owner: uint64(owner), Notice: n})
	if err != nil {
		return
	}
	p, b := c.layout.pair(owner)
	switch {
	case c.nodes[p].client.Tell(methodNotice, body):
		c.notices.WithLabelValues("primary").Inc()
	case p != b && c.nodes[b].client.Tell(methodNotice, body):
		c.notices.WithLabelValues("backup").Inc()
	default:
		c.notices.WithLabelValues("dropped").Inc()
	}
}

// Revoked implements core.Notifier. It goes by both nodes, since nothing repeats
// it; the end of a connection that has ended is none.
func (c *Client) Revoked(owner region.UIN, keyID [8]byte) {
	body, err := encode(&v1.PresenceNotice{Owner: uint64(owner), Revoked: keyID[:]})
	if err != nil {
		return
	}
	p, b := c.layout.pair(owner)
	sent := c.nodes[p].client.Tell(methodNotice, body)
	if p != b {
		sent = c.nodes[b].client.Tell(methodNotice, body) || sent
	}
	if !sent {
		c.notices.WithLabelValues("dropped").Inc()
		c.log.Warn("no presence node takes the revocation of a device; its connections end with its ticket", "owner", owner)
	}
}

// Query returns the connections of users, of each oldest first. Errors:
// region.Unavailable when neither node of a user can be reached.
func (c *Client) Query(ctx context.Context, uins ...region.UIN) ([]Entry, error) {
	pairs := map[[2]int][]uint64{}
	for _, u := range uins {
		p, b := c.layout.pair(u)
		pairs[[2]int{p, b}] = append(pairs[[2]int{p, b}], uint64(u))
	}
	var found []Entry
	for pair, list := range pairs {
		for len(list) > 0 {
			n := min(len(list), MaxQuery)
			some, err := c.ask(ctx, c.nodes[pair[0]], list[:n])
			if err != nil && !rpc.Answered(err) && pair[0] != pair[1] {
				some, err = c.ask(ctx, c.nodes[pair[1]], list[:n])
			}
			if err != nil {
				return nil, err
			}
			found, list = append(found, some...), list[n:]
		}
	}
	return found, nil
}

func (c *Client) ask(ctx context.Context, n *far, uins []uint64) ([]Entry, error) {
	body, err := encode(&v1.PresenceQuery{Uins: uins})
	if err != nil {
		return nil, err
	}
	b, err := n.client.Call(ctx, methodQuery, body)
	if err != nil {
		return nil, err
	}
	a := new(v1.PresenceAnswer)
	if err := proto.Unmarshal(b, a); err != nil {
		return nil, malformed("presence's answer", err)
	}
	return entriesFromProto(a.Entries)
}
