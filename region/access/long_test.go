package access_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestLongOverTLS(t *testing.T) {
	serverTLS, pool := accesstest.Authority("long.demo.test")
	r := newRig(t, func(o *access.Options) { o.TLS = serverTLS })
	key, ticket := r.users.Add(1_000_001)
	nc := tls.Client(r.dial(), &tls.Config{ServerName: "long.demo.test", RootCAs: pool, MinVersion: tls.VersionTLS13})
	c := r.rawWith(nc, 1_000_001, key, ticket)
	hr := c.login()
	if hr.Region != "sh" || hr.WorldVersion != 5 {
		t.Errorf("HelloReply %v", hr)
	}
	if users, conns := r.Online(); users != 1 || conns != 1 {
		t.Errorf("online: %d users, %d connections", users, conns)
	}

	// A message to oneself comes back as a notice that carries it.
	c.send(wire.Send, text(c.uin, "m-1"))
	var notice, response bool
	for !notice || !response {
		switch f := c.next(); f.Method {
		case wire.Notice:
			n := new(v1.Notice)
			if err := wire.Unmarshal(f, n); err != nil || n.Sequence != 1 || n.Message.GetBody().GetText() != "hello m-1" {
				t.Errorf("notice %v, %v", n, err)
			}
			notice = true
		case wire.Send:
			body(t, f, new(v1.SendResponse))
			response = true
		}
	}
	hb := new(v1.HeartbeatReply)
	body(t, c.response(c.send(wire.Heartbeat, &v1.Heartbeat{WorldVersion: 7})), hb)
	if hb.WorldVersion != 5 || hb.HeartbeatSeconds != 240 {
		t.Errorf("heartbeat %v", hb)
	}
	if h := r.world.Hints(); len(h) != 1 || h[0] != 7 {
		t.Errorf("the world was hinted at %v, want version 7 of the heartbeat", h)
	}
	if n := r.count("homing_access_messages_total"); n != 1 {
		t.Errorf("%v messages counted", n)
	}
}

// What a Hello may get wrong, and what it gets for it.
func TestHelloRefused(t *testing.T) {
	r := newRig(t, nil)
	bystander := r.raw(1_000_009)
	bystander.login()
	_, foreign := r.users.Add(1_000_002)
	for _, tt := range []struct {
		name   string
		change func(*raw, *v1.Hello)
		kind   region.Kind
		reason string
	}{
		{"wire version", func(_ *raw, h *v1.Hello) { h.WireVersion = 2 }, region.Unsupported, "wire-version"},
		{"no UIN", func(_ *raw, h *v1.Hello) { h.Uin = 0 }, region.BadInput, "bad-hello"},
		{"UIN of nobody", func(_ *raw, h *v1.Hello) { h.Uin = 99 }, region.NotFound, ""},
		{"no device", func(_ *raw, h *v1.Hello) { h.DeviceKeyId = nil }, region.BadInput, "bad-hello"},
		{"no connection ID", func(_ *raw, h *v1.Hello) { h.ConnectionId = nil }, region.BadInput, "bad-hello"},
		{"no ticket", func(_ *raw, h *v1.Hello) { h.Ticket = "" }, region.Unauthenticated, "no-ticket"},
		{"forged ticket", func(_ *raw, h *v1.Hello) { h.Ticket = "forged" }, region.Unauthenticated, "bad-ticket"},
		{"expired ticket", func(c *raw, h *v1.Hello) { h.Ticket = r.users.Issue(c.uin, -time.Second) }, region.Unauthenticated, "bad-ticket"},
		{"foreign ticket", func(_ *raw, h *v1.Hello) { h.Ticket = foreign }, region.Unauthenticated, "foreign-ticket"},
		{"ticket of another device", func(_ *raw, h *v1.Hello) { h.DeviceKeyId = make([]byte, 8) }, region.Unauthenticated, "foreign-device"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.raw(1_000_001)
			c.t = t
			before := r.count("homing_access_rejected_total", tt.reason)
			h := c.hello()
			tt.change(c, h)
			e := errorOf(t, c.response(c.send(wire.Hello, h)))
			if region.Kind(e.Code) != tt.kind || e.Message == "" {
				t.Errorf("error %v, want %v", e, tt.kind)
			}
			if tt.reason != "" && r.count("homing_access_rejected_total", tt.reason) != before+1 {
				t.Errorf("not counted as %q", tt.reason)
			}
			c.closed()
		})
	}
	bystander.works()
}

