package access_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Clients that do everything wrong, on the real listener. After each, a
// bystander is still served.
func TestHostileClients(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.Handshake = 300 * time.Millisecond; o.Heartbeat = 60 * time.Second })
	bystander := r.raw(1_000_009)
	bystander.login()
	garbage := make([]byte, 64<<10)
	_, _ = rand.Read(garbage)
	head := func(length uint32, m wire.Method, f wire.Flags) []byte {
		return wire.Header{Length: length, Method: m, Flags: f, Sequence: 1}.Append(nil)
	}
	for _, tt := range []struct {
		name   string
		proven bool
		send   []byte
		metric string
		reason string
		told   region.Kind // of the GOAWAY, 0: none
	}{
		{"half a header", false, []byte{0, 0, 0}, "homing_access_rejected_total", "handshake-timeout", 0},
		{"half a hello", false, append(head(100, wire.Hello, 0), 1, 2, 3), "homing_access_rejected_total", "handshake-timeout", 0},
		{"silence", false, nil, "homing_access_rejected_total", "handshake-timeout", 0},
		{"giant length", false, head(1<<32-1, wire.Hello, 0), "homing_access_cut_off_total", "bad-frame", region.TooLarge},
		{"large hello", false, head(9<<10, wire.Hello, 0), "homing_access_cut_off_total", "bad-frame", region.TooLarge},
		{"HTTP", false, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "homing_access_cut_off_total", "bad-frame", region.TooLarge},
		{"response from a client", false, head(0, wire.Hello, wire.FlagResponse), "homing_access_cut_off_total", "bad-frame", region.BadInput},
		{"unknown flags", false, head(0, wire.Hello, 1<<12), "homing_access_cut_off_total", "bad-frame", region.BadInput},
		{"garbage in hello", false, append(head(8<<10, wire.Hello, 0), garbage[:8<<10]...), "homing_access_rejected_total", "bad-hello", 0},
		{"giant length after the proof", true, head(1<<21, wire.Send, 0), "homing_access_cut_off_total", "bad-frame", region.TooLarge},
		{"compressed after the proof", true, head(0, wire.Send, wire.FlagCompressed), "homing_access_cut_off_total", "bad-frame", region.Unsupported},
		{"push after the proof", true, head(0, wire.Notice, wire.FlagPush), "homing_access_cut_off_total", "bad-frame", region.BadInput},
		{"flood of unknown methods", true, bytes.Repeat(head(0, 999, 0), 10_000), "homing_access_cut_off_total", "bad-frames", region.BadInput},
		{"flood of wrong bodies", true, bytes.Repeat(append(head(3, wire.Send, 0), 0xff, 0xff, 0xff), 10_000), "homing_access_cut_off_total", "bad-frames", region.BadInput},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := r.count(tt.metric, tt.reason)
			c := r.raw(1_000_001)
			c.t = t
			if tt.proven {
				c.login()
			}
			_, _ = c.nc.Write(tt.send) // fails when the server has had enough
			var told region.Kind
			for {
				f, err := c.r.Next()
				if err != nil {
					if n, ok := err.(net.Error); ok && n.Timeout() {
						t.Fatal("the server does not close the connection")
					}
					break
				}
				if f.Method == wire.GoAway {
					told = region.Kind(errorOf(t, f).Code)
				}
			}
			// A client that still sends while the server closes may lose the last
			// words; the flooders do.
			if told != tt.told && len(tt.send) < 1<<10 {
				t.Errorf("told %v, want %v", told, tt.told)
			}
			eventually(t, "counted as "+tt.reason, func() bool { return r.count(tt.metric, tt.reason) > before })
			bystander.t = t
			bystander.works()
		})
	}
	eventually(t, "only the bystander is online", func() bool { _, c := r.Online(); return c == 1 })
}

