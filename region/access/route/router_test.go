package route

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/rpc"
	"github.com/homing-im/homing/region/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(name string) rpc.Identity {
	seed := sha256.Sum256([]byte("sh"))
	return rpc.Identity{Region: "sh", Name: name, Key: ed25519.NewKeyFromSeed(seed[:])}
}

// logic is one logic process of a test, over users that all of them share.
type logic struct {
	*accesstest.Logic
	t       *testing.T
	name    string
	address string
	server  *rpc.Server
	asked   atomic.Int64
	mu      sync.Mutex
	caller  core.Caller                 // of the last Send
	before  func(context.Context) error // of a Send; may be nil
	after   func(context.Context) error // of a Send that was stored
}

func (l *logic) Send(ctx context.Context, c core.Caller, q *v1.SendRequest) (*v1.SendResponse, error) {
	l.asked.Add(1)
	l.mu.Lock()
	l.caller = c
	before, after := l.before, l.after
	l.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return nil, err
		}
	}
	r, err := l.Logic.Send(ctx, c, q)
	if err == nil && after != nil {
		err = after(ctx)
	}
	return r, err
}

func (l *logic) on(before, after func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.after = before, after
}

func (l *logic) start() {
	l.t.Helper()
	s, err := rpc.Listen(rpc.ServerOptions{Identity: identity(l.name), Address: l.address, Handler: Handler(l)})
	if err != nil {
		l.t.Fatal(err)
	}
	l.server, l.address = s, s.Addr().String()
}

func (l *logic) stop() {
	if l.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = l.server.Close(ctx)
	l.server = nil
}

// rig is some logic processes and a router to them.
type rig struct {
	*Router
	users *accesstest.Users
	logic map[string]*logic
}

func newRig(t *testing.T, rules []Rule, names ...string) *rig {
	t.Helper()
	r := &rig{users: accesstest.NewUsers(1_000_001), logic: map[string]*logic{}}
	var all []Instance
	for _, n := range names {
		l := &logic{t: t, Logic: &accesstest.Logic{Region: "sh", Users: r.users}, name: n, address: "127.0.0.1:0"}
		l.start()
		t.Cleanup(l.stop)
		r.logic[n] = l
		all = append(all, Instance{n, l.address})
	}
	var err error
	if r.Router, err = New(Options{Identity: identity("sh-access-1"), Instances: all, Rules: rules}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	eventually(t, "all are up", func() bool {
		for _, up := range r.Usable() {
			if !up {
				return false
			}
		}
		return true
	})
	return r
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 20 s: %s", what)
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func (r *rig) send(ctx context.Context, u region.UIN, id string) (*v1.SendResponse, error) {
	m, err := r.Do(ctx, wire.Send, core.Caller{UIN: u, ClientVersion: 80003}, &v1.SendRequest{To: uint64(u), ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: id}}})
	if err != nil {
		return nil, err
	}
	return m.(*v1.SendResponse), nil
}

// best is the logic that a user's requests go to.
func (r *rig) best(u region.UIN) *logic { return r.logic[r.table.names[r.table.Order(u, 80003)[0]]] }

// Everything that a request is arrives, and so does everything an answer is.
func TestRequestsArriveWhole(t *testing.T) {
	r := newRig(t, nil, "a")
	ctx := within(t, 20*time.Second)
	c := core.Caller{UIN: 7, DeviceKeyID: [8]byte{1, 2}, ClientVersion: 90001, Platform: "ios", Address: netip.MustParseAddr("2001:db8::1")}
	m, err := r.Do(ctx, wire.Send, c, &v1.SendRequest{To: 8, ClientMessageId: "x", Body: &v1.Body{Kind: &v1.Body_Text{Text: "x"}}})
	if resp, ok := m.(*v1.SendResponse); err != nil || !ok || resp.Sequence != 1 {
		t.Fatalf("%v, %v", m, err)
	}
	if r.logic["a"].caller != c {
		t.Errorf("the caller arrives as %+v", r.logic["a"].caller)
	}
	if _, err := r.Do(ctx, wire.Resolve, c, &v1.ResolveRequest{Handle: "nobody"}); region.KindOf(err) != region.NotFound || err.Error() != `nobody is called "nobody"` {
		t.Errorf("an error arrives as %v", err)
	}
	if _, err := r.Do(ctx, wire.Heartbeat, c, &v1.Heartbeat{}); region.KindOf(err) != region.Unsupported {
		t.Errorf("a method of the connection: %v", err)
	}
	_, ticket := r.users.Add(42)
	d, err := r.Authenticate(ctx, ticket)
	want, _ := r.logic["a"].Logic.Authenticate(ctx, ticket)
	if err != nil || d.UIN != 42 || d.KeyID != want.KeyID || string(d.PublicKey) != string(want.PublicKey) || d.Expires.Unix() != want.Expires.Unix() {
		t.Errorf("a device arrives as %+v, %v", d, err)
	}
	if _, err := r.Authenticate(ctx, "nonsense"); region.KindOf(err) != region.Unauthenticated {
		t.Errorf("a bad ticket: %v", err)
	}
}

// wrong-region comes with the device, so that access can redirect.
func TestDeviceComesWithWrongRegion(t *testing.T) {
	in := core.Device{UIN: 7, KeyID: [8]byte{1}, PublicKey: []byte("key"), Expires: time.Unix(1234, 0)}
	b, err := encode(deviceToProto(in, region.Errorf(region.WrongRegion, "elsewhere")))
	if err != nil {
		t.Fatal(err)
	}
	p := new(v1.LogicDevice)
	if err := proto.Unmarshal(b, p); err != nil {
		t.Fatal(err)
	}
	out, err := deviceFromProto(p)
	if region.KindOf(err) != region.WrongRegion || out.UIN != in.UIN || out.KeyID != in.KeyID || !out.Expires.Equal(in.Expires) {
		t.Errorf("%+v, %v", out, err)
	}
}

