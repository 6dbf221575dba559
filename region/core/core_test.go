package core

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

var ctx = context.Background()

func TestMessageWithinARegion(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	r := u.send(alice, bob.UIN, "m1", "hello")
	if r.Sequence != 1 || r.Repeated || len(r.Id) != 16 {
		t.Fatalf("answer %v", r)
	}
	u.eventually("delivery", func() error { return u.has(bob, "hello") })
	if err := u.has(alice, "hello"); err != nil {
		t.Fatal(err)
	}
	heard := u.sites["sh"].heard
	u.eventually("notice", func() error {
		if heard.seen(bob.UIN) != 1 || heard.seen(alice.UIN) != 1 {
			return fmt.Errorf("newest heard: %d and %d", heard.seen(bob.UIN), heard.seen(alice.UIN))
		}
		return nil
	})
}

func TestMessageToOneself(t *testing.T) {
	u := newUniverse(t, "sh")
	alice := u.register("sh", "Alice")
	u.send(alice, alice.UIN, "m1", "note")
	if err := u.has(alice, "note"); err != nil {
		t.Fatal(err)
	}
	if head := u.sites["sh"].store.Head(region.PartitionOf(alice.UIN, partitions)); len(head.Streams) > 2 {
		t.Errorf("a command left: %v", head.Streams)
	}
}

func TestMessageAcrossRegions(t *testing.T) {
	for name, e := range map[string]engine{"pebble": inPebble, "disk": onDisk, "memory": inMemory} {
		t.Run(name, func(t *testing.T) { testMessageAcrossRegions(t, e) })
	}
}

func testMessageAcrossRegions(t *testing.T, e engine) {
	u := newUniverseWith(t, e, nil, "sh", "hk", "ca")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	var want []string
	for i := range 30 {
		text := fmt.Sprintf("message %d", i)
		u.send(alice, bob.UIN, text, text)
		want = append(want, text)
	}
	u.eventually("delivery", func() error { return u.has(bob, want...) })
	all, _ := u.inbox(bob)
	for i, m := range all {
		if m.Body.GetText() != want[i] {
			t.Fatalf("message %d is %q", i, m.Body.GetText())
		}
	}
}

// maxMessageBytes is what a 1:1 message of 128 bytes may take in rows and
// commands; it takes 580.
const maxMessageBytes = 600

