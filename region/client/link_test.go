package client_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Frames that are written together are answered over a Link, and what the region
// pushes arrives on it.
func TestLink(t *testing.T) {
	r := newRig(t)
	key, ticket := r.users.Add(1_000_001)
	o := client.LinkOptions{Identity: client.Identity{UIN: 1_000_001, Key: key, Ticket: ticket}, Zone: "demo.test", RootCAs: r.pool}
	l, err := client.DialLink(within(t), r.sh.long(), o)
	if err != nil {
		t.Fatal(err)
	}
	if l.Region != "sh" || l.World != 1 || l.Heartbeat < time.Second || l.Expires.Before(time.Now()) {
		t.Errorf("linked to %s at world %d, heartbeat %s, ticket until %s", l.Region, l.World, l.Heartbeat, l.Expires)
	}
	var frames []byte
	const first, second = 3, 4
	for i, q := range []*v1.SendRequest{text(1_000_001, "a", "to myself"), {To: 1_000_001}} {
		if frames, err = wire.AppendMessage(frames, wire.Send, 0, first+uint64(i), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Write(frames); err != nil {
		t.Fatal(err)
	}
	answered, pushed := map[uint64]error{}, false
	for len(answered) < 2 || !pushed {
		f, err := l.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case f.Is(wire.FlagResponse):
			answered[f.Sequence] = client.ErrorOf(f)
		case f.Method == wire.Notice:
			pushed = true
		}
	}
	if answered[first] != nil || region.KindOf(answered[second]) != region.BadInput {
		t.Errorf("answers: %v", answered)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Next(); err == nil {
		t.Error("a closed link had a frame")
	}
}

// What a Client would deal with by itself is the caller's here.
func TestLinkRefused(t *testing.T) {
	r := newRig(t)
	key, ticket := r.users.Add(1_000_001)
	id := client.Identity{UIN: 1_000_001, Key: key, Ticket: ticket}
	stale := id
	stale.Ticket = "nonsense"
	nobody := netip.MustParseAddrPort("127.0.0.1:1")
	for name, c := range map[string]struct {
		id   client.Identity
		at   netip.AddrPort
		want region.Kind
	}{
		"another region's user": {id, r.hk.long(), region.WrongRegion},
		"no good ticket":        {stale, r.sh.long(), region.Unauthenticated},
		"nobody listens":        {id, nobody, region.Unavailable},
		"no user":               {client.Identity{}, r.sh.long(), region.BadInput},
	} {
		l, err := client.DialLink(within(t), c.at, client.LinkOptions{Identity: c.id, Zone: "demo.test", RootCAs: r.pool})
		if err == nil {
			_ = l.Close()
		}
		if region.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if to := wire.RedirectOf(err); (to != nil) != (c.want == region.WrongRegion) || to != nil && to.Acting != "sh" {
			t.Errorf("%s: the redirect is %v", name, to)
		}
	}
}