// An owner's requests meet in one process; the answer to a challenge goes where
// the challenge was.
func TestOwnersStay(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c")
	for i := range 30 {
		u := region.UIN(1000 + i)
		l := r.best(u)
		before := l.asked.Load()
		for n := range 3 {
			if _, err := r.send(within(t, 20*time.Second), u, fmt.Sprint(n)); err != nil {
				t.Fatal(err)
			}
		}
		if l.asked.Load() != before+3 {
			t.Errorf("UIN %d asked %s %d times", u, l.name, l.asked.Load()-before)
		}
	}
	if u := r.owner(core.Caller{}, &v1.LoginRequest{Uin: 77}); u != 77 {
		t.Errorf("a login of 77 is %d's", u)
	}
}

// What an instance answers is the answer: overload is not carried elsewhere.
func TestAnswersPassThrough(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	const u = 5
	l := r.best(u)
	for _, k := range []region.Kind{region.Overloaded, region.Unavailable, region.Conflict, region.Internal} {
		l.on(func(context.Context) error { return region.Errorf(k, "so it is") }, nil)
		for range 2 * ejectAfter {
			if _, err := r.send(within(t, 20*time.Second), u, "x"); region.KindOf(err) != k {
				t.Fatalf("%s arrives as %v", k, err)
			}
		}
		if !r.Usable()[l.name] {
			t.Errorf("%s ejects", k)
		}
	}
	for n, o := range r.logic {
		if n != l.name && o.asked.Load() != 0 {
			t.Errorf("%s was asked too", n)
		}
	}
}

// A process that ends, in either way, costs no request, and takes effect once.
func TestRetriedElsewhere(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	const u = 5
	l := r.best(u)
	// It stores the message, and dies before it answers.
	died := make(chan struct{})
	l.on(nil, func(ctx context.Context) error {
		go func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // Close does not wait for this call
			_ = l.server.Close(ctx)
			close(died)
		}()
		<-ctx.Done()
		return ctx.Err()
	})
	resp, err := r.send(within(t, 30*time.Second), u, "once")
	if err != nil || !resp.Repeated {
		t.Errorf("answered %v, %v; want the repeat of what was stored", resp, err)
	}
	<-died
	if n := len(r.users.Inbox(u)); n != 1 {
		t.Errorf("stored %d times", n)
	}
	if _, err := r.send(within(t, 20*time.Second), u, "second"); err != nil {
		t.Errorf("while it is down: %v", err)
	}
	l.on(nil, nil)
	l.start()
	eventually(t, "it is asked again", func() bool {
		before := l.asked.Load()
		_, err := r.send(within(t, 20*time.Second), u, fmt.Sprint(before, time.Now()))
		return err == nil && l.asked.Load() == before+1
	})
}

// While nobody is there, requests wait; somebody who comes in time answers.
func TestWaitsForTheOnlyOne(t *testing.T) {
	r := newRig(t, nil, "a")
	r.logic["a"].stop()
	if _, err := r.send(within(t, 150*time.Millisecond), 5, "x"); region.KindOf(err) != region.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
	got := make(chan error, 1)
	go func() { _, err := r.send(within(t, 20*time.Second), 5, "y"); got <- err }()
	r.logic["a"].start()
	if err := <-got; err != nil {
		t.Errorf("somebody came: %v", err)
	}
}

// An instance that takes calls and does not answer is ejected, gets nothing more,
// and is readmitted when a probe is answered.
func TestEjectionAndReadmission(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	const u = 5
	l := r.best(u)
	i := r.instances[r.table.Order(u, 80003)[0]]
	for range ejectAfter {
		r.failed(i, context.DeadlineExceeded)
	}
	if r.Usable()[l.name] {
		t.Fatal("it is not ejected")
	}
	if _, err := r.send(within(t, 20*time.Second), u, "x"); err != nil || l.asked.Load() != 0 {
		t.Errorf("sent while it is ejected: %v; it was asked %d times", err, l.asked.Load())
	}
	eventually(t, "readmitted", func() bool { return r.Usable()[l.name] })
	if _, err := r.send(within(t, 20*time.Second), u, "y"); err != nil || l.asked.Load() != 1 {
		t.Errorf("afterwards: %v, asked %d times", err, l.asked.Load())
	}

	// All are suspects: then all are asked.
	for _, i := range r.instances {
		for range ejectAfter {
			r.failed(i, context.DeadlineExceeded)
		}
	}
	if _, err := r.send(within(t, 20*time.Second), u, "z"); err != nil {
		t.Errorf("all ejected: %v", err)
	}
}

// The sandbox gets its users, and when it is down they are served all the same.
func TestSandbox(t *testing.T) {
	r := newRig(t, []Rule{{UINs: []region.UINRange{{First: 100, Last: 199}}, To: []string{"sandbox"}}}, "a", "sandbox")
	for u, want := range map[region.UIN]string{99: "a", 100: "sandbox", 199: "sandbox", 200: "a"} {
		before := r.logic[want].asked.Load()
		if _, err := r.send(within(t, 20*time.Second), u, "x"); err != nil || r.logic[want].asked.Load() != before+1 {
			t.Errorf("UIN %d: %v, %s was not asked", u, err, want)
		}
	}
	r.logic["sandbox"].stop()
	if _, err := r.send(within(t, 20*time.Second), 150, "y"); err != nil {
		t.Errorf("without the sandbox: %v", err)
	}
}