// A stolen ticket is worth nothing without the device's key.
func TestStolenTicket(t *testing.T) {
	r := newRig(t, nil)
	victim := r.raw(1_000_001)
	victim.login()
	_, thief, _ := ed25519.GenerateKey(nil)
	c := r.rawWith(r.dial(), victim.uin, thief, victim.tick)
	h := c.hello()
	id := wire.KeyID(victim.key.Public().(ed25519.PublicKey))
	h.DeviceKeyId = id[:]
	hr := new(v1.HelloReply)
	body(t, c.response(c.send(wire.Hello, h)), hr)
	e := errorOf(t, c.response(c.send(wire.Reauth, c.proof(hr))))
	if region.Kind(e.Code) != region.Unauthenticated || r.count("homing_access_rejected_total", "bad-proof") != 1 {
		t.Errorf("error %v", e)
	}
	c.closed()
	victim.works()
}

func TestNothingBeforeTheProof(t *testing.T) {
	r := newRig(t, nil)
	first := r.raw(1_000_001)
	e := errorOf(t, first.response(first.send(wire.Send, text(1, "m"))))
	if region.Kind(e.Code) != region.BadInput {
		t.Errorf("a Send before Hello: %v", e)
	}
	first.closed()
	second := r.raw(1_000_002)
	body(t, second.response(second.send(wire.Hello, second.hello())), new(v1.HelloReply))
	e = errorOf(t, second.response(second.send(wire.Sync, &v1.SyncRequest{})))
	if region.Kind(e.Code) != region.BadInput {
		t.Errorf("a Sync before the proof: %v", e)
	}
	second.closed()
	if users, _ := r.Online(); users != 0 {
		t.Errorf("%d users are online", users)
	}
}

func TestRedirectAndWorldHints(t *testing.T) {
	var asked core.Caller
	r := newRig(t, func(o *access.Options) {
		o.Redirect = func(s region.Service, c core.Caller) []netip.AddrPort {
			asked = c
			return []netip.AddrPort{addr("127.9.0.1:1"), addr("127.9.0.2:1")}
		}
	})
	c := r.raw(2_000_001) // at home in hk
	f := c.response(c.send(wire.Hello, c.hello()))
	rd := new(v1.Redirect)
	if f.Method != wire.Redirect || wire.Unmarshal(f, rd) != nil {
		t.Fatalf("answered by %v", f.Method)
	}
	if rd.Home != "hk" || rd.Acting != "hk" || len(rd.Endpoints) != 2 || rd.Endpoints[0] != "127.9.0.1:1" || rd.WorldVersion != 5 {
		t.Errorf("redirect %v", rd)
	}
	if asked.UIN != 2_000_001 || asked.ClientVersion != 80003 || !asked.Address.IsLoopback() {
		t.Errorf("steering was asked for %+v", asked)
	}
	c.closed()

	// A region that is behind what the client has heard of asks it to try again,
	// and fetches the world.
	c = r.raw(2_000_001)
	h := c.hello()
	h.WorldVersion = 6
	e := errorOf(t, c.response(c.send(wire.Hello, h)))
	if region.Kind(e.Code) != region.Unavailable || !e.Retryable || e.RetryAfterMilli == 0 {
		t.Errorf("error %v", e)
	}
	if hints := r.world.Hints(); len(hints) != 1 || hints[0] != 6 {
		t.Errorf("hints %v", hints)
	}
	// And one that may not admit serves nobody.
	r.world.Refuse(region.Errorf(region.Unavailable, "alone"))
	c = r.raw(1_000_001)
	if e := errorOf(t, c.response(c.send(wire.Hello, c.hello()))); region.Kind(e.Code) != region.Unavailable {
		t.Errorf("error %v", e)
	}
}

