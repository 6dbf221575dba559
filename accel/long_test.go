package accel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

func TestAClientIsBroughtHome(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan *arrival, 1)
			hk := newPlace(t, "hk", secure, func(a *arrival) {
				arrived <- a
				a.welcome(t, "hk")
				a.echo(t)
			})
			sh := newPlace(t, "sh", secure, welcoming(t, "sh"))
			r := newRig(t, secure, world(3, nil, sh, hk), nil)
			c := r.dial()
			if got, e := c.hello(2000001); got != "hk" {
				t.Fatalf("welcomed by %q, %v", got, e)
			}
			a := <-arrived
			if a.from != c.local || a.pop != "pop-1" || secure && a.sni != "long.demo.test" {
				t.Errorf("region saw client %s (is %s), POP %q, server name %q", a.from, c.local, a.pop, a.sni)
			}
			again, err := wire.AppendFrame(nil, a.frame)
			if err != nil || !bytes.Equal(again, helloFrame(2000001)) {
				t.Error("HELLO was changed on the way")
			}
			for n := range uint64(100) {
				c.beat(n + 1)
			}
			s := r.Status()
			if s.Connections.Long != 1 || s.Users != 1 || s.Regions["hk"].Connections != 1 || s.World != 3 || s.Bytes.FromClients == 0 || s.Bytes.ToClients == 0 {
				t.Errorf("status %+v", s)
			}
			if sh.hellos.Load() != 0 {
				t.Error("sh was bothered")
			}
			_ = c.Close()
			eventually(t, "the books are empty", func() bool {
				s := r.Status()
				return s.Connections.Long == 0 && s.Users == 0 && s.Connections.All == 0
			})
		})
	}
}

// TestHalfClose: a client that has said its last word still gets the answers.
func TestHalfClose(t *testing.T) {
	sh := newPlace(t, "sh", false, func(a *arrival) {
		a.welcome(t, "sh")
		n, _ := io.Copy(io.Discard, a.Conn)
		a.send(t, wire.Heartbeat, wire.FlagResponse, uint64(n), &v1.HeartbeatReply{})
	})
	r := newRig(t, false, world(3, nil, sh), nil)
	c := r.dial()
	c.hello(1000001)
	c.write(make([]byte, 160))
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if f := c.next(); f.Sequence != 160 {
		t.Errorf("region saw %d bytes before the half-close, want 160", f.Sequence)
	}
	if !c.over() {
		t.Error("the connection goes on")
	}
}

func redirecting(t *testing.T, to string, version uint64, asError bool, endpoints ...string) func(*arrival) {
	return func(a *arrival) {
		d := &v1.Redirect{Home: "sh", Acting: to, WorldVersion: version, Endpoints: endpoints}
		if asError {
			e := wire.ToProto(&wire.Error{Err: region.Errorf(region.WrongRegion, "not here"), Redirect: d}, version)
			a.send(t, wire.Hello, wire.ErrorFlags(e), a.frame.Sequence, e)
			return
		}
		a.send(t, wire.Redirect, wire.FlagResponse, a.frame.Sequence, d)
	}
}

// TestRedirectIsFollowed: the client sees the region that acts and nothing of the
// one this POP's stale world named; the address in the redirect is not dialled.
func TestRedirectIsFollowed(t *testing.T) {
	for name, asError := range map[string]bool{"method": false, "error": true} {
		t.Run(name, func(t *testing.T) {
			trap := newPlace(t, "trap", false, func(*arrival) { t.Error("the POP trusted an unverified address") })
			hk := newPlace(t, "hk", false, welcoming(t, "hk"))
			sh := newPlace(t, "sh", false, redirecting(t, "hk", 3, asError, trap.addr().String()))
			r := newRig(t, false, world(3, nil, sh, hk), nil)
			c := r.dial()
			if got, e := c.hello(1000001); got != "hk" {
				t.Fatalf("welcomed by %q, %v", got, e)
			}
			c.beat(1)
			if sh.hellos.Load() != 1 || hk.hellos.Load() != 1 || r.counter("homing_pop_redirects_followed_total") != 1 {
				t.Errorf("%d, %d HELLOs, %g redirects", sh.hellos.Load(), hk.hellos.Load(), r.counter("homing_pop_redirects_followed_total"))
			}
		})
	}
}

