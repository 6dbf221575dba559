package presence

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/rpc"
)

const (
	// beat is how often access processes and nodes say that they are alive; TTL is
	// five of them.
	beat = TTL / 5
	// patience is how many beats in a row a sum may differ: what is under way
	// through the other node takes a moment.
	patience = 3
)

// NodeOptions configures a [Node]. Identity and Nodes are required.
type NodeOptions struct {
	Identity rpc.Identity  // its name is one of Nodes
	Nodes    []NodeAddress // all of the region
	TLS      *tls.Config   // for dialling the others; nil is plain, for loopback

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics unregistered
}

// Node is a presence node. It is the rpc.Handler of its own server, which is to
// be closed first.
type Node struct {
	log         *slog.Logger
	layout      *layout
	self        int
	incarnation uint64
	partners    []*partner

	users, connections prometheus.Gauge
	notices            *prometheus.CounterVec // by result

	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex
	table   *Table
	access  map[string]*rpc.Peer // by name of the process
	known   map[string]uint64    // incarnations of the other nodes
	differs map[string]int       // beats in a row, by access process
}

var _ rpc.Handler = (*Node)(nil)

// NewNode starts a node: it tells the others what it hears. It has to be served
// by rpc.Listen.
func NewNode(o NodeOptions) (*Node, error) {
	l, err := newLayout(o.Nodes)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		log: o.Logger, layout: l, incarnation: uint64(time.Now().UnixNano()),
		self:        slices.IndexFunc(o.Nodes, func(a NodeAddress) bool { return a.Name == o.Identity.Name }),
		users:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "homing_presence_online_users", Help: "Users this node knows to be connected, as primary or backup."}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "homing_presence_online_connections", Help: "Their connections."}),
		notices:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_presence_notices_total", Help: "Notices from logic, by result: forwarded, offline (nobody is connected), or dropped (the access process is not connected here or does not keep up)."}, []string{"result"}),
		table:       NewTable(), access: map[string]*rpc.Peer{}, known: map[string]uint64{}, differs: map[string]int{},
	}
	if n.self < 0 {
		return nil, region.Errorf(region.BadInput, "presence node %q is not in the list of nodes", o.Identity.Name)
	}
	if o.Registerer != nil {
		for _, c := range []prometheus.Collector{n.users, n.connections, n.notices} {
			if err := o.Registerer.Register(c); err != nil {
				return nil, err
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	for i, a := range o.Nodes {
		if i == n.self {
			continue
		}
		c, err := rpc.Dial(rpc.ClientOptions{Identity: o.Identity, Address: a.Address, TLS: o.TLS, Logger: o.Logger})
		if err != nil {
			_ = n.Close()
			return nil, err
		}
		p := newPartner(n, i, c)
		n.partners = append(n.partners, p)
		n.tasks.Go(func() { p.run(ctx) })
	}
	n.tasks.Go(func() { n.sweep(ctx) })
	return n, nil
}

// Close stops telling the others, and waits.
func (n *Node) Close() error {
	n.cancel()
	n.tasks.Wait()
	for _, p := range n.partners {
		_ = p.client.Close()
	}
	return nil
}

// Online returns the number of users and connections this node knows.
func (n *Node) Online() (users, connections int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.Size()
}

// Entries returns everything this node knows, in order.
func (n *Node) Entries() []Entry {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.Entries(func(region.UIN) bool { return true })
}

func (n *Node) sweep(ctx context.Context) {
	t := time.NewTicker(beat / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			n.mu.Lock()
			n.table.Expire(now)
			users, connections := n.table.Size()
			n.mu.Unlock()
			n.users.Set(float64(users))
			n.connections.Set(float64(connections))
		}
	}
}

// Connected implements rpc.Handler.
func (n *Node) Connected(*rpc.Peer) {}

// Gone implements rpc.Handler. The process may be back the next moment, so its
// connections stay.
func (n *Node) Gone(p *rpc.Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.access[p.Name] == p {
		delete(n.access, p.Name)
	}
}

// Call implements rpc.Handler.
func (n *Node) Call(_ context.Context, from *rpc.Peer, m rpc.Method, body []byte) ([]byte, error) {
	switch m {
	case methodUpdate:
		u := new(v1.PresenceUpdate)
		if err := proto.Unmarshal(body, u); err != nil {
			return nil, malformed("an update", err)
		}
		again, err := n.update(from, u)
		if err != nil {
			return nil, err
		}
		return encode(&v1.PresenceReply{Again: again})
	case methodQuery:
		q := new(v1.PresenceQuery)
		if err := proto.Unmarshal(body, q); err != nil {
			return nil, malformed("a query", err)
		}
		if len(q.Uins) > MaxQuery {
			return nil, region.Errorf(region.TooLarge, "a query of %d UINs", len(q.Uins)).WithHint("at most %d", MaxQuery)
		}
		var found []Entry
		n.mu.Lock()
		for _, u := range q.Uins {
			found = append(found, n.table.Lookup(region.UIN(u))...)
		}
		n.mu.Unlock()
		return encode(&v1.PresenceAnswer{Entries: entriesToProto(found)})
	default:
		return nil, region.Errorf(region.Unsupported, "presence has no method %d", m)
	}
}

func (n *Node) update(from *rpc.Peer, u *v1.PresenceUpdate) (again bool, err error) {
	entries, err := entriesFromProto(u.Entries)
	if err != nil || u.Sender == "" || u.Incarnation == 0 {
		return false, malformed("an update", err)
	}
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if u.Node {
		again = n.known[u.Sender] != u.Incarnation
		n.known[u.Sender] = u.Incarnation
		for _, a := range u.Alive {
			n.table.Heard(Process{a.Access, a.Incarnation}, now.Add(-time.Duration(a.AgeMilli)*time.Millisecond))
		}
	} else {
		p := Process{u.Sender, u.Incarnation}
		newest, known := n.table.Heard(p, now)
		if !newest {
			return false, region.Errorf(region.Conflict, "a newer process calls itself %s", u.Sender).WithHint("give every access process a name of its own")
		}
		again = !known
		n.access[u.Sender] = from
	}
	var fresh []Entry
	for _, e := range entries {
		if n.layout.holds(n.self, e.UIN) && n.table.Apply(e, now) {
			fresh = append(fresh, e)
		}
	}
	if u.Node {
		return again, nil
	}
	for _, p := range n.partners {
		p.put(fresh)
	}
	if u.Sum != nil {
		again = n.compare(Process{u.Sender, u.Incarnation}, *u.Sum) || again
	}
	return again, nil
}

// compare finds out that something was lost on some way, and begins anew.
func (n *Node) compare(p Process, sum uint64) (again bool) {
	if n.table.Sum(p) == sum {
		delete(n.differs, p.Name)
		return false
	}
	if n.differs[p.Name]++; n.differs[p.Name] < patience {
		return false
	}
	n.log.Warn("what is known of an access process differs from what it says; it is asked for everything", "access", p.Name)
	delete(n.differs, p.Name)
	n.table.Drop(p.Name)
	return true
}

// Tell implements rpc.Handler: a notice goes on to the access processes where its
// owner is connected.
func (n *Node) Tell(_ *rpc.Peer, m rpc.Method, body []byte) {
	if m != methodNotice {
		return
	}
	notice := new(v1.PresenceNotice)
	if proto.Unmarshal(body, notice) != nil {
		return
	}
	n.mu.Lock()
	var to []*rpc.Peer
	missing := 0
	seen := map[string]bool{}
	for _, e := range n.table.Lookup(region.UIN(notice.Owner)) {
		if seen[e.Name] {
			continue
		}
		seen[e.Name] = true
		if p := n.access[e.Name]; p != nil {
			to = append(to, p)
		} else {
			missing++
		}
	}
	n.mu.Unlock()
	for _, p := range to {
		if p.Tell(methodNotice, body) {
			n.notices.WithLabelValues("forwarded").Inc()
		} else {
			missing++
		}
	}
	if missing > 0 {
		n.notices.WithLabelValues("dropped").Add(float64(missing))
	}
	if len(seen) == 0 {
		n.notices.WithLabelValues("offline").Inc()
	}
}