// A client that sends a byte now and then is cut off in time, and many of them
// cost little.
func TestSlowloris(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.Handshake = 700 * time.Millisecond })
	bystander := r.raw(1_000_009)
	bystander.login()
	runtime.GC()
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 200
	conns := make([]net.Conn, n)
	hello, _ := wire.AppendMessage(nil, wire.Hello, 0, 1, &v1.Hello{WireVersion: 1, Ticket: string(bytes.Repeat([]byte{'x'}, 4000))})
	for i := range conns {
		conns[i] = r.dial()
		_, _ = conns[i].Write(hello[:20])
	}
	for i := 20; i < 40; i++ {
		for _, c := range conns {
			_, _ = c.Write(hello[i : i+1])
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&during)
	if per := (int64(during.HeapAlloc+during.StackInuse) - int64(before.HeapAlloc+before.StackInuse)) / n; per > 64<<10 {
		t.Errorf("%d bytes per slow client", per)
	}
	bystander.works()
	started := time.Now()
	for _, c := range conns {
		if _, err := io.Copy(io.Discard, c); err != nil {
			if nt, ok := err.(net.Error); ok && nt.Timeout() {
				t.Fatal("a slow client is never cut off")
			}
		}
	}
	if d := time.Since(started); d > 5*time.Second {
		t.Errorf("the last slow client was cut off after %s", d)
	}
	bystander.works()
}

// A client that does not read is cut off, and nobody waits for it.
func TestSlowReader(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.MaxQueue = 64 << 10; o.Write = 30 * time.Second })
	slow, witness := r.raw(1_000_001), r.raw(1_000_002)
	slow.login()
	witness.login()
	// Fill the socket, the queue, and then one more: so slowly that a client
	// that reads would not be cut off.
	big := text(1_000_001, "")
	big.Body.GetKind().(*v1.Body_Text).Text = string(bytes.Repeat([]byte{'x'}, 3<<10))
	started := time.Now()
	for i := 0; r.count("homing_access_cut_off_total", "slow") == 0; i++ {
		if time.Since(started) > 10*time.Second {
			t.Fatal("a client that does not read is never cut off")
		}
		r.logic.Notify(slow.uin, uint64(i), &v1.Message{Body: big.Body})
		if i%10 == 0 {
			witness.works()
		}
	}
	eventually(t, "the slow reader is gone", func() bool { u, _ := r.Online(); return u == 1 })
	witness.works()
	if r.count("homing_access_notices_total", "dropped") == 0 {
		t.Error("no dropped notice was counted")
	}
}

// What one request breaks is that request's alone.
func TestPanicIsContained(t *testing.T) {
	r := newRig(t, nil)
	c := r.raw(1_000_001)
	c.login()
	e := errorOf(t, c.response(c.send(wire.CreateGroup, &v1.CreateGroupRequest{Name: "panic"})))
	if region.Kind(e.Code) != region.Internal {
		t.Errorf("error %v", e)
	}
	c.works()
}

func TestConnectionsAreLimited(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.MaxConnections = 2 })
	a, b := r.raw(1_000_001), r.raw(1_000_002)
	a.login()
	b.login()
	r.raw(1_000_003).closed()
	if n := r.count("homing_access_rejected_total", "full"); n != 1 {
		t.Errorf("%v counted", n)
	}
	a.works()
}

func TestSilentClientsGo(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.Heartbeat = time.Second })
	c := r.raw(1_000_001)
	c.login()
	c.closed()
	eventually(t, "counted as idle", func() bool { return r.count("homing_access_cut_off_total", "idle") == 1 })
}

// A good Hello buys no more time: the proof has to come before the handshake's
// end.
func TestHelloWithoutProof(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.Handshake = 200 * time.Millisecond })
	c := r.raw(1_000_001)
	body(t, c.response(c.send(wire.Hello, c.hello())), new(v1.HelloReply))
	started := time.Now()
	c.closed()
	if d := time.Since(started); d > 3*time.Second {
		t.Errorf("cut off after %s", d)
	}
	eventually(t, "counted", func() bool { return r.count("homing_access_rejected_total", "handshake-timeout") == 1 })
}