// TestRedirectToANewWorld: the redirect names a region the POP has never heard
// of; it asks for the world and waits for it.
func TestRedirectToANewWorld(t *testing.T) {
	ca := newPlace(t, "ca", false, welcoming(t, "ca"))
	sh := newPlace(t, "sh", false, redirecting(t, "ca", 4, false))
	r := newRig(t, false, world(3, nil, sh), nil)
	c := r.dial()
	c.write(helloFrame(1000001))
	eventually(t, "the POP asks for world 4", func() bool { return r.stage.hint.Load() == 4 })
	r.stage.set(world(4, nil, sh, ca))
	if got, e := c.welcomed(); got != "ca" {
		t.Fatalf("welcomed by %q, %v", got, e)
	}
}

func TestRedirectsThatLeadNowhere(t *testing.T) {
	for name, c := range map[string]struct {
		sh, hk string
	}{
		"in circles": {"hk", "sh"}, "to itself": {"sh", "sh"}, "to nobody": {"xx", "xx"}, "to nothing": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			sh := newPlace(t, "sh", false, redirecting(t, c.sh, 3, false))
			hk := newPlace(t, "hk", false, redirecting(t, c.hk, 3, false))
			r := newRig(t, false, world(3, nil, sh, hk), func(o *Options) { o.Connect = time.Second })
			p := r.dial()
			_, e := p.hello(1000001)
			if e == nil || region.Kind(e.Code) != region.Unavailable || !e.Retryable || e.Hint == "" {
				t.Fatalf("got %v", e)
			}
			if n := sh.hellos.Load() + hk.hellos.Load(); n > 2*attempts {
				t.Errorf("%d HELLOs were sent", n)
			}
			if !p.over() {
				t.Error("the connection goes on")
			}
		})
	}
}

// TestRegionComesBack: the acting region is dead at first; the world changes while
// the POP keeps trying.
func TestRegionComesBack(t *testing.T) {
	sh := newPlace(t, "sh", false, welcoming(t, "sh"))
	hk := newPlace(t, "hk", false, welcoming(t, "hk"))
	sh.close()
	r := newRig(t, false, world(3, nil, sh, hk), nil)
	c := r.dial()
	c.write(helloFrame(1000001))
	eventually(t, "the POP has failed once", func() bool { return r.counter("homing_pop_upstream_failures_total", "sh") > 0 })
	r.stage.set(world(4, map[region.ID]region.ID{"sh": "hk"}, sh, hk))
	if got, e := c.welcomed(); got != "hk" {
		t.Fatalf("welcomed by %q, %v", got, e)
	}
	if id, err := r.Choose(1000001); id != "hk" || err != nil {
		t.Errorf("Choose: %q, %v", id, err)
	}
}

func TestRegionUnreachable(t *testing.T) {
	sh := newPlace(t, "sh", false, welcoming(t, "sh"))
	sh.close()
	r := newRig(t, false, world(3, nil, sh), nil)
	_, e := r.dial().hello(1000001)
	if e == nil || region.Kind(e.Code) != region.Unavailable || !e.Retryable || e.Hint == "" || e.WorldVersion != 3 {
		t.Fatalf("got %v", e)
	}
	if n := r.counter("homing_pop_upstream_failures_total", "sh"); n != attempts {
		t.Errorf("%g attempts, want %d", n, attempts)
	}
}

