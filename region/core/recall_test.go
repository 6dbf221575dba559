package core

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
)

func (u *universe) recall(who *user, id, key string) error {
	_, err := u.core(who.region).Recall(ctx, who.Caller, &v1.RecallRequest{ClientMessageId: id, IdempotencyKey: key})
	return err
}

// gone wants a message to be empty in an inbox, and the news of it once, both
// for a client that begins and for one that had synced before.
func (u *universe) gone(who *user, sender *user, id string, snapshot []byte) error {
	want := MessageID(sender.UIN, id)
	all, err := u.inbox(who)
	if err != nil {
		return err
	}
	empty := 0
	for _, m := range all {
		if bytes.Equal(m.Id, want[:]) && m.Recalled && m.Body.GetSystem().GetEvent() == "recalled" {
			empty++
		}
	}
	r, err := u.core(who.region).Sync(ctx, who.Caller, &v1.SyncRequest{Snapshot: snapshot})
	if err != nil {
		return err
	}
	news := 0
	for _, m := range r.Messages {
		if s := m.Body.GetSystem(); s.GetEvent() == "message-recalled" && bytes.Equal(s.Message, want[:]) {
			news++
		}
	}
	if empty != 1 || news != 1 || r.Full {
		return fmt.Errorf("user %d: %d empty, %d news, full %v", who.UIN, empty, news, r.Full)
	}
	return nil
}

func (u *universe) synced(who *user) []byte {
	u.t.Helper()
	r, err := u.core(who.region).Sync(ctx, who.Caller, &v1.SyncRequest{})
	must(u.t, err)
	return r.Snapshot
}

func TestRecallAcrossRegions(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	u.send(alice, bob.UIN, "m1", "oops")
	u.send(alice, bob.UIN, "m2", "fine")
	u.eventually("delivery", func() error { return u.has(bob, "oops", "fine") })
	hers, his := u.synced(alice), u.synced(bob)
	for _, key := range []string{"1", "1", "2"} {
		must(t, u.recall(alice, "m1", key))
	}
	must(t, u.gone(alice, alice, "m1", hers))
	u.eventually("the recall", func() error { return u.gone(bob, alice, "m1", his) })
	must(t, u.has(bob, "fine"))
	if r := u.send(alice, bob.UIN, "m1", "oops"); !r.Repeated { // a late repeat of the send
		t.Error(r)
	}
	// The commands again, in any mixture, change nothing.
	f := &foreign{owner: alice.UIN}
	payload, err := marshal(&v1.Recall{Sender: uint64(alice.UIN), To: uint64(bob.UIN), ClientMessageId: "m1"})
	must(t, err)
	recall := journal.Command{ID: journal.CommandID{1}, To: "hk", Target: bob.UIN, Method: uint16(methodRecall), Payload: payload}
	b := f.batch(appendCommand(t, message(alice.UIN, bob.UIN, "m1", "oops"), bob.UIN), recall, recall)
	must(t, u.core("hk").Execute(ctx, []*journal.Batch{b, b}))
	must(t, u.gone(bob, alice, "m1", his))

	wantKind(t, u.recall(bob, "m1", "1"), region.NotFound)
	wantKind(t, u.recall(alice, "", "3"), region.BadInput)
	wantKind(t, u.recall(&user{region: "sh"}, "m1", "3"), region.Unauthenticated)
	u.ahead.Add(int64((MaxRecall + 1) * time.Second))
	wantKind(t, u.recall(alice, "m2", "4"), region.Forbidden)
	if all, _ := u.inbox(bob); len(all) != 3 {
		t.Errorf("%d messages", len(all))
	}
}

// A message that is recalled before it arrives never shows; another's cannot be.
func TestRecallComesFirst(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	bob := u.register("sh", "Bob")
	f := &foreign{owner: 2_000_001}
	command := func(sender region.UIN) journal.Command {
		payload, err := marshal(&v1.Recall{Sender: uint64(sender), To: uint64(bob.UIN), ClientMessageId: "m"})
		must(t, err)
		return journal.Command{ID: journal.CommandID{byte(sender)}, To: "sh", Target: bob.UIN, Method: uint16(methodRecall), Payload: payload}
	}
	must(t, u.core("sh").Execute(ctx, []*journal.Batch{f.batch(command(f.owner), command(2_000_002),
		appendCommand(t, message(f.owner, bob.UIN, "m", "recalled"), bob.UIN),
		appendCommand(t, message(f.owner, bob.UIN, "n", "stays"), bob.UIN))}))
	must(t, u.has(bob, "stays"))
	if all, _ := u.inbox(bob); len(all) != 1 {
		t.Errorf("%v", all)
	}
}

// Everybody who has a group's message hears of its recall, who left since too.
func TestRecallInGroup(t *testing.T) {
	u := newUniverse(t, "sh", "hk", "ca")
	alice, bob, carol := u.register("sh", "Alice"), u.register("hk", "Bob"), u.register("ca", "Carol")
	g := u.group(alice, "g", bob, carol)
	u.send(alice, g, "m1", "oops")
	snapshots := map[*user][]byte{}
	for _, who := range []*user{alice, bob, carol} {
		u.eventually("delivery", func() error { return u.has(who, "oops") })
		snapshots[who] = u.synced(who)
	}
	_, err := u.core("sh").SetMember(ctx, alice.Caller, &v1.SetMemberRequest{Group: uint64(g), Member: uint64(carol.UIN), Remove: true, IdempotencyKey: "k"})
	must(t, err)
	must(t, u.recall(alice, "m1", "1"))
	for who, snapshot := range snapshots {
		u.eventually("the recall", func() error { return u.gone(who, alice, "m1", snapshot) })
	}
}
