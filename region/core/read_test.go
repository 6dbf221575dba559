package core

import (
	"fmt"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// A position set on one device reaches the others, in pages of any size, and
// never goes back.
func TestReadPositions(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob, carol := u.register("sh", "Alice"), u.register("hk", "Bob"), u.register("sh", "Carol")
	pad := u.second(alice, "pad")
	for i := range 3 {
		u.send(bob, alice.UIN, fmt.Sprint(i), fmt.Sprint("text ", i))
	}
	u.eventually("delivery", func() error { return u.has(alice, "text 0", "text 1", "text 2") })
	c := u.core("sh")
	set := func(by *user, peer region.UIN, sequence uint64) (uint64, error) {
		r, err := c.SetRead(ctx, by.Caller, &v1.SetReadRequest{Peer: uint64(peer), Sequence: sequence, IdempotencyKey: "k"})
		return r.GetSequence(), err
	}
	snapshot := u.synced(pad)
	for _, tt := range []struct{ ask, want uint64 }{{2, 2}, {3, 3}, {3, 3}, {1, 3}} {
		if got, err := set(alice, bob.UIN, tt.ask); err != nil || got != tt.want {
			t.Fatalf("asked %d: %d, %v", tt.ask, got, err)
		}
	}
	if _, err := set(alice, carol.UIN, 1); err != nil {
		t.Fatal(err)
	}
	got := map[uint64]uint64{}
	pages := 0
	for more := true; more; pages++ {
		r, err := c.Sync(ctx, pad.Caller, &v1.SyncRequest{Snapshot: snapshot, MaxBytes: 1})
		must(t, err)
		for _, k := range r.Reads {
			got[k.Peer] = k.Sequence
		}
		snapshot, more = r.Snapshot, r.More
	}
	if len(got) != 2 || got[uint64(bob.UIN)] != 3 || got[uint64(carol.UIN)] != 1 || pages != 2 {
		t.Errorf("%v in %d pages", got, pages)
	}
	if r, err := c.Sync(ctx, pad.Caller, &v1.SyncRequest{Snapshot: snapshot}); err != nil || len(r.Reads) != 0 {
		t.Error(r, err)
	}
	for want, f := range map[region.Kind]func() error{
		region.BadInput:        func() error { _, err := set(alice, bob.UIN, 99); return err },
		region.NotFound:        func() error { _, err := set(alice, 1_900_000, 1); return err },
		region.Unauthenticated: func() error { _, err := set(&user{}, bob.UIN, 1); return err },
		region.WrongRegion:     func() error { _, err := set(bob, alice.UIN, 1); return err },
	} {
		wantKind(t, f(), want)
	}
}
