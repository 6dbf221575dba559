package access_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/homing-im/homing/region/access"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// The interval is the carrier's, by the address that a proxy gives, and every
// heartbeat says it again.
func TestHeartbeatOfTheCarrier(t *testing.T) {
	r := newRig(t, func(o *access.Options) {
		o.Heartbeat = 100 * time.Second
		o.Heartbeats = map[string]time.Duration{"mobile": 7 * time.Second}
		o.Carrier = func(a netip.Addr) string {
			if a == netip.MustParseAddr("198.51.100.7") {
				return "mobile"
			}
			return "other"
		}
		o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	for from, want := range map[string]uint32{"": 100, "PROXY TCP4 198.51.100.7 127.0.0.1 1 2\r\n": 7, "PROXY TCP4 198.51.100.8 127.0.0.1 1 2\r\n": 100} {
		key, ticket := r.users.Add(1_000_001)
		nc := r.dial()
		if _, err := nc.Write([]byte(from)); err != nil {
			t.Fatal(err)
		}
		c := r.rawWith(nc, 1_000_001, key, ticket)
		reply := new(v1.ReauthReply)
		body(t, c.response(c.send(wire.Reauth, c.proof(c.helloReply()))), reply)
		beat := new(v1.HeartbeatReply)
		body(t, c.response(c.send(wire.Heartbeat, &v1.Heartbeat{})), beat)
		if reply.HeartbeatSeconds != want || beat.HeartbeatSeconds != want {
			t.Errorf("%q: %d and %d s, want %d", from, reply.HeartbeatSeconds, beat.HeartbeatSeconds, want)
		}
	}
}

func TestBadHeartbeats(t *testing.T) {
	for what, o := range map[string]access.Options{
		"not whole":     {Heartbeat: 1500 * time.Millisecond},
		"carrier":       {Heartbeats: map[string]time.Duration{"x": 1500 * time.Millisecond}, Carrier: func(netip.Addr) string { return "" }},
		"zero":          {Heartbeats: map[string]time.Duration{"x": 0}, Carrier: func(netip.Addr) string { return "" }},
		"nobody to ask": {Heartbeats: map[string]time.Duration{"x": time.Second}},
	} {
		r := newRig(t, nil)
		o.Region, o.World, o.Logic, o.Presence = "sh", r.world, r.logic, r.presence
		if s, err := access.New(o); err == nil {
			t.Errorf("%s: no error, %v", what, s)
		}
	}
}
