package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// Old messages go, in several commits; a client with an old snapshot is told from
// where on there are any, and misses none of those; retries and recalls of what
// is gone are answered; sequences go on; the backup follows.
func TestRetention(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	early := u.synced(bob)
	const old = expireRows + 30
	for i := range old {
		u.send(alice, bob.UIN, fmt.Sprint("old ", i), fmt.Sprint("old ", i))
	}
	u.eventually("delivery", func() error { return u.has(bob, fmt.Sprint("old ", old-1)) })
	middle, err := u.core("sh").Sync(ctx, bob.Caller, &v1.SyncRequest{Snapshot: early, MaxBytes: 2000})
	must(t, err)
	u.ahead.Add(int64(time.Hour))
	u.send(alice, bob.UIN, "new", "new")
	u.eventually("delivery", func() error { return u.has(bob, "new") })

	c := u.core("sh")
	c.o.Retention = 30 * time.Minute // its goroutine was not started
	must(t, c.expireAll(ctx, u.sites["sh"].store))
	must(t, c.expireAll(ctx, u.sites["sh"].store)) // again, nothing to do
	for _, who := range []*user{alice, bob} {
		for name, snapshot := range map[string][]byte{"none": nil, "early": early, "middle": middle.Snapshot} {
			if who == alice && snapshot != nil {
				continue
			}
			r, err := c.Sync(ctx, who.Caller, &v1.SyncRequest{Snapshot: snapshot})
			must(t, err)
			if len(r.Messages) != 1 || r.Messages[0].Sequence != old+1 || r.Oldest != old+1 || r.Full != (snapshot == nil) {
				t.Fatalf("%d with snapshot %s: %v", who.UIN, name, r)
			}
		}
	}
	if r := u.send(alice, bob.UIN, "old 0", "old 0"); !r.Repeated || r.Sequence != 1 {
		t.Errorf("a late repeat: %v", r)
	}
	wantKind(t, u.recall(alice, "old 0", "k"), region.NotFound)
	if r := u.send(alice, bob.UIN, "newer", "newer"); r.Sequence != old+2 {
		t.Errorf("sequences go on at %d", r.Sequence)
	}
	u.eventually("the backup follows", func() error {
		rows := 0
		err := u.sites["hk"].store.Scan(ctx, bob.UIN, tableInbox, store.Range{Limit: 10_000}, countRows(&rows))
		if first, _ := u.core("hk").firstKept(ctx, bob.UIN); err == nil && (rows != 2 || first != old+1) {
			err = fmt.Errorf("%d rows, from %d", rows, first)
		}
		return err
	})
	var inbox []string
	r, err := c.Sync(ctx, bob.Caller, &v1.SyncRequest{})
	must(t, err)
	for _, m := range r.Messages {
		inbox = append(inbox, m.Body.GetText())
	}
	if fmt.Sprint(inbox) != "[new newer]" {
		t.Errorf("Bob has %v", inbox)
	}
}

// The goroutine does by itself what the test above did by hand, and leaves alone
// what other regions act for.
func TestRetentionInTheBackground(t *testing.T) {
	u := newUniverseWith(t, inMemory, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	u.keep = time.Second
	u.restart("sh")
	alice := u.register("sh", "Alice")
	u.send(alice, alice.UIN, "1", "note")
	u.ahead.Add(int64(time.Minute))
	u.eventually("it goes", func() error {
		r, err := u.core("sh").Sync(ctx, alice.Caller, &v1.SyncRequest{})
		if err == nil && r.Oldest != 2 {
			err = fmt.Errorf("%v", r)
		}
		return err
	})
}

// An inbox that is removed from while it grows and is read, and whose region
// fails over, keeps its promise: from the oldest on, nothing is missing.
func TestRetentionAcrossEpochs(t *testing.T) {
	u := newUniverseWith(t, inMemory, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice := u.register("sh", "Alice")
	for i := range 20 {
		u.send(alice, alice.UIN, fmt.Sprint(i), "x")
	}
	before, err := u.core("sh").Sync(ctx, alice.Caller, &v1.SyncRequest{})
	must(t, err)
	u.ahead.Add(int64(time.Hour))
	for i := range 10 {
		u.send(alice, alice.UIN, fmt.Sprint("later ", i), "y")
	}
	u.eventually("all is quiet", func() error { return u.caughtUp() })
	u.setWorld(testWorld(2, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk"))
	alice.region = "hk"
	c := u.core("hk")
	c.o.Retention = 30 * time.Minute
	must(t, c.expireAll(ctx, u.sites["hk"].store))
	r, err := c.Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: before.Snapshot})
	must(t, err)
	if len(r.Messages) != 10 || r.Messages[0].Sequence != 21 || r.Oldest != 21 || r.Full {
		t.Errorf("%v", r)
	}
}
