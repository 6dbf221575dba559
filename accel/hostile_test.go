package accel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

func TestBadHellos(t *testing.T) {
	sh := newPlace(t, "sh", false, welcoming(t, "sh"))
	r := newRig(t, false, world(3, nil, sh), nil)
	garbage := append(wire.Header{Length: 4, Method: wire.Hello, Sequence: 42}.Append(nil), 0xff, 0xff, 0xff, 0xff)
	beat, err := wire.AppendMessage(nil, wire.Heartbeat, 0, 42, &v1.Heartbeat{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  region.Kind
	}{
		"unknown UIN":   {helloFrame(5), region.NotFound},
		"no UIN":        {helloFrame(0), region.BadInput},
		"garbage body":  {garbage, region.BadInput},
		"another frame": {beat, region.BadInput},
		"large":         {wire.Header{Length: MaxHello + 1, Method: wire.Hello, Sequence: 42}.Append(nil), region.TooLarge},
		"giant":         {bytes.Repeat([]byte{0xff}, 16), region.TooLarge},
		"HTTP":          {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), region.TooLarge},
		"unknown flags": {wire.Header{Method: wire.Hello, Flags: 1 << 9, Sequence: 42}.Append(nil), region.BadInput},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.dial()
			p.write(c.bytes)
			f := p.next()
			var e v1.Error
			if !f.Is(wire.FlagResponse|wire.FlagError) || f.Method != wire.Hello || wire.Unmarshal(f, &e) != nil || region.Kind(e.Code) != c.want {
				t.Fatalf("got %s %v, want %v", f.Method, &e, c.want)
			}
			if want := binary.BigEndian.Uint64(c.bytes[8:]); f.Sequence != want {
				t.Errorf("reply to sequence %d, want %d", f.Sequence, want)
			}
			if !p.over() {
				t.Error("the connection goes on")
			}
		})
	}
	if n := r.counter("homing_pop_rejected_total", "bad-hello"); n != 7 {
		t.Errorf("%g bad HELLOs were counted, want 7", n)
	}
	if n := r.counter("homing_pop_rejected_total", "not-found"); n != 1 {
		t.Errorf("%g unknown UINs were counted, want 1", n)
	}
	if sh.hellos.Load() != 0 {
		t.Error("a bad HELLO reached a region")
	}
	if name, e := r.dial().hello(1000001); name != "sh" { // nobody else is affected
		t.Errorf("afterwards: %q, %v", name, e)
	}
}

func TestGarbageInsteadOfTLS(t *testing.T) {
	sh := newPlace(t, "sh", true, welcoming(t, "sh"))
	r := newRig(t, true, world(3, nil, sh), nil)
	addr, _ := r.Addr(region.Long)
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(helloFrame(1000001)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, c)
	eventually(t, "it is counted", func() bool { return r.counter("homing_pop_rejected_total", "bad-tls") == 1 })
}

// TestSlowloris: clients that send a byte now and then, or nothing, are cut off
// when their time is up, whatever they do.
func TestSlowloris(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			sh := newPlace(t, "sh", secure, welcoming(t, "sh"))
			r := newRig(t, secure, world(3, nil, sh), func(o *Options) { o.Handshake = 150 * time.Millisecond })
			addr, _ := r.Addr(region.Long)
			silent, err := net.Dial("tcp", addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = silent.Close() }()
			dripping := r.dial()
			start := time.Now()
			for _, b := range helloFrame(1000001) {
				if _, err := dripping.Write([]byte{b}); err != nil {
					break
				}
				time.Sleep(5 * time.Millisecond) // the attack itself
			}
			_ = silent.SetReadDeadline(time.Now().Add(patience))
			if _, err := silent.Read(make([]byte, 1)); errors.Is(err, context.DeadlineExceeded) {
				t.Error("a silent client was never cut off")
			}
			if !dripping.over() || time.Since(start) > 5*time.Second {
				t.Errorf("a dripping client held on for %s", time.Since(start))
			}
			eventually(t, "both are counted and gone", func() bool {
				return r.counter("homing_pop_rejected_total", "slow-hello")+r.counter("homing_pop_rejected_total", "slow-tls") == 2 && r.Status().Connections.All == 0
			})
			if sh.hellos.Load() != 0 {
				t.Error("a slow HELLO reached a region")
			}
		})
	}
}

func TestConnectionLimits(t *testing.T) {
	sh := newPlace(t, "sh", false, welcoming(t, "sh"))
	for name, change := range map[string]func(*Options){
		"max-per-address": func(o *Options) { o.MaxPerAddress = 2 },
		"max-connections": func(o *Options) { o.MaxConnections = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false, world(3, nil, sh), change)
			a, b := r.dial(), r.dial()
			a.hello(1000001)
			b.hello(1000001)
			eventually(t, "both are in the books", func() bool { s := r.Status(); return s.Users == 1 && s.Connections.Long == 2 })
			if !r.dial().over() {
				t.Error("a third one was let in")
			}
			if r.counter("homing_pop_rejected_total", name) != 1 {
				t.Error("it was not counted")
			}
			a.beat(1)
			_ = a.Close()
			eventually(t, "there is room again", func() bool { return r.Status().Connections.All == 1 })
			if got, e := r.dial().hello(1000002); got != "sh" {
				t.Errorf("with room again: %q, %v", got, e)
			}
		})
	}
}

func TestAddressBuckets(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := bucketOf(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s counts for %s, want %s", in, got, want)
		}
	}
}

func FuzzHello(f *testing.F) {
	f.Add(helloFrame(1000001))
	f.Add(helloFrame(0))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(bytes.Repeat([]byte{0xff}, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := readHello(r)
		if err == nil {
			if h.uin() == 0 || len(h.bytes) > wire.HeaderSize+MaxHello || !bytes.HasPrefix(b, h.bytes) || r.Len() != len(b)-len(h.bytes) {
				t.Fatalf("accepted %+v of % x", h, b)
			}
			return
		}
		if e := (*region.Error)(nil); errors.As(err, &e) {
			reply := h.refusal(err, 1)
			if _, _, err := readFrame(bytes.NewReader(reply), wire.MaxBody); err != nil {
				t.Fatalf("the refusal is no frame: %v", err)
			}
		}
	})
}

// FuzzReply: whatever a region answers, the POP makes a redirect of it or passes
// it on.
func FuzzReply(f *testing.F) {
	d, _ := wire.AppendMessage(nil, wire.Redirect, wire.FlagResponse, 1, &v1.Redirect{Acting: "hk"})
	f.Add(d)
	f.Add(helloFrame(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		header, reply, err := readFrame(bytes.NewReader(b), wire.MaxBody)
		if err == nil {
			_ = redirectOf(header, reply)
		}
	})
}