// The bound: five rows or fewer for a 1:1 message.
func TestRowsPerMessage(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	u.eventually("a spare range", u.hasSpare)
	s := u.sites["sh"].store
	s.mu.Lock()
	s.rows, s.bytes, s.commits = 0, 0, 0
	s.mu.Unlock()
	text := strings.Repeat("x", 128)
	u.send(alice, bob.UIN, "m1", text)
	u.eventually("delivery", func() error { return u.has(bob, text) })
	u.eventually("both commits are counted", func() error { // after they can be read
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.commits < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows != 5 || s.commits != 2 {
		t.Errorf("%d rows and commands in %d commits; want 2 rows and a command, then 2 rows", s.rows, s.commits)
	}
	t.Logf("%d rows and commands, %d bytes of keys, values and payloads", s.rows, s.bytes)
	if s.bytes > maxMessageBytes {
		t.Errorf("%d bytes of keys, values and payloads for a message of 128; want %d at most", s.bytes, maxMessageBytes)
	}
}

func TestRetriedSend(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob, carol := u.register("sh", "Alice"), u.register("sh", "Bob"), u.register("sh", "Carol")
	first := u.send(alice, bob.UIN, "m1", "hello")
	again := u.send(alice, bob.UIN, "m1", "hello")
	if !again.Repeated || again.Sequence != first.Sequence || string(again.Id) != string(first.Id) || again.SentUnixMilli != first.SentUnixMilli {
		t.Fatalf("first %v, again %v", first, again)
	}
	_, err := u.core("sh").Send(ctx, alice.Caller, textTo(bob.UIN, "m1", "other"))
	wantKind(t, err, region.Conflict)
	_, err = u.core("sh").Send(ctx, alice.Caller, textTo(carol.UIN, "m1", "hello"))
	wantKind(t, err, region.Conflict)
	u.restart("sh")
	if r := u.send(alice, bob.UIN, "m1", "hello"); !r.Repeated {
		t.Fatalf("forgotten after a restart: %v", r)
	}
	u.eventually("delivery", func() error { return u.has(bob, "hello") })
	if all, _ := u.inbox(bob); len(all) != 1 {
		t.Fatalf("%d messages", len(all))
	}
}

func TestSendRefuses(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice := u.register("sh", "Alice")
	text := func(s string) *v1.Body { return &v1.Body{Kind: &v1.Body_Text{Text: s}} }
	for _, c := range []struct {
		name string
		by   Caller
		r    *v1.SendRequest
		want region.Kind
	}{
		{"nobody", Caller{}, textTo(alice.UIN, "m", "x"), region.Unauthenticated},
		{"another region's user", Caller{UIN: 2_000_001}, textTo(alice.UIN, "m", "x"), region.WrongRegion},
		{"no target", alice.Caller, &v1.SendRequest{ClientMessageId: "m", Body: text("x")}, region.BadInput},
		{"two targets", alice.Caller, &v1.SendRequest{To: 1, ToHandle: "bob", ClientMessageId: "m", Body: text("x")}, region.BadInput},
		{"a handle that is none", alice.Caller, &v1.SendRequest{ToHandle: "@bob", ClientMessageId: "m", Body: text("x")}, region.BadInput},
		{"nobody's handle", alice.Caller, &v1.SendRequest{ToHandle: "bob", ClientMessageId: "m", Body: text("x")}, region.NotFound},
		{"in no segment", alice.Caller, textTo(99, "m", "x"), region.NotFound},
		{"nobody here", alice.Caller, textTo(1_900_000, "m", "x"), region.NotFound},
		{"no ID", alice.Caller, textTo(alice.UIN, "", "x"), region.BadInput},
		{"long ID", alice.Caller, textTo(alice.UIN, strings.Repeat("m", 65), "x"), region.BadInput},
		{"no body", alice.Caller, &v1.SendRequest{To: uint64(alice.UIN), ClientMessageId: "m"}, region.BadInput},
		{"no text", alice.Caller, textTo(alice.UIN, "m", ""), region.BadInput},
		{"long text", alice.Caller, textTo(alice.UIN, "m", strings.Repeat("x", MaxText+1)), region.TooLarge},
		{"not UTF-8", alice.Caller, textTo(alice.UIN, "m", "\xff"), region.BadInput},
		{"system", alice.Caller, &v1.SendRequest{To: uint64(alice.UIN), ClientMessageId: "m", Body: &v1.Body{Kind: &v1.Body_System{System: &v1.System{Event: "x"}}}}, region.BadInput},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := u.core("sh").Send(ctx, c.by, c.r)
			if c.name == "nobody's handle" { // the directory's own words
				if region.KindOf(err) != c.want {
					t.Fatal(err)
				}
				return
			}
			wantKind(t, err, c.want)
		})
	}
	if all, err := u.inbox(alice); err != nil || len(all) != 0 {
		t.Errorf("a refused message left %v, %v", all, err)
	}
}

// A target of another region that does not exist is accepted, since only its
// home can tell; the sender hears of it.
func TestUndelivered(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice := u.register("sh", "Alice")
	u.send(alice, 2_900_000, "m1", "anybody there?")
	u.eventually("the sender is told", func() error { return u.has(alice, "anybody there?", "/undelivered") })
	all, _ := u.inbox(alice)
	if n := all[1]; n.Sender != 2_900_000 || n.ClientMessageId != "undelivered/m1" {
		t.Errorf("notice %v", n)
	}
	n := 0
	if err := u.sites["hk"].store.Scan(ctx, 2_900_000, tableDeadLetter, scanAll, countRows(&n)); err != nil || n != 1 {
		t.Errorf("%d dead letters, %v", n, err)
	}
}

