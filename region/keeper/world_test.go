package keeper

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab is a world with nodes that can be started and stopped.
type lab struct {
	t        *testing.T
	dir      string
	root     ed25519.PrivateKey
	operator ed25519.PrivateKey
	keys     map[peer.Identity]ed25519.PrivateKey
	ears     map[peer.Identity]*ear
	genesis  *region.Envelope
	nodes    map[peer.Identity]*node
}

type node struct {
	*Keeper
}

// ear is a node's admin listener. It is there before the node is, so that the
// world can name it; while the node is down it drops every connection.
type ear struct {
	server *http.Server
	url    string
	node   atomic.Pointer[node]
	done   chan struct{}
}

func (e *ear) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := e.node.Load()
	if n == nil {
		panic(http.ErrAbortHandler)
	}
	n.Handler().ServeHTTP(w, r)
}

// key is made from a name, so that failures are the same in every run.
func key(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

func public(k ed25519.PrivateKey) region.PublicKey {
	return region.PublicKey(k.Public().(ed25519.PublicKey))
}

var (
	sh  = peer.Region("sh")
	hk  = peer.Region("hk")
	ca  = peer.Region("ca")
	pop = peer.POP("pop-1")
)

// newLab makes a world of regions and of one POP, which does not vote.
func newLab(t *testing.T, ids ...region.ID) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), root: key("root"), operator: key("operator"),
		keys: map[peer.Identity]ed25519.PrivateKey{}, ears: map[peer.Identity]*ear{}, nodes: map[peer.Identity]*node{}}
	w := &region.World{Version: 1, Name: "lab", Zone: "lab.test", Partitions: 8, Threshold: 1,
		Operators: []region.PublicKey{public(l.operator)}, Root: public(l.root),
		Steering: region.Steering{TTL: 30, Answers: 3, AllDown: "everything"}}
	for i, id := range ids {
		first := region.UIN(i+1) * 1_000_000
		w.Regions = append(w.Regions, region.Region{ID: id, Acting: region.Acting{Region: id, Counter: 1}, Key: public(l.identity(peer.Region(id))), Admin: l.address(peer.Region(id))})
		w.Segments = append(w.Segments, region.Segment{First: first, Last: first + 999_999, Home: id})
	}
	w.POPs = []region.POP{{ID: "pop-1", Key: public(l.identity(pop)), Admin: l.address(pop)}}
	l.genesis = &region.Envelope{Signed: seal(t, w, nil, false, l.operator, l.root)}
	t.Cleanup(func() {
		for id := range l.nodes {
			l.stop(id)
		}
		for _, e := range l.ears {
			if err := e.server.Close(); err != nil {
				t.Error(err)
			}
			<-e.done
		}
	})
	return l
}

func (l *lab) identity(id peer.Identity) ed25519.PrivateKey {
	l.keys[id] = key(id.String())
	return l.keys[id]
}

func (l *lab) address(id peer.Identity) string {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	e := &ear{url: "http://" + tcp.Addr().String(), done: make(chan struct{})}
	e.server = &http.Server{Handler: e}
	l.ears[id] = e
	go func() {
		defer close(e.done)
		if err := e.server.Serve(tcp); !errors.Is(err, http.ErrServerClosed) {
			l.t.Errorf("%s: %v", id, err)
		}
	}()
	return tcp.Addr().String()
}

func (l *lab) url(id peer.Identity) string { return l.ears[id].url }

func (l *lab) urls(ids ...peer.Identity) (out []string) {
	for _, id := range ids {
		out = append(out, l.url(id))
	}
	return out
}

// seal signs a world, whatever it says.
func seal(t *testing.T, w *region.World, parents []region.Hash, forced bool, keys ...ed25519.PrivateKey) *region.Signed {
	t.Helper()
	payload, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	s := &region.Signed{Format: region.Format, Version: w.Version, Parents: parents, Payload: payload, Forced: forced}
	for _, k := range keys {
		s.Sign(k)
	}
	return s
}

// after makes a world that follows another.
func (l *lab) after(parent *region.Envelope, forced bool, change func(*region.World)) *region.Envelope {
	l.t.Helper()
	w, err := parent.Signed.Decode()
	if err != nil {
		l.t.Fatal(err)
	}
	h := parent.Signed.Hash()
	w.Version++
	for i := range w.Regions {
		if a := &w.Regions[i].Acting; a.Raised == nil {
			a.Raised = &h
		}
	}
	if change != nil {
		change(w)
	}
	return &region.Envelope{Signed: seal(l.t, w, []region.Hash{h}, forced, l.operator)}
}

func failover(home, to region.ID) func(*region.World) {
	return func(w *region.World) {
		for i := range w.Regions {
			if w.Regions[i].ID == home {
				w.Regions[i].Acting = region.Acting{Region: to, Counter: w.Regions[i].Acting.Counter + 1}
			}
		}
	}
}

func (l *lab) accepted(e *region.Envelope, voters ...peer.Identity) *region.Envelope {
	out := &region.Envelope{Signed: e.Signed}
	for _, v := range voters {
		out.Acceptances = append(out.Acceptances, region.Accept(v.String(), e.Signed.Hash(), l.keys[v]))
	}
	return out
}

func (l *lab) options(id peer.Identity) Options {
	return Options{Dir: filepath.Join(l.dir, id.Kind+"-"+id.Name), Self: id, Key: l.keys[id], Pinned: public(l.root), Genesis: l.genesis,
		FetchInterval: 20 * time.Millisecond, PollInterval: time.Hour, OverlayInterval: 20 * time.Millisecond, CompareInterval: 10 * time.Millisecond}
}

func (l *lab) start(id peer.Identity, change ...func(*Options)) *node {
	l.t.Helper()
	o := l.options(id)
	for _, c := range change {
		c(&o)
	}
	k, err := Open(o)
	if err != nil {
		l.t.Fatal(err)
	}
	n := &node{Keeper: k}
	l.nodes[id] = n
	l.ears[id].node.Store(n)
	return n
}

func (l *lab) stop(id peer.Identity) {
	n := l.nodes[id]
	delete(l.nodes, id)
	l.ears[id].node.Store(nil)
	if err := n.Close(); err != nil {
		l.t.Error(err)
	}
}

func (l *lab) push(e *region.Envelope, voters, nodes []peer.Identity) (Report, error) {
	c := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer c.CloseIdleConnections()
	return Push(context.Background(), c, e.Signed, l.urls(voters...), l.urls(nodes...))
}

// until waits for a condition by the keeper's own signal.
func (n *node) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		changed := n.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: never: %s", n.Keeper, what)
		}
	}
}

func (n *node) at(version uint64) func() bool {
	return func() bool { v := n.View(); return v != nil && v.World.Version == version }
}

func wantKind(t *testing.T, err error, kind region.Kind) {
	t.Helper()
	if region.KindOf(err) != kind {
		t.Fatalf("got %v, want an error of kind %s", err, kind)
	}
}

func counted(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return -1
	}
	return m.Counter.GetValue()
}
