package core

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func TestSyncPages(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	c := u.core("sh")
	const messages, contacts = 250, 40
	for i := range messages {
		u.send(alice, bob.UIN, fmt.Sprint(i), strings.Repeat("x", i*13%2000+1))
	}
	for i := range contacts {
		k := &v1.Contact{Uin: uint64(alice.UIN), Remark: fmt.Sprint("remark ", i), Removed: i%2 == 1}
		if _, err := c.SetContact(ctx, bob.Caller, &v1.SetContactRequest{Contact: k, IdempotencyKey: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	u.eventually("delivery", func() error {
		all, err := u.inbox(bob)
		if err == nil && len(all) != messages {
			err = fmt.Errorf("%d", len(all))
		}
		return err
	})
	for _, limit := range []uint32{1, 100, 5000, 0, 1 << 30} {
		var snapshot []byte
		seen, pages, accounts := uint64(0), 0, 0
		last := ""
		for more := true; more; pages++ {
			r, err := c.Sync(ctx, bob.Caller, &v1.SyncRequest{Snapshot: snapshot, MaxBytes: limit})
			if err != nil {
				t.Fatal(err)
			}
			if r.Full != (pages == 0) {
				t.Fatalf("page %d: full is %v", pages, r.Full)
			}
			items := len(r.Messages) + len(r.Contacts)
			if r.Account != nil {
				items, accounts = items+1, accounts+1
			}
			if size := proto.Size(r); size > max(int(limit), 2200)+200 && limit != 0 && limit < MaxPage {
				t.Fatalf("a page of %d bytes, asked for %d", size, limit)
			}
			if items == 0 && r.More {
				t.Fatal("an empty page with more to come")
			}
			for _, m := range r.Messages {
				if seen++; m.Sequence != seen {
					t.Fatalf("sequence %d, want %d", m.Sequence, seen)
				}
			}
			for _, k := range r.Contacts {
				last = k.Remark
			}
			snapshot, more = r.Snapshot, r.More
		}
		if seen != messages || accounts != 1 || last != fmt.Sprint("remark ", contacts-1) {
			t.Errorf("limit %d: %d messages, %d accounts, last contact %q", limit, seen, accounts, last)
		}
		if limit == 0 && pages > 2 {
			t.Errorf("%d pages for less than %d bytes", pages, MaxPage)
		}
	}
}

// Golden bytes of a snapshot: clients keep them for years.
const goldenSnapshot = "080110021803220801020304050607082805300638074081897a"

func TestSnapshotGolden(t *testing.T) {
	s := snapshot{owner: 2_000_001, epoch: region.Epoch{Moves: 2, Term: region.Term{Counter: 3, Raised: region.ShortHash{1, 2, 3, 4, 5, 6, 7, 8}}},
		account: 5, contacts: 6, messages: 7}
	b, err := s.encode()
	if err != nil || hex.EncodeToString(b) != goldenSnapshot {
		t.Errorf("%x, %v", b, err)
	}
	if got, ok := decodeSnapshot(b, 2_000_001); !ok || got != s {
		t.Errorf("%v, %v", got, ok)
	}
	if id := MessageID(1_000_001, "m1"); hex.EncodeToString(id[:]) != "38ddfaceeb8a2af8fce16c660ee4f355" {
		t.Errorf("message ID %x", id)
	}
}

// A snapshot nobody here understands starts over, and says so.
func TestSyncUnknownSnapshot(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	u.send(alice, alice.UIN, "1", "one")
	mine, err := u.core("sh").Sync(ctx, alice.Caller, &v1.SyncRequest{})
	if err != nil {
		t.Fatal(err)
	}
	his, err := u.core("sh").Sync(ctx, bob.Caller, &v1.SyncRequest{})
	if err != nil {
		t.Fatal(err)
	}
	later := func(edit func(*v1.Snapshot)) []byte {
		var s v1.Snapshot
		if err := proto.Unmarshal(mine.Snapshot, &s); err != nil {
			t.Fatal(err)
		}
		edit(&s)
		b, _ := proto.Marshal(&s)
		return b
	}
	for name, b := range map[string][]byte{
		"rubbish": []byte("rubbish"), "long": make([]byte, 5000), "another's": his.Snapshot, "another version": later(func(s *v1.Snapshot) { s.Version = 9 }),
	} {
		r, err := u.core("sh").Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: b})
		if err != nil || !r.Full || len(r.Messages) != 1 || r.Account == nil {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	_, err = u.core("sh").Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: later(func(s *v1.Snapshot) { s.Counter = 99 })})
	wantKind(t, err, region.Unavailable) // this region is behind
	_, err = u.core("sh").Sync(ctx, Caller{}, &v1.SyncRequest{})
	wantKind(t, err, region.Unauthenticated)
}

// TestSyncAcrossFailover: hk follows sh, then takes over with two messages
// missing. A client who saw all five goes on behind the last one hk knows, and
// sees what hk wrote under the same numbers.
func TestSyncAcrossFailover(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk", "ca")
	alice, bob, carol := u.register("sh", "Alice"), u.register("sh", "Bob"), u.register("ca", "Carol")
	for i := 1; i <= 3; i++ {
		u.send(alice, alice.UIN, fmt.Sprint(i), fmt.Sprint("note ", i))
	}
	at := region.PartitionOf(alice.UIN, partitions)
	u.eventually("hk follows", func() error {
		p, err := u.sites["hk"].store.Position(ctx, "sh", "full", at)
		if head := u.sites["sh"].store.Head(at); err == nil && p.Seq+1 != head.Next {
			err = fmt.Errorf("at %d of %d", p.Seq, head.Next)
		}
		return err
	})
	u.cut.Store(region.ID("sh"), true)
	u.send(alice, alice.UIN, "4", "note 4, lost")
	u.send(alice, alice.UIN, "5", "note 5, lost")
	before, err := u.core("sh").Sync(ctx, alice.Caller, &v1.SyncRequest{})
	if err != nil || len(before.Messages) != 5 {
		t.Fatal(before, err)
	}

	u.setWorld(testWorld(2, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk", "ca"))
	_, err = u.core("sh").Send(ctx, alice.Caller, textTo(bob.UIN, "6", "to the dead"))
	wantKind(t, err, region.WrongRegion)
	d, err := u.core("hk").Authenticate(ctx, alice.ticket)
	if err != nil || d.UIN != alice.UIN {
		t.Fatal(d, err)
	}
	for _, who := range []*user{alice, bob} {
		who.region = "hk"
	}
	if r := u.send(alice, alice.UIN, "3", "note 3"); !r.Repeated || r.Sequence != 3 {
		t.Errorf("a retried send is not known after the failover: %v", r)
	}
	if r := u.send(alice, alice.UIN, "5", "note 5, lost"); r.Repeated || r.Sequence != 4 {
		t.Errorf("a retried send that was lost: %v", r)
	}
	u.send(alice, bob.UIN, "6", "from the backup")
	u.send(carol, bob.UIN, "c", "from afar")
	u.eventually("commands to sh are executed by hk", func() error { return u.has(bob, "from the backup", "from afar") })
	after, err := u.core("hk").Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: before.Snapshot})
	if err != nil || after.Full || after.Account == nil {
		t.Fatal(after, err)
	}
	var got []string
	for _, m := range after.Messages {
		got = append(got, fmt.Sprint(m.Sequence, " ", m.Body.GetText()))
	}
	if want := "4 note 5, lost|5 from the backup"; strings.Join(got, "|") != want {
		t.Errorf("after the failover: %q", got)
	}
	early := snapshot{owner: alice.UIN, messages: 1}
	if s, ok := decodeSnapshot(before.Snapshot, alice.UIN); ok {
		early.epoch = s.epoch
	}
	b, _ := early.encode()
	r, err := u.core("hk").Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: b})
	if err != nil || len(r.Messages) != 4 || r.Messages[0].Sequence != 2 {
		t.Errorf("an older client: %v, %v", r, err)
	}
}

func FuzzSnapshot(f *testing.F) {
	b, _ := hex.DecodeString(goldenSnapshot)
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := decodeSnapshot(b, 2_000_001)
		if !ok {
			return
		}
		again, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := decodeSnapshot(again, 2_000_001); !ok || r != s {
			t.Fatalf("%v became %v", s, r)
		}
	})
}