// TestRegionIsLost: the region dies under a connection; the client is told to
// come back, between two frames.
func TestRegionIsLost(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			kill := make(chan struct{})
			sh := newPlace(t, "sh", secure, func(a *arrival) {
				a.welcome(t, "sh")
				<-kill
			})
			r := newRig(t, secure, world(3, nil, sh), nil)
			c := r.dial()
			c.hello(1000001)
			close(kill)
			f := c.next()
			var g v1.GoAway
			if f.Method != wire.GoAway || !f.Is(wire.FlagPush) || wire.Unmarshal(f, &g) != nil || g.DelayMilli < 50 || g.DelayMilli > 101 || g.Reason == "" {
				t.Fatalf("got %s %+v", f.Method, &g)
			}
			if !c.over() {
				t.Error("the connection goes on")
			}
		})
	}
}

func TestRegionLostInsideAFrame(t *testing.T) {
	sh := newPlace(t, "sh", false, func(a *arrival) {
		a.welcome(t, "sh")
		b := wire.Header{Length: 100, Method: wire.Notice, Flags: wire.FlagPush}.Append(nil)
		_, _ = a.Write(append(b, "half a frame"...))
	})
	r := newRig(t, false, world(3, nil, sh), nil)
	c := r.dial()
	c.hello(1000001)
	if _, err := c.reader.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("want the frame to stay cut off, got %v", err)
	}
}

// TestRegionsLastWordStands: a region that says GOAWAY or refuses HELLO itself is
// not spoken over.
func TestRegionsLastWordStands(t *testing.T) {
	sh := newPlace(t, "sh", false, func(a *arrival) {
		a.welcome(t, "sh")
		a.send(t, wire.GoAway, wire.FlagPush, 0, &v1.GoAway{DelayMilli: 7})
	})
	hk := newPlace(t, "hk", false, func(a *arrival) {
		e := wire.ToProto(region.Errorf(region.Unauthenticated, "expired"), 3)
		a.send(t, wire.Hello, wire.ErrorFlags(e), a.frame.Sequence, e)
	})
	r := newRig(t, false, world(3, nil, sh, hk), nil)
	c := r.dial()
	c.hello(1000001)
	if f := c.next(); f.Method != wire.GoAway || !c.over() {
		t.Errorf("got %s", f.Method)
	}
	c = r.dial()
	if _, e := c.hello(2000001); e == nil || region.Kind(e.Code) != region.Unauthenticated || !c.over() {
		t.Errorf("got %v", e)
	}
}

func TestClientKnowsANewerWorld(t *testing.T) {
	sh := newPlace(t, "sh", false, welcoming(t, "sh"))
	r := newRig(t, false, world(3, nil, sh), nil)
	b, err := wire.AppendMessage(nil, wire.Hello, 0, 42, &v1.Hello{WireVersion: 1, Uin: 1000001, WorldVersion: 9})
	if err != nil {
		t.Fatal(err)
	}
	c := r.dial()
	c.write(b)
	if got, e := c.welcomed(); got != "sh" || r.stage.hint.Load() != 9 {
		t.Errorf("welcomed by %q, %v; hint %d", got, e, r.stage.hint.Load())
	}
}

func TestNoWorldYet(t *testing.T) {
	r := newRig(t, false, nil, func(o *Options) { o.Connect = 100 * time.Millisecond })
	_, e := r.dial().hello(1000001)
	if e == nil || region.Kind(e.Code) != region.Unavailable || !e.Retryable {
		t.Errorf("got %v", e)
	}
	if _, err := r.Choose(1000001); region.KindOf(err) != region.Unavailable {
		t.Errorf("Choose: %v", err)
	}
}

