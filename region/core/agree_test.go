package core

import (
	"fmt"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
)

const (
	none   = v1.ContactState_CONTACT_STATE_NONE
	asked  = v1.ContactState_CONTACT_STATE_ASKED
	asking = v1.ContactState_CONTACT_STATE_ASKING
	agreed = v1.ContactState_CONTACT_STATE_AGREED
)

// contact is what the newest Sync says about another user, read from the start.
func (u *universe) contact(who, other *user) (*v1.Contact, error) {
	r, err := u.core(who.region).Sync(ctx, who.Caller, &v1.SyncRequest{})
	if err != nil {
		return nil, err
	}
	for _, k := range r.Contacts {
		if k.Uin == uint64(other.UIN) {
			return k, nil
		}
	}
	return &v1.Contact{Removed: true}, nil
}

func (u *universe) state(who, other *user, want v1.ContactState, listed bool) error {
	k, err := u.contact(who, other)
	if err == nil && (k.State != want || k.Removed == listed) {
		err = fmt.Errorf("user %d about %d: %v", who.UIN, other.UIN, k)
	}
	return err
}

func (u *universe) ask(who, other *user, key string) (v1.ContactState, error) {
	r, err := u.core(who.region).RequestContact(ctx, who.Caller, &v1.RequestContactRequest{Uin: uint64(other.UIN), Text: "it is me", IdempotencyKey: key})
	return r.GetState(), err
}

func (u *universe) answer(who, other *user, accept bool, key string) error {
	_, err := u.core(who.region).AnswerContact(ctx, who.Caller, &v1.AnswerContactRequest{Uin: uint64(other.UIN), Accept: accept, IdempotencyKey: key})
	return err
}