// A connected client follows its owner when the world changes.
func TestWorldChangeSendsClientsAway(t *testing.T) {
	r := newRig(t, nil)
	stays, goes := r.raw(1_000_001), r.raw(2_000_001)
	sh, hk := accesstest.Place{ID: "sh"}, accesstest.Place{ID: "hk", Long: addr("127.2.0.1:7101")}
	acted := hk
	acted.ActedBy, acted.Failovers = "sh", 1
	r.world.Set(accesstest.View(6, sh, acted))
	stays.login()
	if hr := goes.login(); hr.Epoch.Counter != 1 {
		t.Errorf("epoch %v", hr.Epoch)
	}
	hk.Failovers = 2
	r.world.Set(accesstest.View(7, sh, hk))
	rd := new(v1.Redirect)
	body(t, goes.push(wire.Redirect), rd)
	if rd.Acting != "hk" || rd.WorldVersion != 7 || rd.Epoch.Counter != 2 || len(rd.Endpoints) != 1 || rd.Endpoints[0] != "127.2.0.1:7101" {
		t.Errorf("redirect %v", rd)
	}
	goes.closed()
	stays.works()
	eventually(t, "one user online", func() bool { u, _ := r.Online(); return u == 1 })
}

// Sends of a connection are executed in order, whatever else runs beside them.
func TestSendsStayInOrder(t *testing.T) {
	r := newRig(t, nil)
	hold := make(chan struct{})
	r.logic.OnSend = func(ctx context.Context, _ core.Caller, q *v1.SendRequest) error {
		if q.ClientMessageId == "m-00" {
			<-hold
		}
		return nil
	}
	c := r.raw(1_000_001)
	c.login()
	const n = 30
	for i := range n {
		c.send(wire.Send, text(c.uin, fmt.Sprintf("m-%02d", i)))
	}
	// The first Send hangs, and a Sync does not.
	body(t, c.response(c.send(wire.Sync, &v1.SyncRequest{})), new(v1.SyncResponse))
	close(hold)
	for range n {
		for f := c.next(); f.Method != wire.Send; f = c.next() {
		}
	}
	for i, m := range r.users.Inbox(c.uin) {
		if m.ClientMessageId != fmt.Sprintf("m-%02d", i) {
			t.Fatalf("message %d is %s", i, m.ClientMessageId)
		}
	}
}

// At most MaxInFlight requests of one connection are worked on, and who floods
// harms nobody else.
func TestInFlightIsBounded(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.MaxInFlight = 3 })
	entered, hold := make(chan struct{}, 100), make(chan struct{})
	r.logic.OnSync = func(_ context.Context, c core.Caller) {
		if c.UIN == 1_000_001 {
			entered <- struct{}{}
			<-hold
		}
	}
	c, other := r.raw(1_000_001), r.raw(1_000_002)
	c.login()
	other.login()
	for range 10 {
		c.send(wire.Sync, &v1.SyncRequest{})
	}
	for range 3 {
		<-entered
	}
	body(t, other.response(other.send(wire.Sync, &v1.SyncRequest{})), new(v1.SyncResponse))
	other.works()
	select {
	case <-entered:
		t.Error("a fourth request is worked on")
	default:
	}
	close(hold)
	for range 10 {
		body(t, c.next(), new(v1.SyncResponse))
	}
}

func TestReconnectDisplaces(t *testing.T) {
	r := newRig(t, nil)
	old := r.raw(1_000_001)
	old.login()
	again := r.rawWith(r.dial(), old.uin, old.key, old.tick)
	again.conn = old.conn
	again.login()
	old.closed()
	second := r.rawWith(r.dial(), old.uin, old.key, old.tick) // another app instance
	second.login()
	eventually(t, "one user on two connections", func() bool { u, c := r.Online(); return u == 1 && c == 2 })
	again.works()
	second.push(wire.Notice)
}