func TestDrain(t *testing.T) {
	sh := newPlace(t, "sh", false, welcoming(t, "sh"))
	r := newRig(t, false, world(3, nil, sh), func(o *Options) { o.DrainSpread = 200 * time.Millisecond })
	var clients []*phone
	for n := range uint64(20) {
		c := r.dial()
		c.hello(1000001 + n)
		clients = append(clients, c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Drain(ctx); !errors.Is(err, context.Canceled) || !r.Status().Draining || r.Status().Drained {
		t.Fatalf("drain without time: %v, %+v", err, r.Status())
	}
	drained := make(chan error, 1)
	go func() { drained <- r.Drain(t.Context()) }()
	addr, _ := r.Addr(region.Long)
	eventually(t, "no new client is let in", func() bool {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	delays := map[uint32]bool{}
	for i, c := range clients {
		f := c.next()
		var g v1.GoAway
		if f.Method != wire.GoAway || wire.Unmarshal(f, &g) != nil || g.DelayMilli < 100 || g.DelayMilli > 201 {
			t.Fatalf("client %d got %s %v", i, f.Method, &g)
		}
		delays[g.DelayMilli] = true
	}
	if len(delays) < 5 {
		t.Errorf("delays are not spread: %v", delays)
	}
	for len(clients) > 0 {
		select {
		case err := <-drained:
			t.Fatalf("drained with %d clients left: %v", len(clients), err)
		default:
		}
		if f, err := readBeat(clients[0]); err != nil || f.Method != wire.Heartbeat && f.Method != wire.GoAway { // served until it goes
			t.Fatalf("a client that stays: %v, %v", f, err)
		}
		_ = clients[0].Close()
		clients = clients[1:]
	}
	if err := <-drained; err != nil || !r.Status().Drained {
		t.Errorf("drained: %v, %+v", err, r.Status())
	}
}

func readBeat(c *phone) (wire.Frame, error) {
	b, err := wire.AppendMessage(nil, wire.Heartbeat, 0, 9, &v1.Heartbeat{WorldVersion: 9})
	if err != nil {
		return wire.Frame{}, err
	}
	if _, err := c.Write(b); err != nil {
		return wire.Frame{}, err
	}
	return c.reader.Next()
}

// TestCloseEndsEverything: clients in all states; goleak sees what is left.
func TestCloseEndsEverything(t *testing.T) {
	sh := newPlace(t, "sh", false, welcoming(t, "sh"))
	hang := make(chan struct{})
	hk := newPlace(t, "hk", false, func(*arrival) { <-hang }) // never answers HELLO
	defer close(hang)
	r := newRig(t, false, world(3, nil, sh, hk), nil)
	relayed, opening, silent := r.dial(), r.dial(), r.dial()
	relayed.hello(1000001)
	opening.write(helloFrame(2000001))
	eventually(t, "both long ones are under way", func() bool { return hk.hellos.Load() == 1 && r.Status().Connections.Opening == 2 })
	start := time.Now()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("Close took %s", d)
	}
	for _, c := range []*phone{relayed, opening, silent} {
		if _, err := io.Copy(io.Discard, c.Conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
	}
}

func TestProbes(t *testing.T) {
	sh := newPlace(t, "sh", true, welcoming(t, "sh"))
	hk := newPlace(t, "hk", true, welcoming(t, "hk"))
	hk.close()
	r := newRig(t, true, world(3, nil, sh, hk), func(o *Options) { o.Probe = 10 * time.Millisecond })
	eventually(t, "sh is measured and hk is not", func() bool {
		s := r.Status()
		return sh.probed.Load() > 2 && s.Regions["sh"].Up && s.Regions["sh"].RTTMilli > 0 && !s.Regions["hk"].Up && s.Regions["hk"].Error != ""
	})
	if r.counter("homing_pop_region_reachable", "sh") != 1 || r.counter("homing_pop_region_rtt_seconds", "sh") <= 0 {
		t.Error("the metrics do not say so")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	s := &stage{changed: make(chan struct{})}
	for name, o := range map[string]Options{
		"no ID":               {World: s},
		"no world":            {ID: "pop-1"},
		"not an address":      {ID: "pop-1", World: s, Long: "localhost:1"},
		"plain to everywhere": {ID: "pop-1", World: s, Long: "0.0.0.0:0"},
	} {
		if p, err := New(o); err == nil {
			_ = p.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := New(Options{ID: "pop-1", World: s, Long: "127.0.0.1:0", Web: l.Addr().String()}); err == nil || !strings.Contains(err.Error(), "web listener") {
		t.Errorf("a taken port: %v", err)
	}
}
