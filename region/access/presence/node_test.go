package presence

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"net"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newEntry(b []byte) *v1.PresenceEntry {
	p := new(v1.PresenceEntry)
	if proto.Unmarshal(b, p) != nil {
		return nil
	}
	return p
}

func identity(name string) rpc.Identity {
	seed := sha256.Sum256([]byte("sh"))
	return rpc.Identity{Region: "sh", Name: name, Key: ed25519.NewKeyFromSeed(seed[:])}
}

// house is the presence nodes of a test.
type house struct {
	t       *testing.T
	list    []NodeAddress
	nodes   map[string]*Node
	servers map[string]*rpc.Server
}

func newHouse(t *testing.T, names ...string) *house {
	h := &house{t: t, nodes: map[string]*Node{}, servers: map[string]*rpc.Server{}}
	for _, n := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h.list = append(h.list, NodeAddress{n, l.Addr().String()})
		defer l.Close()
	}
	t.Cleanup(func() {
		for _, n := range names {
			h.stop(n)
		}
	})
	return h
}

func (h *house) start(names ...string) {
	h.t.Helper()
	for _, name := range names {
		n, err := NewNode(NodeOptions{Identity: identity(name), Nodes: h.list})
		if err != nil {
			h.t.Fatal(err)
		}
		i := slices.IndexFunc(h.list, func(a NodeAddress) bool { return a.Name == name })
		h.nodes[name] = n
		eventually(h.t, "the address of "+name+" is free", func() bool {
			s, err := rpc.Listen(rpc.ServerOptions{Identity: identity(name), Address: h.list[i].Address, Handler: n})
			h.servers[name] = s
			return err == nil
		})
	}
}

// stop is as bad as a crash for all others: what the node knew is lost.
func (h *house) stop(name string) {
	if h.nodes[name] == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.servers[name].Close(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		h.t.Error(err)
	}
	_ = h.nodes[name].Close()
	h.nodes[name] = nil
}

// crowd is the connections of an access process of a test.
type crowd struct {
	mu      sync.Mutex
	next    uint64
	all     map[uint64]Entry
	watch   func(Entry)
	heard   []uint64 // sequences of notices, in order
	revoked int
}

func (c *crowd) Watch(f func(Entry)) { c.watch = f }
func (c *crowd) Entries() (all []Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.all {
		all = append(all, e)
	}
	return all
}
func (c *crowd) Notify(_ region.UIN, newest uint64, _ *v1.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, newest)
}
func (c *crowd) Revoked(region.UIN, [8]byte) { c.mu.Lock(); c.revoked++; c.mu.Unlock() }

func (c *crowd) connect(u region.UIN) Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	e := Entry{Connection: Connection{ID: c.next}, UIN: u, Front: "long", Platform: "test", Since: time.UnixMilli(1)}
	c.all[e.ID] = e
	c.watch(e)
	return e
}

func (c *crowd) disconnect(e Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, e.ID)
	e.Gone = true
	c.watch(e)
}

func (h *house) access(name string) (*crowd, *Client) {
	h.t.Helper()
	c := &crowd{all: map[uint64]Entry{}}
	client, err := NewClient(Options{Identity: identity(name), Nodes: h.list, Connections: c})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = client.Close() })
	return c, client
}

func (h *house) logic() *Client {
	h.t.Helper()
	client, err := NewClient(Options{Identity: identity("sh-logic-1"), Nodes: h.list})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = client.Close() })
	return client
}

