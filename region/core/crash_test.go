package core

import (
	"fmt"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// TestCrashAtEveryWrite kills the region that makes the n-th write of a story,
// for each n, once before the write and once after it but before anybody is
// told; starts it again; and lets clients repeat what was not acknowledged.
// Every message is then in every inbox it belongs to exactly once, under dense
// sequences (guarantees 2, 3 and 8).
func TestCrashAtEveryWrite(t *testing.T) {
	stride := 1
	if testing.Short() {
		stride = 7
	}
	for _, after := range []bool{false, true} {
		for step := 1; ; step += stride {
			k := &crash{step: step, after: after}
			ok := t.Run(fmt.Sprintf("after=%v,step=%d", after, step), func(t *testing.T) { crashStory(t, k) })
			if !ok {
				return
			}
			if !k.done { // the story is shorter
				if step < 20 {
					t.Errorf("only %d writes", step)
				}
				break
			}
		}
	}
}

func crashStory(t *testing.T, k *crash) {
	u := newUniverse(t, "sh", "hk")
	for _, s := range u.sites {
		s.store.mu.Lock()
		s.store.plan = k
		s.store.mu.Unlock()
	}
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	carol := u.register("sh", "Carol")
	for i := range 2 {
		u.send(alice, bob.UIN, fmt.Sprint("a", i), fmt.Sprint("a", i))
		u.send(bob, alice.UIN, fmt.Sprint("b", i), fmt.Sprint("b", i))
		u.send(alice, carol.UIN, fmt.Sprint("l", i), fmt.Sprint("l", i))
	}
	g := u.group(alice, "g", bob, carol)
	u.send(alice, g, "g1", "g1")
	u.eventually("Bob is in the group", func() error { return u.has(bob, "/group-created") })
	u.send(bob, g, "g2", "g2")
	want := map[*user][]string{
		alice: {"a0", "a1", "b0", "b1", "l0", "l1", "/group-created", "g1", "g2"},
		bob:   {"a0", "a1", "b0", "b1", "/group-created", "g1", "g2"},
		carol: {"l0", "l1", "/group-created", "g1", "g2"},
	}
	for who, texts := range want {
		u.eventually("everything is delivered", func() error { return u.has(who, texts...) })
		all, err := u.inbox(who)
		if err != nil || len(all) != len(texts) {
			t.Errorf("user %d has %d messages, want %d; %v", who.UIN, len(all), len(texts), err)
		}
	}
	u.revive()
	for id, s := range u.sites {
		s.heard.mu.Lock()
		if s.heard.broken != nil {
			t.Errorf("%s: %v", id, s.heard.broken)
		}
		s.heard.mu.Unlock()
	}
}

// TestGroupCrashAtEveryWrite does the same with a group whose members live in
// three regions, and cuts the power of the whole world at the n-th write of
// whichever region makes it, the receiving ones included: everything starts again
// from what is on the disks. Every fifth write; with HOMING_EVERY_WRITE=1 each.
func TestGroupCrashAtEveryWrite(t *testing.T) {
	stride := 5
	if os.Getenv("HOMING_EVERY_WRITE") != "" {
		stride = 1
	}
	for _, after := range []bool{false, true} {
		for step := 1; ; step += stride {
			k := &crash{step: step, after: after}
			ok := t.Run(fmt.Sprintf("after=%v,step=%d", after, step), func(t *testing.T) { groupCrashStory(t, k) })
			if !ok {
				return
			}
			if !k.done { // the story is shorter
				if step < 30 {
					t.Errorf("only %d writes", step)
				}
				break
			}
		}
	}
}

func groupCrashStory(t *testing.T, k *crash) {
	d := disks{}
	u := newUniverseWith(t, d.open, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk", "ca")
	u.disks = d
	alice, bob, carol := u.register("sh", "Alice"), u.register("hk", "Bob"), u.register("ca", "Carol")
	dave := u.register("hk", "Dave")
	g := u.group(alice, "g", bob, carol)
	all := []*user{alice, bob, carol}
	for _, who := range all {
		u.eventually("the group", func() error { return u.has(who, "/group-created") })
	}
	for _, s := range u.sites {
		s.store.mu.Lock()
		s.store.plan = k
		s.store.mu.Unlock()
	}
	for _, who := range all { // a post from each region
		u.send(who, g, "post of "+string(who.region), "from "+string(who.region))
	}
	u.retry(func() error { return u.setRole(alice, "role", g, bob, roleAdmin) })
	for _, who := range all {
		u.eventually("the role", func() error { return u.has(who, "/role-changed", "from sh", "from hk", "from ca") })
	}
	u.retry(func() error { return u.setMember(bob, "add", g, dave, false) }) // from another region than the group's
	u.eventually("Dave is in", func() error { return u.has(dave, "/member-added") })
	u.send(dave, g, "last", "from Dave")
	want := map[*user][]string{dave: {"/member-added", "from Dave"}}
	for _, who := range all {
		want[who] = []string{"/group-created", "from sh", "from hk", "from ca", "/role-changed", "/member-added", "from Dave"}
	}
	check := func() {
		for who, texts := range want {
			u.eventually("everything is delivered", func() error { return u.has(who, texts...) })
			if have, err := u.inbox(who); err != nil || len(have) != len(texts) {
				t.Errorf("user %d has %d messages, want %d; %v", who.UIN, len(have), len(texts), err)
			}
		}
	}
	check()
	for _, s := range u.sites {
		s.store.mu.Lock()
		s.store.plan = nil
		s.store.mu.Unlock()
	}
	u.revive()
	u.reboot() // and once more, with everything done: nothing comes again
	u.eventually("all is quiet", func() error { return u.caughtUp() })
	check()
}

// TestExecuteTwice gives whole streams to the executor again, from the start.
func TestExecuteTwice(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	g := u.group(alice, "g", bob)
	u.send(alice, bob.UIN, "1", "one")
	u.send(alice, g, "2", "two")
	u.eventually("delivery", func() error { return u.has(bob, "one", "two", "/group-created") })
	u.eventually("delivery", func() error { return u.has(alice, "one", "two", "/group-created") })
	for _, from := range u.sites {
		for _, to := range u.sites {
			for p := range partitions {
				batches, err := from.store.Journal(ctx, region.Partition(p), streamTo(to.id), 1, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				if err := to.get().Execute(ctx, batches); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, who := range []*user{alice, bob} {
		if err := u.has(who, "one", "two", "/group-created"); err != nil {
			t.Error(err)
		}
		if all, _ := u.inbox(who); len(all) != 3 {
			t.Errorf("%d messages", len(all))
		}
	}
}

// TestSequencesAreDense runs random senders at the same time, with a reader who
// looks all the while: a sequence is never seen before all smaller ones, and a
// reader who goes on from snapshots sees everything once.
func TestSequencesAreDense(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		u := newUniverse(t, "sh")
		defer u.quit()
		bob := u.register("sh", "Bob")
		senders := rapid.IntRange(1, 6).Draw(r, "senders")
		each := rapid.IntRange(1, 8).Draw(r, "messages each")
		repeat := rapid.SliceOfN(rapid.Bool(), senders*each, senders*each).Draw(r, "sent twice")
		failed := make(chan error, senders)
		for s := range senders {
			alice := u.register("sh", fmt.Sprint("sender ", s))
			go func() {
				failed <- func() error {
					for i := range each {
						for n := 0; n == 0 || n == 1 && repeat[s*each+i]; n++ {
							if _, err := u.core("sh").Send(ctx, alice.Caller, textTo(bob.UIN, fmt.Sprint(i), fmt.Sprint(s, "/", i))); err != nil {
								return err
							}
						}
					}
					return nil
				}()
			}()
		}
		var seen uint64
		var snapshot []byte
		at := map[string]int{}
		u.eventually("all messages", func() error {
			a, err := u.core("sh").Sync(ctx, bob.Caller, &v1.SyncRequest{Snapshot: snapshot})
			if err != nil {
				return err
			}
			for _, m := range a.Messages {
				if m.Sequence != seen+1 {
					t.Fatalf("sequence %d after %d", m.Sequence, seen)
				}
				seen++
				var s, i int
				if _, err := fmt.Sscanf(m.Body.GetText(), "%d/%d", &s, &i); err != nil {
					t.Fatal(err)
				}
				if at[fmt.Sprint(s)] != i {
					t.Fatalf("sender %d: message %d, want %d", s, i, at[fmt.Sprint(s)])
				}
				at[fmt.Sprint(s)]++
			}
			snapshot = a.Snapshot
			if seen < uint64(senders*each) {
				return fmt.Errorf("%d of %d", seen, senders*each)
			}
			return nil
		})
		for range senders {
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
	})
}