func (u *universe) block(who, other *user, blocked bool, key string) error {
	_, err := u.core(who.region).BlockUser(ctx, who.Caller, &v1.BlockUserRequest{Uin: uint64(other.UIN), Blocked: blocked, IdempotencyKey: key})
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestContactAcrossRegions(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	for range 2 { // the second time is a repeat
		s, err := u.ask(alice, bob, "1")
		if err != nil || s != asked {
			t.Fatal(s, err)
		}
	}
	must(t, u.state(alice, bob, asked, false))
	u.eventually("the request", func() error { return u.has(bob, "/contact-request") })
	must(t, u.state(bob, alice, asking, false))
	all, _ := u.inbox(bob)
	if s := all[0].Body.GetSystem(); s.Text != "it is me" || s.Actor != uint64(alice.UIN) {
		t.Errorf("request %v", s)
	}
	must(t, u.answer(bob, alice, false, "1"))
	u.eventually("the refusal", func() error { return u.has(alice, "/contact-refused") })
	must(t, u.state(alice, bob, none, false))
	must(t, u.state(bob, alice, none, false))
	wantKind(t, u.answer(bob, alice, true, "2"), region.NotFound)

	if _, err := u.ask(alice, bob, "2"); err != nil {
		t.Fatal(err)
	}
	u.eventually("asked again", func() error { return u.state(bob, alice, asking, false) })
	for range 2 {
		must(t, u.answer(bob, alice, true, "3"))
	}
	u.eventually("the answer", func() error { return u.has(alice, "/contact-accepted") })
	must(t, u.state(alice, bob, agreed, true))
	must(t, u.state(bob, alice, agreed, true))

	// A remark leaves the agreement, removal takes it back, and asking again
	// finds that it still holds on the other side.
	set := func(k *v1.Contact, key string) {
		t.Helper()
		_, err := u.core("sh").SetContact(ctx, alice.Caller, &v1.SetContactRequest{Contact: k, IdempotencyKey: key})
		must(t, err)
	}
	set(&v1.Contact{Uin: uint64(bob.UIN), Remark: "Bobby"}, "r1")
	must(t, u.state(alice, bob, agreed, true))
	set(&v1.Contact{Uin: uint64(bob.UIN), Removed: true}, "r2")
	must(t, u.state(alice, bob, none, false))
	if _, err := u.ask(alice, bob, "3"); err != nil {
		t.Fatal(err)
	}
	u.eventually("agreed again", func() error { return u.state(alice, bob, agreed, true) })
}

// Two who ask each other at the same time have agreed.
func TestContactsAskEachOther(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	u.cut.Store(region.ID("sh"), true)
	u.cut.Store(region.ID("hk"), true)
	for who, other := range map[*user]*user{alice: bob, bob: alice} {
		if _, err := u.ask(who, other, "1"); err != nil {
			t.Fatal(err)
		}
	}
	u.cut.Clear()
	u.setWorld(testWorld(2, nil, "sh", "hk")) // wakes the relay
	for who, other := range map[*user]*user{alice: bob, bob: alice} {
		u.eventually("agreement", func() error { return u.state(who, other, agreed, true) })
	}
}

// What a blocked user sends is dropped, in any region, and stays dropped; the
// sender cannot tell; groups are not concerned; and the block outlasts what
// the user's other devices do to the contact.
func TestBlock(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob, carol := u.register("sh", "Alice"), u.register("hk", "Bob"), u.register("sh", "Carol")
	g := u.group(alice, "g", bob, carol)
	before, err := u.core("sh").Sync(ctx, alice.Caller, &v1.SyncRequest{})
	must(t, err)
	must(t, u.block(alice, bob, true, "1"))
	must(t, u.block(alice, carol, true, "2"))
	_, err = u.core("sh").SetContact(ctx, alice.Caller, &v1.SetContactRequest{Contact: &v1.Contact{Uin: uint64(bob.UIN), Remark: "Bobby"}, IdempotencyKey: "r"})
	must(t, err)
	after, err := u.core("sh").Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: before.Snapshot})
	must(t, err)
	if len(after.Contacts) != 2 || !after.Contacts[0].Blocked || !after.Contacts[1].Blocked {
		t.Fatalf("synced %v", after.Contacts)
	}
	for _, who := range []*user{bob, carol} {
		r := u.send(who, alice.UIN, "m1", "rubbish from "+string(who.region))
		if r.Repeated || r.Sequence == 0 {
			t.Errorf("answer %v", r)
		}
		if s, err := u.ask(who, alice, "1"); err != nil || s != asked {
			t.Error(s, err)
		}
		u.eventually("the group", func() error {
			if a, _, err := u.core(who.region).accountOf(ctx, g); err != nil || a == nil {
				return fmt.Errorf("not there: %v", err)
			}
			return nil
		})
		u.send(who, g, "g1", "to all from "+string(who.region))
	}
	// The relay keeps the order, so the group's copies come after what was dropped.
	u.eventually("groups go on", func() error { return u.has(alice, "to all from hk", "to all from sh") })
	must(t, u.block(alice, bob, false, "3"))
	u.send(bob, alice.UIN, "m2", "sorry")
	u.eventually("delivery", func() error { return u.has(alice, "sorry") })

	// The same commands again do not bring back what was dropped.
	f := &foreign{owner: bob.UIN}
	must(t, u.core("sh").Execute(ctx, []*journal.Batch{f.batch(appendCommand(t, message(bob.UIN, alice.UIN, "m1", "rubbish from hk"), alice.UIN))}))
	all, err := u.inbox(alice)
	must(t, err)
	if len(all) != 4 { // the group, two posts and what followed the block
		t.Errorf("%d messages: %v", len(all), all)
	}
	for _, who := range []*user{bob, carol} { // nobody was told
		all, err := u.inbox(who)
		must(t, err)
		for _, m := range all {
			if s := m.Body.GetSystem(); s != nil && s.Event != "group-created" {
				t.Errorf("user %d was told %v", who.UIN, s)
			}
		}
	}
	_, err = u.ask(alice, carol, "2")
	wantKind(t, err, region.Forbidden)
}

func TestContactsRefuse(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice := u.register("sh", "Alice")
	g := &user{Caller: Caller{UIN: u.group(alice, "g")}}
	wantKind(t, u.block(alice, alice, true, "k"), region.BadInput)
	wantKind(t, u.block(alice, g, true, "k"), region.BadInput)
	wantKind(t, u.block(alice, &user{Caller: Caller{UIN: 1_900_000}}, true, "k"), region.NotFound)
	wantKind(t, u.block(&user{region: "sh"}, alice, true, "k"), region.Unauthenticated)
	wantKind(t, u.answer(alice, g, true, "k"), region.BadInput)
	_, err := u.ask(alice, &user{}, "k")
	wantKind(t, err, region.BadInput)

	// A command in another's name, executed whole and again, does nothing.
	payload, err := marshal(&v1.ContactAct{Actor: 2_000_001, Event: contactRequest})
	must(t, err)
	f := &foreign{owner: 2_000_002}
	b := f.batch(journal.Command{ID: journal.CommandID{1}, To: "sh", Target: alice.UIN, Method: uint16(methodContact), Payload: payload})
	must(t, u.core("sh").Execute(ctx, []*journal.Batch{b}))
	b.Owner = 2_000_001
	for range 2 {
		must(t, u.core("sh").Execute(ctx, []*journal.Batch{b}))
	}
	u.eventually("one request", func() error { return u.has(alice, "/contact-request", "/group-created") })
	must(t, u.state(alice, &user{Caller: Caller{UIN: 2_000_001}}, asking, false))
}
