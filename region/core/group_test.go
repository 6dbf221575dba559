package core

import (
	"fmt"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func (u *universe) group(by *user, key string, members ...*user) region.UIN {
	u.t.Helper()
	r := &v1.CreateGroupRequest{Name: "group " + key, IdempotencyKey: key}
	for _, m := range members {
		r.Members = append(r.Members, uint64(m.UIN))
	}
	var resp *v1.CreateGroupResponse
	u.retry(func() (err error) {
		resp, err = u.core(by.region).CreateGroup(ctx, by.Caller, r)
		return err
	})
	return region.UIN(resp.Uin)
}

func TestGroupInThreeRegions(t *testing.T) {
	for name, e := range map[string]engine{"pebble": inPebble, "memory": inMemory} {
		t.Run(name, func(t *testing.T) { testGroupInThreeRegions(t, e) })
	}
}

func testGroupInThreeRegions(t *testing.T, e engine) {
	u := newUniverseWith(t, e, nil, "sh", "hk", "ca")
	alice, bob, carol := u.register("sh", "Alice"), u.register("hk", "Bob"), u.register("ca", "Carol")
	dave := u.register("hk", "Dave")
	u.eventually("accounts", func() error { // so that none is only presumed
		for _, who := range []*user{bob, carol, dave} {
			if a, _, err := u.core("sh").accountOf(ctx, who.UIN); err != nil || a == nil {
				return fmt.Errorf("%d: %v", who.UIN, err)
			}
		}
		return nil
	})
	g := u.group(alice, "g", bob, carol)
	if again := u.group(alice, "g", bob, carol); again != g {
		t.Fatalf("made twice: %d and %d", g, again)
	}
	u.send(alice, g, "a1", "from sh")
	for _, who := range []*user{alice, bob, carol} {
		u.eventually("the creation and a message", func() error { return u.has(who, "/group-created", "from sh") })
	}
	u.send(bob, g, "b1", "from hk")
	u.send(carol, g, "c1", "from ca")
	for _, who := range []*user{alice, bob, carol} {
		u.eventually("everybody's messages", func() error { return u.has(who, "from sh", "from hk", "from ca") })
		all, _ := u.inbox(who)
		for _, m := range all {
			if m.To != uint64(g) {
				t.Errorf("message to %d, want the group %d", m.To, g)
			}
		}
	}

	change := func(by *user, key string, who *user, remove bool) error {
		_, err := u.core(by.region).SetMember(ctx, by.Caller, &v1.SetMemberRequest{Group: uint64(g), Member: uint64(who.UIN), Remove: remove, IdempotencyKey: key})
		return err
	}
	u.eventually("the group in hk", func() error {
		if a, _, err := u.core("hk").accountOf(ctx, g); err != nil || a == nil {
			return fmt.Errorf("not there: %v", err)
		}
		return nil
	})
	if err := change(bob, "1", dave, false); err != nil { // from another region than the group's
		t.Fatal(err)
	}
	u.eventually("the new member hears", func() error { return u.has(dave, "/member-added") })
	u.send(dave, g, "d1", "from Dave")
	for _, who := range []*user{alice, bob, carol, dave} {
		u.eventually("the new member speaks", func() error { return u.has(who, "from Dave", "/member-added") })
	}
	if err := change(bob, "2", carol, true); err != nil { // only the creator may: refused at the group's home
		t.Fatal(err)
	}
	u.eventually("the refusal", func() error { return u.has(bob, "/refused") })
	wantKind(t, change(&user{Caller: Caller{UIN: alice.UIN}, region: "sh"}, "x", &user{}, true), region.BadInput)
	if err := change(alice, "3", dave, true); err != nil {
		t.Fatal(err)
	}
	u.eventually("the removed one hears", func() error { return u.has(dave, "/member-removed") })
	u.send(dave, g, "d2", "let me in")
	u.eventually("the stranger is told", func() error { return u.has(dave, "/undelivered") })
	r, err := u.core("sh").Resolve(ctx, alice.Caller, &v1.ResolveRequest{Uin: uint64(g)})
	if err != nil || !r.Account.Group || len(r.Account.Members) != 3 {
		t.Fatal(r, err)
	}
	u.eventually("created, four messages, added, removed", func() error {
		if all, err := u.inbox(alice); err != nil || len(all) != 7 {
			return fmt.Errorf("%d messages, %v", len(all), err)
		}
		return nil
	})
}

func TestGroupRefuses(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	g := u.group(alice, "g")
	c := u.core("sh")
	_, err := c.Send(ctx, bob.Caller, textTo(g, "m", "hello"))
	wantKind(t, err, region.Forbidden)
	_, err = c.SetMember(ctx, bob.Caller, &v1.SetMemberRequest{Group: uint64(g), Member: uint64(bob.UIN), IdempotencyKey: "k"})
	wantKind(t, err, region.Forbidden)
	_, err = c.SetMember(ctx, alice.Caller, &v1.SetMemberRequest{Group: uint64(bob.UIN), Member: uint64(bob.UIN), IdempotencyKey: "k"})
	wantKind(t, err, region.NotFound)
	many := make([]uint64, MaxMembers)
	for i := range many {
		many[i] = uint64(2_000_001 + i)
	}
	_, err = c.CreateGroup(ctx, alice.Caller, &v1.CreateGroupRequest{Name: "x", Members: many, IdempotencyKey: "k2"})
	wantKind(t, err, region.TooLarge)
	_, err = c.CreateGroup(ctx, alice.Caller, &v1.CreateGroupRequest{Name: "x", Members: []uint64{uint64(g)}, IdempotencyKey: "k3"})
	wantKind(t, err, region.BadInput)
}
