package core

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/wire"
)

// holds lists the rows and journal records of a region that hold a text.
func (s *site) holds(t *testing.T, text string, owners ...region.UIN) (where []string) {
	t.Helper()
	for _, u := range owners {
		for table := 1; table < 256; table++ {
			must(t, s.store.Scan(ctx, u, journal.Table(table), store.Range{Limit: 100_000, Deleted: true}, func(r *store.Row) bool {
				if bytes.Contains(r.Value, []byte(text)) || bytes.Contains(r.Row, []byte(text)) {
					where = append(where, fmt.Sprintf("owner %d table %d row %x", u, table, r.Row))
				}
				return true
			}))
		}
	}
	for p := range partitions {
		batches, err := s.store.Journal(ctx, region.Partition(p), journal.Full, s.store.Head(region.Partition(p)).First, 1<<30)
		must(t, err)
		for _, b := range batches {
			if bytes.Contains(journal.AppendBody(nil, b), []byte(text)) {
				where = append(where, fmt.Sprintf("journal %d/%d", p, b.First()))
			}
		}
	}
	return where
}

func (u *universe) erase(who *user, sent bool) error {
	_, err := u.core(who.region).EraseAccount(ctx, who.Caller, &v1.EraseAccountRequest{Sent: sent, IdempotencyKey: "erase",
		Signature: ed25519.Sign(who.key, wire.DeviceProof(wire.DeviceErase, who.UIN, wire.EraseSubject(sent)))})
	return err
}

// wiped wants nothing of an account's own to be in a region but marks, and that
// batches of a tail were seen, which may be noted after the wipe has passed there.
func (u *universe) wiped(id region.ID, who *user) error {
	for _, table := range erasedTables() {
		rows := 0
		count := countRows(&rows)
		if table == tableTail {
			count = func(r *store.Row) bool {
				var seen v1.TailRow
				if proto.Unmarshal(r.Value, &seen) != nil || len(seen.Batch) > 0 {
					rows++
				}
				return true
			}
		}
		if err := u.sites[id].store.Scan(ctx, who.UIN, table, scanAll, count); err != nil || rows > 0 {
			return fmt.Errorf("%s has %d rows of table %d of user %d, %v", id, rows, table, who.UIN, err)
		}
	}
	a, _, err := u.core(id).accountOf(ctx, who.UIN)
	if err == nil && (a == nil || !proto.Equal(a, &v1.AccountRow{ErasedUnixMilli: a.ErasedUnixMilli}) || a.ErasedUnixMilli == 0) {
		err = fmt.Errorf("%s has the account %v", id, a)
	}
	return err
}

// TestErase fills an account in a world of three regions, of which hk backs sh
// up, erases it, and looks for its texts: first in the rows of all regions, then,
// after the journals were trimmed and the stores purged, in every byte of their
// files.
func TestErase(t *testing.T) { onFiles(t, testErase) }