func TestRegister(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	c := u.core("sh")
	key := seededKey("phone").Public().(ed25519.PublicKey)
	ask := func(k, name string) (*v1.RegisterResponse, error) {
		return c.Register(ctx, Caller{}, &v1.RegisterRequest{Nickname: name, DeviceKey: key, Platform: "ios", IdempotencyKey: k})
	}
	first, err := ask("a", "Alice")
	if err != nil {
		t.Fatal(err)
	}
	again, err := ask("a", "Alice")
	if err != nil || again.Uin != first.Uin {
		t.Fatalf("again %v, %v", again, err)
	}
	other, err := ask("b", "Alice")
	if err != nil || other.Uin == first.Uin {
		t.Fatalf("another key gave %v, %v", other, err)
	}
	if first.Uin < 1_000_001 || first.Uin > 1_999_999 || first.Region != "sh" {
		t.Errorf("answer %v", first)
	}
	d, err := c.Authenticate(ctx, first.Ticket)
	if err != nil || d.UIN != region.UIN(first.Uin) || string(d.PublicKey) != string(key) || d.KeyID != wire.KeyID(key) {
		t.Fatalf("device %v, %v", d, err)
	}
	if _, err := u.core("hk").Authenticate(ctx, first.Ticket); region.KindOf(err) != region.WrongRegion {
		t.Errorf("in the wrong region: %v", err)
	}
	for name, r := range map[string]*v1.RegisterRequest{
		"no name":   {DeviceKey: key, IdempotencyKey: "x"},
		"long name": {Nickname: strings.Repeat("x", 65), DeviceKey: key, IdempotencyKey: "x"},
		"control":   {Nickname: "a\x07", DeviceKey: key, IdempotencyKey: "x"},
		"short key": {Nickname: "a", DeviceKey: key[:31], IdempotencyKey: "x"},
		"no retry":  {Nickname: "a", DeviceKey: key},
		"platform":  {Nickname: "a", DeviceKey: key, IdempotencyKey: "x", Platform: strings.Repeat("x", 17)},
	} {
		_, err := c.Register(ctx, Caller{}, r)
		if region.KindOf(err) != region.BadInput {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A region that is cut off from ids goes on registering out of its spare range
// (guarantee 7, beyond what it asks).
func TestRegisterWhileCutOff(t *testing.T) {
	u := newUniverse(t, "sh")
	u.register("sh", "first")
	u.eventually("a spare range", u.hasSpare)
	u.ids.cut(true)
	seen := map[region.UIN]bool{}
	for i := range 250 { // a range is 200
		who := u.register("sh", fmt.Sprint("user ", i))
		if seen[who.UIN] {
			t.Fatalf("UIN %d twice", who.UIN)
		}
		seen[who.UIN] = true
		if i == 100 {
			u.restart("sh") // loses the rest of a lease, and gives nothing out twice
		}
	}
}

func TestLogin(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	c := u.core("sh")
	challenge := func(who *user) []byte {
		r, err := c.Challenge(ctx, Caller{}, &v1.ChallengeRequest{Uin: uint64(who.UIN), DeviceKeyId: who.DeviceKeyID[:]})
		if err != nil || len(r.Nonce) != 32 || r.Region != "sh" {
			t.Fatal(r, err)
		}
		return r.Nonce
	}
	login := func(who *user, nonce []byte, key ed25519.PrivateKey) error {
		r, err := c.Login(ctx, Caller{}, &v1.LoginRequest{Uin: uint64(who.UIN), DeviceKeyId: who.DeviceKeyID[:], Nonce: nonce,
			Signature: ed25519.Sign(key, wire.LoginProof("sh", who.UIN, nonce))})
		if err == nil {
			_, err = c.Authenticate(ctx, r.Ticket)
		}
		return err
	}
	n := challenge(alice)
	wantKind(t, login(alice, n, bob.key), region.Unauthenticated) // not her key
	wantKind(t, login(bob, n, bob.key), region.Unauthenticated)   // not his nonce
	if err := login(alice, n, alice.key); err != nil {
		t.Fatal(err)
	}
	wantKind(t, login(alice, n, alice.key), region.Unauthenticated) // used
	n = challenge(alice)
	u.ahead.Add(int64(nonceLife))
	wantKind(t, login(alice, n, alice.key), region.Unauthenticated) // old
	forged := challenge(alice)
	forged[3] ^= 1
	wantKind(t, login(alice, forged, alice.key), region.Unauthenticated)
	stranger := &user{Caller: Caller{UIN: alice.UIN, DeviceKeyID: [8]byte{9}}}
	wantKind(t, login(stranger, challenge(stranger), alice.key), region.Unauthenticated)
	u.ahead.Add(int64(25 * time.Hour))
	_, err := c.Authenticate(ctx, alice.ticket)
	wantKind(t, err, region.Unauthenticated)
	if err := login(alice, challenge(alice), alice.key); err != nil { // renewal without the old ticket
		t.Fatal(err)
	}
}

func TestProfileHandleContacts(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	c := u.core("sh")
	rename := func(key, name string) error {
		_, err := c.UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{Nickname: name, IdempotencyKey: key})
		return err
	}
	if err := rename("1", "Alicia"); err != nil {
		t.Fatal(err)
	}
	if err := rename("2", "Ally"); err != nil {
		t.Fatal(err)
	}
	if err := rename("1", "Alicia"); err != nil { // a late repeat has no effect
		t.Fatal(err)
	}
	wantKind(t, rename("1", "Eve"), region.Conflict)
	if _, err := c.ClaimHandle(ctx, alice.Caller, &v1.ClaimHandleRequest{Handle: "alice", IdempotencyKey: "h"}); err != nil {
		t.Fatal(err)
	}
	_, err := u.core("hk").ClaimHandle(ctx, bob.Caller, &v1.ClaimHandleRequest{Handle: "alice", IdempotencyKey: "h"})
	wantKind(t, err, region.Conflict)
	_, err = c.ClaimHandle(ctx, alice.Caller, &v1.ClaimHandleRequest{Handle: "alice2", IdempotencyKey: "h2"})
	wantKind(t, err, region.Conflict)
	if u.ids.handles["alice2"] != 0 {
		t.Error("a handle was taken for a claim that was refused")
	}
	u.eventually("the account in hk", func() error {
		r, err := u.core("hk").Resolve(ctx, bob.Caller, &v1.ResolveRequest{Handle: "alice"})
		if err == nil && (r.Account.Nickname != "Ally" || r.Account.Handle != "alice" || r.Account.Home != "sh" || r.Account.Uin != uint64(alice.UIN)) {
			err = fmt.Errorf("%v", r.Account)
		}
		return err
	})
	resp, err := u.core("hk").Send(ctx, bob.Caller, &v1.SendRequest{ToHandle: "alice", ClientMessageId: "1", Body: &v1.Body{Kind: &v1.Body_Text{Text: "by handle"}}})
	if err != nil || resp.Sequence != 1 {
		t.Fatal(resp, err)
	}
	u.eventually("delivery", func() error { return u.has(alice, "by handle") })

	contact := func(key string, k *v1.Contact) {
		t.Helper()
		if _, err := c.SetContact(ctx, alice.Caller, &v1.SetContactRequest{Contact: k, IdempotencyKey: key}); err != nil {
			t.Fatal(err)
		}
	}
	contact("c1", &v1.Contact{Uin: uint64(bob.UIN), Remark: "Bobby"})
	s1, err := c.Sync(ctx, alice.Caller, &v1.SyncRequest{})
	if err != nil || !s1.Full || s1.Account.GetNickname() != "Ally" || len(s1.Contacts) != 1 || s1.Contacts[0].Remark != "Bobby" {
		t.Fatal(s1, err)
	}
	contact("c2", &v1.Contact{Uin: uint64(bob.UIN), Removed: true})
	s2, err := c.Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: s1.Snapshot})
	if err != nil || s2.Full || s2.Account != nil || len(s2.Messages) != 0 || len(s2.Contacts) != 1 || !s2.Contacts[0].Removed {
		t.Fatal(s2, err)
	}
	s3, err := c.Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: s2.Snapshot})
	if err != nil || s3.More || len(s3.Contacts) != 0 || string(s3.Snapshot) != string(s2.Snapshot) {
		t.Fatal(s3, err)
	}
}