// The server asks for a new ticket in time, and ends the connection when none
// comes.
func TestTicketExpiry(t *testing.T) {
	r := newRig(t, nil)
	renews, lapses := r.raw(1_000_001), r.raw(1_000_002)
	renews.tick, lapses.tick = r.users.Issue(renews.uin, 1500*time.Millisecond), r.users.Issue(lapses.uin, 1500*time.Millisecond)
	hr := renews.login()
	lapses.login()
	ask := new(v1.Reauth)
	body(t, renews.push(wire.Reauth), ask)
	wrong := &v1.Reauth{Nonce: ask.Nonce, Ticket: renews.tick, Signature: make([]byte, 64)}
	if e := errorOf(t, renews.response(renews.send(wire.Reauth, wrong))); region.Kind(e.Code) != region.Unauthenticated {
		t.Errorf("a wrong proof: %v", e)
	}
	right := renews.proof(&v1.HelloReply{Nonce: ask.Nonce, Region: hr.Region, Epoch: hr.Epoch})
	right.Ticket = r.users.Issue(renews.uin, time.Hour)
	rr := new(v1.ReauthReply)
	body(t, renews.response(renews.send(wire.Reauth, right)), rr)
	if left := time.Until(time.Unix(rr.TicketExpiresUnix, 0)); left < 50*time.Minute {
		t.Errorf("the new ticket has %s", left)
	}
	e := errorOf(t, lapses.push(wire.GoAway))
	if region.Kind(e.Code) != region.Unauthenticated {
		t.Errorf("a ticket that lapsed: %v", e)
	}
	lapses.closed()
	renews.works()
}

func TestDrain(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.Drain = 2 * time.Second })
	obedient := r.raw(1_000_001)
	obedient.login()
	done := make(chan error, 1)
	go func() { done <- r.Close(context.Background()) }()
	g := new(v1.GoAway)
	body(t, obedient.push(wire.GoAway), g)
	if g.DelayMilli != 2000 || g.Reason == "" {
		t.Errorf("GoAway %v", g)
	}
	obedient.works() // while draining
	started := time.Now()
	_ = obedient.nc.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if d := time.Since(started); d > time.Second {
		t.Errorf("close took %s after the last client went", d)
	}
	if _, err := net.Dial("tcp", r.Addr(region.Long).String()); err == nil {
		t.Error("the listener is still open")
	}
}

func TestPlainTextOnlyOnLoopback(t *testing.T) {
	p, _ := access.NewPresence(nil)
	_, err := access.New(access.Options{Region: "sh", World: accesstest.NewWorld(), Logic: &accesstest.Logic{}, Presence: p, Long: "0.0.0.0:0"})
	if err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("error %v", err)
	}
}

func TestProxyHeader(t *testing.T) {
	from := make(chan netip.Addr, 1)
	record := func(_ context.Context, c core.Caller, _ *v1.SendRequest) error {
		from <- c.Address
		return nil
	}
	proxied := func(r *rig) *raw {
		c := r.raw(1_000_001)
		if _, err := c.nc.Write([]byte("PROXY TCP4 223.5.5.5 127.0.0.1 4321 7101\r\n")); err != nil {
			t.Fatal(err)
		}
		return c
	}
	trusting := newRig(t, func(o *access.Options) { o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	trusting.logic.OnSend = record
	c := proxied(trusting)
	c.login()
	c.works()
	if a := <-from; a.String() != "223.5.5.5" {
		t.Errorf("the caller is at %s", a)
	}
	direct := trusting.raw(1_000_002)
	direct.login()
	direct.works()
	if a := <-from; !a.IsLoopback() {
		t.Errorf("without a header the caller is at %s", a)
	}

	// A POP says its name, and the client learns it.
	h := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.IPv4(8, 8, 8, 8), Port: 1}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2})
	if err := h.SetTLVs([]proxyproto.TLV{{Type: 0xE0, Value: []byte("pop-1")}}); err != nil {
		t.Fatal(err)
	}
	c = trusting.raw(1_000_003)
	if _, err := h.WriteTo(c.nc); err != nil {
		t.Fatal(err)
	}
	if hr := c.login(); hr.Pop != "pop-1" {
		t.Errorf("HelloReply %v", hr)
	}

	wary := newRig(t, nil)
	c = proxied(wary)
	_, _ = c.nc.Write(bytes.Repeat([]byte{0}, 16))
	c.closed()
	eventually(t, "a header from nobody trusted is counted", func() bool { return wary.count("homing_access_rejected_total", "proxy-header") == 1 })
}