func testErase(t *testing.T, d files) {
	u := newUniverseWith(t, d.open, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk", "ca")
	alice, bob, carol := u.register("sh", "Alice-PLAINTEXT"), u.register("hk", "Bob"), u.register("ca", "Carol")
	c := u.core("sh")
	_, err := c.UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{About: proto.String("about PLAINTEXT"), IdempotencyKey: "p"})
	must(t, err)
	_, err = c.SetContact(ctx, alice.Caller, &v1.SetContactRequest{Contact: &v1.Contact{Uin: uint64(bob.UIN), Remark: "remark PLAINTEXT"}, IdempotencyKey: "c"})
	must(t, err)
	_, err = c.SetSetting(ctx, alice.Caller, &v1.SetSettingRequest{Setting: &v1.Setting{Name: "setting PLAINTEXT", Value: "value PLAINTEXT"}, IdempotencyKey: "s"})
	must(t, err)
	g := u.group(alice, "g", bob, carol)
	for i := range eraseRows + 50 { // more than one step wipes
		u.send(alice, alice.UIN, fmt.Sprint("n", i), fmt.Sprint("note PLAINTEXT ", i))
	}
	u.send(alice, bob.UIN, "b", "to Bob PLAINTEXT")
	u.send(alice, g, "g", "to the group PLAINTEXT")
	u.send(bob, alice.UIN, "a", "from Bob PLAINTEXT")
	u.eventually("delivery", func() error { return u.has(alice, "from Bob PLAINTEXT", "to the group PLAINTEXT") })
	u.eventually("delivery", func() error { return u.has(bob, "to Bob PLAINTEXT", "to the group PLAINTEXT") })
	u.eventually("delivery", func() error { return u.has(carol, "to the group PLAINTEXT") })

	err = u.erase(&user{Caller: alice.Caller, region: "sh", key: bob.key}, true)
	wantKind(t, err, region.Unauthenticated)
	must(t, u.erase(alice, true))
	_, err = c.Authenticate(ctx, alice.ticket)
	wantKind(t, err, region.Unauthenticated)
	_, err = c.Send(ctx, alice.Caller, textTo(bob.UIN, "late", "late")) // a connection that is not down yet
	wantKind(t, err, region.Unauthenticated)
	wantKind(t, u.erase(alice, true), region.Unauthenticated)
	if n := u.sites["sh"].heard.revoked(alice.DeviceKeyID); n != 1 {
		t.Errorf("its connections were ended %d times", n)
	}

	for _, id := range []region.ID{"sh", "hk"} {
		u.eventually("no row is left", func() error { return u.wiped(id, alice) })
	}
	u.eventually("no row is left", func() error { return u.wiped("ca", alice) })
	u.eventually("she left the group", func() error {
		if a := u.resolved(bob, g); len(a.Members) != 2 || a.Owner == uint64(alice.UIN) {
			return fmt.Errorf("%v", a)
		}
		return nil
	})
	u.eventually("what she sent is empty", func() error {
		for _, who := range []*user{bob, carol} {
			all, err := u.inbox(who)
			if err != nil {
				return err
			}
			for _, m := range all {
				if m.Sender == uint64(alice.UIN) && m.Body.GetText() != "" {
					return fmt.Errorf("user %d has %v", who.UIN, m)
				}
			}
		}
		return nil
	})
	_, err = u.core("ca").Send(ctx, carol.Caller, textTo(alice.UIN, "x", "anybody there?"))
	wantKind(t, err, region.NotFound)
	u.send(bob, alice.UIN, "x", "anybody there?") // hk remembers that there was somebody
	u.eventually("the message reaches nobody", func() error { return u.has(bob, "/undelivered") })
	if a := u.resolved(bob, alice.UIN); !a.Erased || a.Nickname != "" {
		t.Errorf("others see %v", a)
	}

	// Bob's own copy of what he wrote to her is his.
	u.eventually("all is quiet", func() error { return u.caughtUp() })
	u.trim()
	for id, s := range u.sites {
		where := s.holds(t, "PLAINTEXT", alice.UIN, bob.UIN, carol.UIN, g, nobody)
		if id == "hk" {
			if len(where) != 1 {
				t.Errorf("hk: %v", where)
			}
			continue
		}
		if len(where) > 0 {
			t.Errorf("%s: %v", id, where)
		}
	}
	u.purge("sh", "ca")
	u.quit()
	for _, id := range []region.ID{"sh", "ca"} {
		if files := d.holds(t, id, "PLAINTEXT"); len(files) > 0 {
			t.Errorf("%s: %v", id, files)
		}
	}
	if len(d.holds(t, "hk", "from Bob PLAINTEXT")) == 0 {
		t.Error("the search finds nothing anywhere")
	}
}

// caughtUp wants every stream to be applied to its end.
func (u *universe) caughtUp() error {
	for _, from := range u.sites {
		for p := range partitions {
			for _, s := range from.store.Head(region.Partition(p)).Streams {
				for _, to := range u.sites {
					rows := s.Stream == journal.Shared && u.backup[from.id] != to.id || s.Stream == journal.Full && u.backup[from.id] == to.id
					if to == from || !rows && s.Stream != streamTo(to.id) {
						continue
					}
					if at, err := to.store.Position(ctx, from.id, s.Stream, region.Partition(p)); err != nil || at.Seq < s.Last {
						return fmt.Errorf("%s has %d of %d of %s's %s, %v", to.id, at.Seq, s.Last, from.id, s.Stream, err)
					}
				}
			}
		}
	}
	return nil
}

// An erasure that is cut off at any write is finished by whoever acts then.
func TestEraseCrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		for step := 1; ; step++ {
			k := &crash{step: step, after: after}
			t.Run(fmt.Sprintf("after=%v,step=%d", after, step), func(t *testing.T) { eraseCrash(t, k) })
			if t.Failed() {
				return
			}
			if !k.done {
				if step < 5 {
					t.Errorf("only %d writes", step)
				}
				break
			}
		}
	}
}

func eraseCrash(t *testing.T, k *crash) {
	u := newUniverseWith(t, inMemory, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	for i := range eraseRows/2 + 10 {
		u.send(alice, bob.UIN, fmt.Sprint(i), "text")
	}
	u.eventually("all is quiet", func() error { return u.caughtUp() })
	for _, s := range u.sites {
		s.store.mu.Lock()
		s.store.plan = k
		s.store.mu.Unlock()
	}
	u.retry(func() error {
		if err := u.erase(alice, true); region.KindOf(err) != region.Unauthenticated { // it was done, and the answer lost
			return err
		}
		return nil
	})
	for _, id := range []region.ID{"sh", "hk"} {
		u.eventually("no row is left", func() error { return u.wiped(id, alice) })
	}
	u.eventually("what she sent is empty", func() error {
		all, err := u.inbox(bob)
		if err != nil || len(all) != eraseRows/2+10 {
			return fmt.Errorf("%d, %v", len(all), err)
		}
		for _, m := range all {
			if !m.Recalled {
				return fmt.Errorf("%v", m)
			}
		}
		return nil
	})
}
