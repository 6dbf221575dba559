package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/client"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func text(to region.UIN, id, s string) *v1.SendRequest {
	return &v1.SendRequest{To: uint64(to), ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: s}}}
}

func TestSendNoticeSync(t *testing.T) {
	r := newRig(t)
	alice, bob := r.client(1_000_001, nil), r.client(1_000_002, nil)
	r.connected(alice)
	r.connected(bob)
	ctx := within(t)
	for i := range 25 { // more than two pages
		if _, err := alice.SendText(ctx, 1_000_002, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case n := <-bob.Notices():
		if n.Sequence != 1 || n.Message.GetBody().GetText() != "0" {
			t.Errorf("notice %v", n)
		}
	case <-ctx.Done():
		t.Fatal("no notice")
	}
	ch, err := bob.Sync(ctx, nil)
	if err != nil || len(ch.Messages) != 25 || ch.Account.GetUin() != 1_000_002 {
		t.Fatalf("%d messages of 25, %v", len(ch.Messages), err)
	}
	for i, m := range ch.Messages {
		if m.Body.GetText() != fmt.Sprint(i) {
			t.Errorf("message %d says %q", i, m.Body.GetText())
		}
	}
	again, err := bob.Sync(ctx, ch.Snapshot)
	if err != nil || len(again.Messages) != 0 || !bytes.Equal(again.Snapshot, ch.Snapshot) {
		t.Errorf("nothing new, and yet %v, %v", again, err)
	}
	if id, pop, ok := alice.Where(); id != "sh" || pop != "" || !ok {
		t.Errorf("connected to %s %s %v", id, pop, ok)
	}
	q := r.asked()[0]
	for _, want := range []string{"host=long.demo.test", "uin=1000001", "ver=80003", "ip=223.5.5.5"} {
		if !strings.Contains(q, want) {
			t.Errorf("HTTPDNS was asked %s, without %s", q, want)
		}
	}
	var e error
	if _, e = alice.Lookup(ctx, "nobody"); region.KindOf(e) != region.NotFound {
		t.Errorf("an error of the region became %v", e)
	}
}

// Led to the wrong region, the client is home after one redirect.
func TestRedirect(t *testing.T) {
	r := newRig(t)
	r.answer("long.demo.test", r.hk.long())
	c := r.client(1_000_001, nil)
	r.connected(c)
	seen := await(t, c, client.Connected)
	if k := kinds(seen); k != "resolved redirected connected " || last(seen).Region != "sh" || last(seen).Source != "redirect" {
		t.Errorf("%s in %+v", k, last(seen))
	}
}

// Regions that send a client to and fro are not hammered.
func TestRedirectLoop(t *testing.T) {
	r := newRig(t)
	// Each believes that the other one acts, at the same version.
	r.sh.world.Set(r.view(1, "hk", "hk", 1, 0))
	r.hk.world.Set(r.view(1, "sh", "hk", 1, 0))
	c := r.client(1_000_001, func(o *client.Options) { o.BackoffMin, o.BackoffMax = time.Hour, time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Connect(ctx) }()
	seen := await(t, c, client.Disconnected)
	if k := kinds(seen); k != "resolved redirected redirected redirected redirected disconnected " {
		t.Errorf("%s", k)
	}
	if n := r.dials(r.sh.long()) + r.dials(r.hk.long()); n != 4 {
		t.Errorf("%d connections were made", n)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// The acting region changes under a connected client that is sending: it ends
// up in the new one, and every message is stored once.
func TestFailoverUnderTraffic(t *testing.T) {
	r := newRig(t)
	c := r.client(1_000_001, nil)
	r.connected(c)
	await(t, c, client.Connected)
	ctx := within(t)
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
			if _, err := c.Send(ctx, text(1_000_001, fmt.Sprintf("m-%d", n), "x")); err != nil {
				t.Errorf("send %d: %v", n, err)
				stopped <- n
				return
			}
			n++
		}
	}()
	r.setWorld(2, "hk", "hk", 1, 0)
	seen := await(t, c, client.Connected)
	if last(seen).Region != "hk" || !strings.Contains(kinds(seen), "redirected") {
		t.Errorf("%s, connected to %s", kinds(seen), last(seen).Region)
	}
	if _, err := c.SendText(ctx, 1_000_001, "after"); err != nil {
		t.Error(err)
	}
	close(stop)
	n := <-stopped
	once := map[string]int{}
	for _, m := range r.users.Inbox(1_000_001) {
		once[m.ClientMessageId]++
	}
	for i := range n {
		if once[fmt.Sprintf("m-%d", i)] != 1 {
			t.Errorf("message %d is stored %d times", i, once[fmt.Sprintf("m-%d", i)])
		}
	}
	if len(once) != n+1 {
		t.Errorf("%d messages stored, %d acknowledged", len(once), n+1)
	}
}

// An answer that is lost with its connection costs nothing but a retry, and DNS
// is not asked again.
func TestLostAnswer(t *testing.T) {
	r := newRig(t)
	c := r.client(1_000_001, nil)
	r.connected(c)
	asked := len(r.asked())
	var once atomic.Bool
	r.sh.logic.AfterSend = func(context.Context, core.Caller, *v1.SendRequest) error {
		if once.CompareAndSwap(false, true) {
			r.cut()
		}
		return nil
	}
	resp, err := c.SendText(within(t), 1_000_001, "x")
	if err != nil || !resp.Repeated {
		t.Errorf("%v, %v: want the answer of a repeated send", resp, err)
	}
	if n := len(r.users.Inbox(1_000_001)); n != 1 {
		t.Errorf("stored %d times", n)
	}
	if n := len(r.asked()); n != asked {
		t.Errorf("HTTPDNS was asked %d more times", n-asked)
	}
}

// An error that may pass is tried again under the same ID; one that stays is
// returned at once.
func TestRetryClasses(t *testing.T) {
	r := newRig(t)
	c := r.client(1_000_001, nil)
	r.connected(c)
	var tries atomic.Int32
	ids := make(chan string, 10)
	r.sh.logic.OnSend = func(_ context.Context, _ core.Caller, q *v1.SendRequest) error {
		ids <- q.ClientMessageId
		if tries.Add(1) < 3 {
			return region.Errorf(region.Overloaded, "later")
		}
		return nil
	}
	if _, err := c.SendText(within(t), 1_000_001, "x"); err != nil {
		t.Fatal(err)
	}
	if a, b, d := <-ids, <-ids, <-ids; a != b || b != d || a == "" {
		t.Errorf("IDs %q %q %q", a, b, d)
	}
	r.sh.logic.OnSend = func(context.Context, core.Caller, *v1.SendRequest) error {
		tries.Add(1)
		return region.Errorf(region.Forbidden, "blocked").WithHint("write to somebody else")
	}
	before := tries.Load()
	_, err := c.SendText(within(t), 1_000_001, "x")
	var e *region.Error
	if !errors.As(err, &e) || e.Kind != region.Forbidden || e.Hint != "write to somebody else" || tries.Load() != before+1 {
		t.Errorf("%v after %d tries", err, tries.Load()-before)
	}
	// Its context ends a call for ever.
	r.sh.logic.OnSend = func(ctx context.Context, _ core.Caller, _ *v1.SendRequest) error { <-ctx.Done(); return ctx.Err() }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.SendText(ctx, 1_000_001, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestExpiredTicketAtStart(t *testing.T) {
	r := newRig(t)
	r.answer("short.demo.test", r.hk.short()) // which redirects
	var stored atomic.Pointer[client.Identity]
	c := r.client(1_000_001, func(o *client.Options) {
		o.Identity.Ticket = r.users.Issue(1_000_001, -time.Second)
		o.OnIdentity = func(i client.Identity) { stored.Store(&i) }
	})
	r.connected(c)
	if k := kinds(await(t, c, client.Connected)); k != "resolved renewed connected " {
		t.Errorf("%s", k)
	}
	if i := stored.Load(); i == nil || i.Ticket != c.Identity().Ticket || time.Until(i.Expires) < 50*time.Minute {
		t.Errorf("the app was told %+v", i)
	}
}

// The server's demand is met on the connection itself, and nobody notices.
func TestRenewalUnderWay(t *testing.T) {
	r := newRig(t)
	c := r.client(1_000_001, func(o *client.Options) { o.Identity.Ticket = r.users.Issue(1_000_001, 1200*time.Millisecond) })
	r.connected(c)
	r.mu.Lock()
	r.block[r.sh.short().String()] = true // the short connection is not needed
	r.mu.Unlock()
	seen := await(t, c, client.Renewed)
	if strings.Contains(kinds(seen), "disconnected") || r.users.Logins() != 1 {
		t.Errorf("%s, %d logins", kinds(seen), r.users.Logins())
	}
	deadline := time.After(1500 * time.Millisecond) // past the end of the first ticket
	for over := false; !over; {
		select {
		case e := <-c.Events():
			t.Errorf("%s: %v", e.Kind, e.Err)
		case <-deadline:
			over = true
		}
	}
	if _, err := c.SendText(within(t), 1_000_001, "still here"); err != nil {
		t.Error(err)
	}
}

// A revoked device is told so, and does not try for ever.
func TestRevokedDevice(t *testing.T) {
	r := newRig(t)
	c := r.client(1_000_001, nil)
	r.users.Revoke(1_000_001)
	err := c.Connect(within(t))
	if region.KindOf(err) != region.Unauthenticated {
		t.Errorf("error %v", err)
	}
	if e := last(await(t, c, client.Failed)); region.KindOf(e.Err) != region.Unauthenticated {
		t.Errorf("event %+v", e)
	}
	if _, err := c.SendText(within(t), 1, "x"); region.KindOf(err) != region.Unauthenticated {
		t.Errorf("a call after it: %v", err)
	}
}

// The short connection being down says nothing about the device.
func TestRenewalCannotBeReached(t *testing.T) {
	r := newRig(t)
	r.block[r.sh.short().String()] = true
	c := r.client(1_000_001, func(o *client.Options) { o.Identity.Ticket = "" })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Connect(ctx) }()
	if e := last(await(t, c, client.Disconnected)); region.KindOf(e.Err) != region.Unavailable {
		t.Errorf("event %+v", e)
	}
	r.mu.Lock()
	r.block = map[string]bool{}
	r.mu.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	cancel()
}

// A drained node sends its clients away; they come back elsewhere.
func TestGoAway(t *testing.T) {
	r := newRig(t)
	r.hk.world.Set(r.view(2, "hk", "hk", 1, 0))
	c := r.client(1_000_001, nil)
	r.connected(c)
	await(t, c, client.Connected)
	r.answer("long.demo.test", r.hk.long())
	go func() { _ = r.sh.Close(context.Background()) }()
	if e := last(await(t, c, client.Connected)); e.Region != "hk" {
		t.Errorf("connected to %s", e.Region)
	}
}

// An endpoint that swallows packets delays the client by Stagger, not by a
// timeout; and one that answers with nonsense is passed over.
func TestBadEndpointsFirst(t *testing.T) {
	r := newRig(t)
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	nonsense, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nonsense.Close()
	go func() {
		for {
			c, err := nonsense.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 smtp.example.com ESMTP\r\n"))
			_ = c.Close()
		}
	}()
	end := func(l net.Listener) netip.AddrPort { return netip.MustParseAddrPort(l.Addr().String()) }
	r.answer("long.demo.test", end(hole), end(nonsense), r.sh.long())
	c := r.client(1_000_001, nil)
	started := time.Now()
	r.connected(c)
	if d := time.Since(started); d > 3*time.Second {
		t.Errorf("connected after %s", d)
	}
	if k := c.Known(); k[0] != r.sh.long() {
		t.Errorf("known: %v", k)
	}
	if e := last(await(t, c, client.Connected)); e.Endpoint != r.sh.long() {
		t.Errorf("event %+v", e)
	}
}

// A server with the right address and the wrong certificate gets nothing.
func TestForeignCertificate(t *testing.T) {
	r := newRig(t)
	_, other := accesstest.Authority("long.demo.test")
	c := r.client(1_000_001, func(o *client.Options) { o.RootCAs = other })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Connect(ctx); err == nil {
		t.Error("connected")
	}
	if e := last(await(t, c, client.Disconnected)); !strings.Contains(e.Err.Error(), "certificate") {
		t.Errorf("event %+v", e)
	}
}

func TestReconnectIsQuickAndQuiet(t *testing.T) {
	r := newRig(t)
	c := r.client(1_000_001, nil)
	r.connected(c)
	await(t, c, client.Connected)
	asked := len(r.asked())
	started := time.Now()
	c.Reconnect()
	e := last(await(t, c, client.Connected))
	if d := time.Since(started); d > time.Second || e.Source != "cached" || len(r.asked()) != asked {
		t.Errorf("back after %s from %q", d, e.Source)
	}
}

func TestFallback(t *testing.T) {
	r := newRig(t)
	c := r.client(1_000_001, func(o *client.Options) {
		o.HTTPDNS, o.DNS = "http://127.0.0.1:1", "127.0.0.1:1"
		o.Fallback = []netip.AddrPort{r.sh.long()}
	})
	r.connected(c)
	if e := last(await(t, c, client.Connected)); e.Source != "fallback" {
		t.Errorf("event %+v", e)
	}
}

// Options that cannot work are refused before anything is started.
func TestOptions(t *testing.T) {
	users := accesstest.NewUsers(1)
	key, _ := users.Add(1)
	good := client.Options{Zone: "demo.test", HTTPDNS: "http://x", Identity: client.Identity{UIN: 1, Key: key}}
	for name, change := range map[string]func(*client.Options){
		"no UIN":        func(o *client.Options) { o.Identity.UIN = 0 },
		"no key":        func(o *client.Options) { o.Identity.Key = nil },
		"nowhere":       func(o *client.Options) { o.HTTPDNS = "" },
		"no zone":       func(o *client.Options) { o.Zone = "" },
		"long platform": func(o *client.Options) { o.Platform = strings.Repeat("x", 33) },
	} {
		o := good
		change(&o)
		if _, err := client.New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c, err := client.New(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil { // never connected
		t.Error(err)
	}
	if err := c.Connect(t.Context()); err == nil {
		t.Error("a closed client connects")
	}
}

// A lost answer to Register makes no second user.
func TestRegisterOnce(t *testing.T) {
	r := newRig(t)
	h := &http.Client{Transport: &losing{base: http.DefaultTransport}}
	plain := newPlainShort(t, r)
	defer http.DefaultClient.CloseIdleConnections()
	id, err := client.Register(within(t), h, plain, "Alice", "test")
	if err != nil || id.UIN != 1_000_001 {
		t.Fatalf("%+v, %v", id, err)
	}
	next, err := client.Register(within(t), nil, plain, "Bob", "test")
	if err != nil || next.UIN != 1_000_002 {
		t.Errorf("%+v, %v: the first user was made twice", next, err)
	}
}

// losing loses its first answer.
type losing struct {
	base http.RoundTripper
	lost atomic.Bool
}

func (l *losing) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(q)
	if err == nil && l.lost.CompareAndSwap(false, true) {
		_ = resp.Body.Close()
		return nil, errors.New("connection reset by peer")
	}
	return resp, err
}
