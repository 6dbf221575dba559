package access_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is one region's real access server over a logic in memory.
type rig struct {
	*access.Server
	t        *testing.T
	registry *prometheus.Registry
	world    *accesstest.World
	users    *accesstest.Users
	logic    *accesstest.Logic
	presence *access.Presence
}

func newRig(t *testing.T, change func(*access.Options)) *rig {
	t.Helper()
	r := &rig{t: t, registry: prometheus.NewRegistry(), world: accesstest.NewWorld(), users: accesstest.NewUsers(1_000_001)}
	p, err := access.NewPresence(r.registry)
	if err != nil {
		t.Fatal(err)
	}
	r.presence = p
	r.logic = &accesstest.Logic{Region: "sh", Users: r.users, Notify: p.Notify}
	r.world.Set(accesstest.View(5, accesstest.Place{ID: "sh"}, accesstest.Place{ID: "hk", Long: addr("127.2.0.1:7101"), Short: addr("127.2.0.1:7102"), Web: addr("127.2.0.1:7103")}))
	o := access.Options{
		Region: "sh", World: r.world, Logic: r.logic, Presence: p, Registerer: r.registry,
		Long: "127.0.0.1:0", Short: "127.0.0.1:0", Web: "127.0.0.1:0", Drain: 200 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	if r.Server, err = access.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if users, conns := r.Online(); users != 0 || conns != 0 {
			t.Errorf("after close %d users and %d connections are online", users, conns)
		}
	})
	return r
}

// count returns the value of a counter, or gauge, with the given label values.
func (r *rig) count(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	next:
		for _, m := range f.Metric {
			for _, want := range labels {
				found := false
				for _, l := range m.Label {
					found = found || l.GetValue() == want
				}
				if !found {
					continue next
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 10 s: %s", what)
}

// raw is a client that says what a test wants it to say.
type raw struct {
	t    *testing.T
	nc   net.Conn
	r    *wire.Reader
	seq  uint64
	uin  region.UIN
	key  ed25519.PrivateKey
	tick string
	conn []byte
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.Addr(region.Long).String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(15 * time.Second))
	return nc
}

func (r *rig) raw(uin region.UIN) *raw {
	key, ticket := r.users.Add(uin)
	return r.rawWith(r.dial(), uin, key, ticket)
}

func (r *rig) rawWith(nc net.Conn, uin region.UIN, key ed25519.PrivateKey, ticket string) *raw {
	c := &raw{t: r.t, nc: nc, r: wire.NewReader(nc), uin: uin, key: key, tick: ticket, conn: make([]byte, 16)}
	_, _ = rand.Read(c.conn)
	return c
}

func (c *raw) send(m wire.Method, body proto.Message) uint64 {
	c.t.Helper()
	c.seq++
	b, err := wire.AppendMessage(nil, m, 0, c.seq, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("writing %s: %v", m, err)
	}
	return c.seq
}

func (c *raw) next() wire.Frame {
	c.t.Helper()
	f, err := c.r.Next()
	if err != nil {
		c.t.Fatalf("reading: %v", err)
	}
	return f
}

// response reads on to the response of a sequence.
func (c *raw) response(seq uint64) wire.Frame {
	c.t.Helper()
	for {
		if f := c.next(); f.Is(wire.FlagResponse) && f.Sequence == seq {
			return f
		}
	}
}

// push reads on to a push.
func (c *raw) push(m wire.Method) wire.Frame {
	c.t.Helper()
	for {
		if f := c.next(); f.Is(wire.FlagPush) && f.Method == m {
			return f
		}
	}
}

func (c *raw) hello() *v1.Hello {
	id := wire.KeyID(c.key.Public().(ed25519.PublicKey))
	return &v1.Hello{WireVersion: 1, Uin: uint64(c.uin), ClientVersion: 80003, Platform: "test", DeviceKeyId: id[:], Ticket: c.tick, ConnectionId: c.conn}
}

func (c *raw) proof(hr *v1.HelloReply) *v1.Reauth {
	c.t.Helper()
	e, err := wire.EpochFromProto(hr.Epoch)
	if err != nil {
		c.t.Fatal(err)
	}
	return &v1.Reauth{Nonce: hr.Nonce, Signature: ed25519.Sign(c.key, wire.ConnectionProof(hr.Region, e, c.conn, hr.Nonce, c.uin))}
}

// helloReply does the first half of the handshake.
func (c *raw) helloReply() *v1.HelloReply {
	c.t.Helper()
	hr := new(v1.HelloReply)
	body(c.t, c.response(c.send(wire.Hello, c.hello())), hr)
	return hr
}

// login does the whole handshake.
func (c *raw) login() *v1.HelloReply {
	c.t.Helper()
	hr := c.helloReply()
	body(c.t, c.response(c.send(wire.Reauth, c.proof(hr))), new(v1.ReauthReply))
	return hr
}

// body decodes a good response.
func body(t *testing.T, f wire.Frame, m proto.Message) {
	t.Helper()
	if f.Is(wire.FlagError) {
		t.Fatalf("%s answered %v", f.Method, errorOf(t, f))
	}
	if err := wire.Unmarshal(f, m); err != nil {
		t.Fatal(err)
	}
}

// errorOf decodes an error.
func errorOf(t *testing.T, f wire.Frame) *v1.Error {
	t.Helper()
	if !f.Is(wire.FlagError) {
		t.Fatalf("%s answered without an error", f.Method)
	}
	e := new(v1.Error)
	if err := wire.Unmarshal(f, e); err != nil {
		t.Fatal(err)
	}
	return e
}

// closed waits for the server to close.
func (c *raw) closed() {
	c.t.Helper()
	for {
		if _, err := c.r.Next(); err != nil {
			if t, ok := err.(net.Error); ok && t.Timeout() {
				c.t.Fatal("the server does not close the connection")
			}
			return
		}
	}
}

// works is the witness that others are unharmed.
func (c *raw) works() {
	c.t.Helper()
	id := rand.Text()
	resp := new(v1.SendResponse)
	body(c.t, c.response(c.send(wire.Send, text(c.uin, id))), resp)
	if resp.Repeated || resp.Sequence == 0 {
		c.t.Fatalf("sent: %v", resp)
	}
}

func text(to region.UIN, id string) *v1.SendRequest {
	return &v1.SendRequest{To: uint64(to), ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: "hello " + id}}}
}
