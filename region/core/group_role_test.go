package core

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func (u *universe) setMember(by *user, key string, g region.UIN, who *user, remove bool) error {
	_, err := u.core(by.region).SetMember(ctx, by.Caller, &v1.SetMemberRequest{Group: uint64(g), Member: uint64(who.UIN), Remove: remove, IdempotencyKey: key})
	return err
}

func (u *universe) setRole(by *user, key string, g region.UIN, who *user, role v1.GroupRole) error {
	_, err := u.core(by.region).SetRole(ctx, by.Caller, &v1.SetRoleRequest{Group: uint64(g), Member: uint64(who.UIN), Role: role, IdempotencyKey: key})
	return err
}

func (u *universe) updateGroup(by *user, key string, r *v1.UpdateGroupRequest) error {
	r.IdempotencyKey = key
	_, err := u.core(by.region).UpdateGroup(ctx, by.Caller, r)
	return err
}

// resolved is a group as a region shows it.
func (u *universe) resolved(by *user, g region.UIN) *v1.Account {
	r, err := u.core(by.region).Resolve(ctx, by.Caller, &v1.ResolveRequest{Uin: uint64(g)})
	if err != nil {
		return &v1.Account{}
	}
	return r.Account
}

// Roles, names, announcements and policies of a group, given from three regions
// and seen in all of them.
func TestGroupIsRunAcrossRegions(t *testing.T) {
	u := newUniverse(t, "sh", "hk", "ca")
	alice, bob, carol, dave := u.register("sh", "Alice"), u.register("hk", "Bob"), u.register("ca", "Carol"), u.register("hk", "Dave")
	g := u.group(alice, "g", bob, carol)
	everywhere := func(what string, ok func(*v1.Account) bool) {
		t.Helper()
		for _, who := range []*user{alice, bob, carol} {
			u.eventually(what, func() error {
				if a := u.resolved(who, g); !ok(a) {
					return fmt.Errorf("in %s: %v", who.region, a)
				}
				return nil
			})
		}
	}
	everywhere("the owner", func(a *v1.Account) bool {
		return a.Owner == uint64(alice.UIN) && len(a.Members) == 3 && len(a.Admins) == 0
	})

	must(t, u.setRole(alice, "1", g, bob, roleAdmin))
	must(t, u.setRole(alice, "1", g, bob, roleAdmin)) // a repeat
	everywhere("an admin", func(a *v1.Account) bool { return slices.Equal(a.Admins, []uint64{uint64(bob.UIN)}) })
	must(t, u.updateGroup(bob, "2", &v1.UpdateGroupRequest{Group: uint64(g), Name: proto.String("Book club"),
		Announcement: proto.String("Tuesday:\nchapter 3"), Join: joinApproval.Enum()}))
	everywhere("what it says", func(a *v1.Account) bool {
		return a.Nickname == "Book club" && a.Announcement == "Tuesday:\nchapter 3" && a.Join == joinApproval
	})
	for _, who := range []*user{alice, bob, carol} {
		u.eventually("news", func() error { return u.has(who, "/role-changed", "/group-updated") })
	}

	// Dave asks twice, is told nothing, and an admin lets him in.
	must(t, u.setMember(dave, "3", g, dave, false))
	must(t, u.setMember(dave, "4", g, dave, false))
	for _, who := range []*user{alice, bob} {
		u.eventually("the request", func() error { return u.has(who, "/join-request") })
	}
	must(t, u.setMember(carol, "5", g, dave, false)) // a plain member must not
	u.eventually("the refusal", func() error { return u.has(carol, "/refused") })
	must(t, u.setMember(bob, "6", g, dave, false))
	u.eventually("Dave is in", func() error { return u.has(dave, "/member-added") })

	// Carol asks for what only the owner may; the answer crosses the ocean.
	must(t, u.updateGroup(dave, "7", &v1.UpdateGroupRequest{Group: uint64(g), Name: proto.String("Dave's")}))
	u.eventually("the refusal", func() error { return u.has(dave, "/refused") })

	// The group is handed over, and then its owner leaves.
	must(t, u.setRole(alice, "8", g, carol, roleOwner))
	everywhere("the new owner", func(a *v1.Account) bool {
		return a.Owner == uint64(carol.UIN) && slices.Equal(a.Admins, []uint64{uint64(alice.UIN), uint64(bob.UIN)})
	})
	wantKind(t, u.setRole(alice, "9", g, bob, roleMember), region.Forbidden) // at once: the group lives here
	must(t, u.setMember(carol, "10", g, carol, true))
	everywhere("the heir", func(a *v1.Account) bool {
		return a.Owner == uint64(alice.UIN) && slices.Equal(a.Admins, []uint64{uint64(bob.UIN)}) && len(a.Members) == 3
	})
	if a := u.resolved(alice, g); a.Nickname != "Book club" {
		t.Errorf("it is called %q", a.Nickname)
	}
	if err := u.has(carol, "/join-request"); err == nil {
		t.Error("a plain member was asked")
	}
}

