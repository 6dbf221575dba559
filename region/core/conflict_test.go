package core

import (
	"fmt"
	"slices"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// Two regions change one contact: what the tail forbids holds until an admin
// decides, and each decision leaves the rows of the side it names.
func TestConflictResolved(t *testing.T) {
	for _, c := range []struct {
		resolution string
		blocked    bool
		remark     string
	}{{KeepHere, false, "here"}, {TakeTail, true, ""}} {
		t.Run(c.resolution, func(t *testing.T) {
			u := newUniverseWith(t, inMemory, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
			alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
			tail := u.failOver("sh", "hk", alice, func() { must(t, u.block(alice, bob, true, "b")) })
			_, err := u.core("hk").SetContact(ctx, alice.Caller, &v1.SetContactRequest{Contact: &v1.Contact{Uin: uint64(bob.UIN), Remark: "here"}, IdempotencyKey: "r"})
			must(t, err)
			for range 2 { // a tail that comes again is no second conflict
				_, err := u.core("hk").Merge(ctx, tail)
				must(t, err)
			}
			check := func(when string, blocked bool, remark string) {
				t.Helper()
				k, err := u.contact(alice, bob)
				must(t, err)
				if k.GetBlocked() != blocked || k.GetRemark() != remark {
					t.Errorf("%s: %v, want blocked %t, remark %q", when, k, blocked, remark)
				}
			}
			check("open", true, "here")
			list, err := u.core("hk").Conflicts(ctx, false)
			must(t, err)
			if len(list) != 1 || list[0].ID.Owner != alice.UIN || list[0].ID.Origin != "sh" {
				t.Fatalf("conflicts: %+v", list)
			}
			id, err := ParseConflictID(list[0].ID.String())
			must(t, err)
			shown, err := u.core("hk").Conflict(ctx, id)
			must(t, err)
			if len(shown.Rows) != 1 || shown.Rows[0].Table != "contact" || shown.Rows[0].Tail == shown.Rows[0].Here {
				t.Errorf("shown: %+v", shown.Rows)
			}
			for range 2 {
				must(t, u.core("hk").ResolveConflict(ctx, id, c.resolution))
			}
			check("resolved", c.blocked, c.remark)
			other := map[string]string{KeepHere: TakeTail, TakeTail: KeepHere}[c.resolution]
			if err := u.core("hk").ResolveConflict(ctx, id, other); region.KindOf(err) != region.Conflict {
				t.Errorf("resolved the other way: %v", err)
			}
			if list, err := u.core("hk").Conflicts(ctx, false); err != nil || len(list) != 0 {
				t.Errorf("still open: %v, %v", list, err)
			}
			if list, err := u.core("hk").Conflicts(ctx, true); err != nil || len(list) != 1 || list[0].Resolution != c.resolution {
				t.Errorf("all: %v, %v", list, err)
			}
		})
	}
}

// memberIn says whether somebody is a member of a group, as one who asks sees it.
func (u *universe) memberIn(by *user, g region.UIN, who *user, want bool) error {
	if a := u.resolved(by, g); slices.Contains(a.Members, uint64(who.UIN)) != want {
		return fmt.Errorf("members of %d are %v: want %d among them: %t", g, a.Members, who.UIN, want)
	}
	return nil
}

// A member whom the tail put out stays out though the region here changed the
// role since, until the admin keeps what is here.
func TestConflictOfAMember(t *testing.T) {
	u := newUniverseWith(t, inMemory, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	g := u.group(alice, "g", bob)
	owner := &user{Caller: Caller{UIN: g}, region: "sh"}
	tail := u.failOver("sh", "hk", owner, func() {
		must(t, u.setMember(alice, "out", g, bob, true))
		u.eventually("Bob is out in sh", func() error { return u.memberIn(alice, g, bob, false) })
	})
	alice.region, bob.region = "hk", "hk"
	must(t, u.setRole(alice, "up", g, bob, v1.GroupRole_GROUP_ROLE_ADMIN))
	u.eventually("Bob is an admin in hk", func() error { return u.memberIn(alice, g, bob, true) })
	_, err := u.core("hk").Merge(ctx, tail)
	must(t, err)
	must(t, u.memberIn(alice, g, bob, false))
	list, err := u.core("hk").Conflicts(ctx, false)
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("conflicts: %+v", list)
	}
	must(t, u.core("hk").ResolveConflict(ctx, list[0].ID, KeepHere))
	must(t, u.memberIn(alice, g, bob, true))
}