// know waits until the nodes know exactly so many connections, and the same.
func (h *house) know(n int, names ...string) {
	h.t.Helper()
	eventually(h.t, "they know the same", func() bool {
		first := h.nodes[names[0]].Entries()
		for _, name := range names {
			if all := h.nodes[name].Entries(); len(all) != n || !reflect.DeepEqual(all, first) {
				return false
			}
		}
		return true
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 20 s: %s", what)
}

// users are in many segments, so that each node is primary of some.
func users(n int) (all []region.UIN) {
	for i := range n {
		all = append(all, region.UIN(1_000_000+i*SegmentSize))
	}
	return all
}

// Both nodes know everybody; each may crash, and loses nobody who is still
// connected.
func TestCrashLosesNobody(t *testing.T) {
	h := newHouse(t, "p1", "p2")
	h.start("p1", "p2")
	a, _ := h.access("sh-access-1")
	b, _ := h.access("sh-access-2")
	all := users(40)
	var last []Entry
	for _, u := range all {
		last = append(last, a.connect(u))
		b.connect(u)
	}
	h.know(80, "p1", "p2")
	for _, name := range []string{"p1", "p2"} {
		h.stop(name)
		// Some come and some go while it is away.
		for i, u := range all[:10] {
			a.disconnect(last[i])
			last[i] = a.connect(u)
		}
		h.start(name)
		h.know(80, "p1", "p2")
	}
	// Both at once: the access processes know.
	h.stop("p1")
	h.stop("p2")
	a.disconnect(last[0])
	h.start("p2", "p1")
	h.know(79, "p1", "p2")
}

// Without the primary the backup is told, asked, and brings notices.
func TestBackupTakesOver(t *testing.T) {
	h := newHouse(t, "p1", "p2")
	h.start("p1", "p2")
	a, _ := h.access("sh-access-1")
	l := h.logic()
	all := users(20)
	for _, u := range all[:10] {
		a.connect(u)
	}
	h.know(10, "p1", "p2")
	h.stop("p1")
	for _, u := range all[10:] {
		a.connect(u)
	}
	h.know(20, "p2")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	got, err := l.Query(ctx, append(all, 999)...)
	if err != nil || len(got) != 20 {
		t.Errorf("%d of 20, %v", len(got), err)
	}
	for i, u := range all {
		l.Notify(u, uint64(i+1), nil)
	}
	eventually(t, "all notices", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.heard) == 20 })
}

// Notices come to the access processes that have the user, in order; to nobody
// else. A revocation comes, too.
func TestNotices(t *testing.T) {
	h := newHouse(t, "p1", "p2", "p3")
	h.start("p1", "p2", "p3")
	a, _ := h.access("sh-access-1")
	b, _ := h.access("sh-access-2")
	l := h.logic()
	a.connect(1_000_001)
	a.connect(1_000_001) // two devices, one notice each for the process to share out
	b.connect(1_000_002)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	eventually(t, "all are known", func() bool {
		got, err := l.Query(ctx, 1_000_001, 1_000_002)
		return err == nil && len(got) == 3
	})
	const n = 500
	for i := range uint64(n) {
		l.Notify(1_000_001, i+1, &v1.Message{Sequence: i + 1})
	}
	eventually(t, "all notices", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.heard) == n })
	l.Revoked(1_000_001, [8]byte{1})
	eventually(t, "the revocation", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.revoked > 0 })
	a.mu.Lock()
	if !slices.IsSorted(a.heard) {
		t.Error("the notices are out of order")
	}
	a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.heard) != 0 || b.revoked != 0 {
		t.Error("somebody else heard of it")
	}
}

// What was lost on some way is found out by the sums.
func TestSumsFindWhatWasLost(t *testing.T) {
	h := newHouse(t, "p1", "p2")
	h.start("p1", "p2")
	a, _ := h.access("sh-access-1")
	for _, u := range users(20) {
		a.connect(u)
	}
	h.know(20, "p1", "p2")
	n := h.nodes["p1"]
	n.mu.Lock()
	list := n.table.Entries(func(region.UIN) bool { return true })
	n.table.remove(list[3].UIN, 0)
	n.table.toggle(list[3].Connection)
	stray := entry(999, "sh-access-1", list[0].Incarnation, 12345)
	n.table.Apply(stray, time.Now())
	n.mu.Unlock()
	h.know(20, "p1", "p2")
}

func TestLimits(t *testing.T) {
	h := newHouse(t, "p1")
	h.start("p1")
	l := h.logic()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	eventually(t, "up", func() bool { up, all := l.Up(); return up == all })
	if _, err := l.ask(ctx, l.nodes[0], make([]uint64, MaxQuery+1)); region.KindOf(err) != region.TooLarge {
		t.Errorf("too many at once: %v", err)
	}
	if got, err := l.Query(ctx, users(2*MaxQuery+1)...); err != nil || len(got) != 0 {
		t.Errorf("many are asked in batches: %d, %v", len(got), err)
	}
}