func TestGroupBadInput(t *testing.T) {
	u := newUniverse(t, "sh")
	alice := u.register("sh", "Alice")
	g := u.group(alice, "g")
	long := make([]byte, MaxAnnouncement+1)
	for i := range long {
		long[i] = 'x'
	}
	for name, r := range map[string]*v1.UpdateGroupRequest{
		"nothing":      {Group: uint64(g)},
		"no group":     {Name: proto.String("x")},
		"empty name":   {Group: uint64(g), Name: proto.String("")},
		"long":         {Group: uint64(g), Announcement: proto.String(string(long))},
		"control":      {Group: uint64(g), Announcement: proto.String("a\x1b[2J")},
		"policy":       {Group: uint64(g), Join: v1.JoinPolicy(99).Enum()},
		"without key":  {Group: uint64(g), Name: proto.String("x")},
		"not a number": {Group: 5, Name: proto.String("x")},
	} {
		key := "k-" + name
		if name == "without key" {
			key = ""
		}
		want := region.BadInput
		if name == "not a number" {
			want = region.NotFound
		}
		if err := u.updateGroup(alice, key, r); region.KindOf(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantKind(t, u.setRole(alice, "r", g, alice, v1.GroupRole(9)), region.BadInput)
	wantKind(t, u.setRole(alice, "r2", alice.UIN, alice, roleAdmin), region.NotFound)
}

// Groups that a user made are counted.
func TestGroupsPerUser(t *testing.T) {
	u := newUniverseWith(t, inMemory, nil, "sh")
	alice := u.register("sh", "Alice")
	must(t, u.core("sh").mutate(ctx, alice.UIN, func(t *txn) error {
		return t.save(tableMade, keySingle, &v1.MadeRow{Groups: MaxGroups - 1})
	}))
	g := u.group(alice, "last")
	_, err := u.core("sh").CreateGroup(ctx, alice.Caller, &v1.CreateGroupRequest{Name: "x", IdempotencyKey: "more"})
	wantKind(t, err, region.TooLarge)
	if again := u.group(alice, "last"); again != g {
		t.Errorf("a repeat made another one: %d", again)
	}
}

// The largest group, in three regions: a post is one command per region, and one
// inbox entry per member.
func TestGroupOf500InThreeRegions(t *testing.T) {
	u := newUniverseWith(t, inMemory, nil, "sh", "hk", "ca")
	ids := []region.ID{"sh", "hk", "ca"}
	var all []*user
	for i := range MaxMembers {
		all = append(all, u.register(ids[i%3], fmt.Sprint("user ", i)))
	}
	g := u.group(all[0], "g", all[1:]...)
	before := u.commands("sh")
	u.send(all[0], g, "m", "to everybody")
	for _, who := range all {
		u.eventually("delivery", func() error { return u.has(who, "to everybody") })
	}
	if n := u.commands("sh") - before; n != 4 { // to the group, and one to each region
		t.Errorf("%d commands for one post", n)
	}
	wantKind(t, u.setMember(all[0], "more", g, u.register("sh", "too many"), false), region.TooLarge)
}

// commands counts those in a region's journal.
func (u *universe) commands(id region.ID) int {
	n := 0
	for p := range partitions {
		for _, to := range u.sites {
			batches, err := u.sites[id].store.Journal(ctx, region.Partition(p), streamTo(to.id), 1, 1<<24)
			must(u.t, err)
			for _, b := range batches {
				n += len(b.Records)
			}
		}
	}
	return n
}