// A handshake that somebody recorded, ticket and proof and all, is worth
// nothing on another connection: its nonce is another.
func TestReplayedHandshake(t *testing.T) {
	r := newRig(t, nil)
	honest := r.raw(1_000_001)
	proof := honest.proof(honest.helloReply())
	body(t, honest.response(honest.send(wire.Reauth, proof)), new(v1.ReauthReply))
	for range 3 {
		thief := r.rawWith(r.dial(), honest.uin, honest.key, honest.tick)
		thief.conn = honest.conn
		thief.helloReply()
		if e := errorOf(t, thief.response(thief.send(wire.Reauth, proof))); region.Kind(e.Code) != region.Unauthenticated {
			t.Errorf("a replayed proof is answered %v", e)
		}
		thief.closed()
	}
	if n := r.count("homing_access_rejected_total", "bad-proof"); n != 3 {
		t.Errorf("%v counted", n)
	}
	honest.works()
}

// A client that floods with good requests and reads no answer is held back, and
// then cut off: neither its requests nor its answers pile up.
func TestFloodWithoutReading(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.MaxQueue = 64 << 10; o.Write = time.Second })
	bystander, c := r.raw(1_000_009), r.raw(1_000_001)
	bystander.login()
	c.login()
	frame, err := wire.AppendMessage(nil, wire.Heartbeat, 0, 7, &v1.Heartbeat{})
	if err != nil {
		t.Fatal(err)
	}
	flood := bytes.Repeat(frame, 4<<10)
	runtime.GC()
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10_000 { // 700 MB, if they were taken
		if _, err := c.nc.Write(flood); err != nil {
			break
		}
		bystander.works()
	}
	runtime.GC()
	runtime.ReadMemStats(&during)
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d bytes for one flood", grown)
	}
	eventually(t, "counted as slow", func() bool { return r.count("homing_access_cut_off_total", "slow") == 1 })
	eventually(t, "only the bystander is online", func() bool { _, c := r.Online(); return c == 1 })
	bystander.works()
}

// Frames however they are cut, with silences in between, plain and over TLS,
// where the rest of a record may be in the library and not in the socket.
func TestFramesInPieces(t *testing.T) {
	serverTLS, pool := accesstest.Authority("long.demo.test")
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *access.Options) {
				if secure {
					o.TLS = serverTLS
				}
			})
			nc := r.dial()
			if secure {
				nc = tls.Client(nc, &tls.Config{ServerName: "long.demo.test", RootCAs: pool, MinVersion: tls.VersionTLS13})
			}
			key, ticket := r.users.Add(1_000_001)
			c := r.rawWith(nc, 1_000_001, key, ticket)
			c.login()
			var stream []byte
			const frames = 40
			for i := range frames {
				var err error
				if stream, err = wire.AppendMessage(stream, wire.Heartbeat, 0, uint64(100+i), &v1.Heartbeat{WorldVersion: uint64(i) << 40}); err != nil {
					t.Fatal(err)
				}
			}
			answered := make(chan uint64, frames)
			go func() {
				defer close(answered)
				for range frames {
					f, err := c.r.Next()
					if err != nil {
						return
					}
					answered <- f.Sequence
				}
			}()
			whole := len(stream) / frames
			for i, got := 0, 0; len(stream) > 0; i++ {
				n := min(len(stream), 1+i*7%(3*whole))
				if _, err := nc.Write(stream[:n]); err != nil {
					t.Fatal(err)
				}
				stream = stream[n:]
				// Every third time the server has to have answered all there is.
				for i%3 == 0 && got < frames-(len(stream)+whole-1)/whole {
					if want, is := uint64(100+got), <-answered; is != want {
						t.Fatalf("answer %d, want %d", is, want)
					}
					got++
				}
			}
			for range answered {
			}
			c.works()
		})
	}
}
