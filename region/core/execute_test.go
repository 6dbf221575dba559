package core

import (
	"fmt"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
)

// foreign makes a batch of region hk's, owned by a user of it.
type foreign struct {
	owner region.UIN
	seq   uint64
}

func (f *foreign) batch(commands ...journal.Command) *journal.Batch {
	b := &journal.Batch{Origin: "hk", Partition: 1, Incarnation: 1, Owner: f.owner, Home: "hk", UnixMilli: 1}
	for _, c := range commands {
		f.seq++
		b.Records = append(b.Records, journal.Record{Seq: f.seq, Kind: journal.KindCommand, Command: &c})
	}
	return b
}

func message(sender, to region.UIN, id, text string) *v1.Message {
	mid := MessageID(sender, id)
	return &v1.Message{Id: mid[:], Sender: uint64(sender), To: uint64(to), ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: text}}}
}

func appendCommand(t testing.TB, m *v1.Message, target region.UIN) journal.Command {
	b, err := marshal(&v1.Append{Message: m})
	if err != nil {
		t.Fatal(err)
	}
	return journal.Command{ID: journal.CommandID(m.Id), To: "sh", Target: target, Method: uint16(methodAppend), Payload: b}
}

func TestExecuteInOneCommit(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	bob := u.register("sh", "Bob")
	u.eventually("a spare range", u.hasSpare)
	f := &foreign{owner: 2_000_001}
	var batches []*journal.Batch
	var want []string
	for i := range 100 {
		text := fmt.Sprint("text ", i)
		batches, want = append(batches, f.batch(appendCommand(t, message(f.owner, bob.UIN, text, text), bob.UIN))), append(want, text)
	}
	s := u.sites["sh"].store
	ofBob := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.of[bob.UIN]
	}
	before := ofBob()
	if err := u.core("sh").Execute(ctx, batches); err != nil {
		t.Fatal(err)
	}
	if n := ofBob() - before; n != 1 {
		t.Errorf("%d commits", n)
	}
	if err := u.has(bob, want...); err != nil {
		t.Fatal(err)
	}
	all, _ := u.inbox(bob)
	for i, m := range all {
		if m.Body.GetText() != want[i] {
			t.Fatalf("message %d is %q", i, m.Body.GetText())
		}
	}
}

// What can never be applied is kept and blocks nobody; and no region speaks in
// the name of another's user.
func TestDeadLetters(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	bob := u.register("sh", "Bob")
	c := u.core("sh")
	f := &foreign{owner: 2_000_001}
	good := func(id string) journal.Command { return appendCommand(t, message(f.owner, bob.UIN, id, id), bob.UIN) }
	edit := func(k journal.Command, f func(*journal.Command)) journal.Command { f(&k); return k }
	deliver := func(p *v1.GroupDeliver) journal.Command {
		b, err := marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return journal.Command{To: "sh", Method: uint16(methodGroupDeliver), Payload: b}
	}
	large := message(f.owner, bob.UIN, "x", strings.Repeat("x", maxBody+1))
	bad := map[string]journal.Command{
		"an unknown method":       edit(good("x"), func(k *journal.Command) { k.Method = 999 }),
		"no protobuf":             edit(good("x"), func(k *journal.Command) { k.Payload = []byte("rubbish") }),
		"nothing":                 edit(good("x"), func(k *journal.Command) { k.Payload = nil }),
		"another's name":          appendCommand(t, message(2_000_002, bob.UIN, "x", "x"), bob.UIN),
		"another's ID":            edit(appendCommand(t, &v1.Message{Id: make([]byte, 16), Sender: uint64(f.owner), To: uint64(bob.UIN), ClientMessageId: "x", Body: large.Body}, bob.UIN), func(*journal.Command) {}),
		"another target":          appendCommand(t, message(f.owner, bob.UIN+1, "x", "x"), bob.UIN),
		"no target":               appendCommand(t, message(f.owner, bob.UIN, "x", "x"), 0),
		"too large":               appendCommand(t, large, bob.UIN),
		"another's group":         deliver(&v1.GroupDeliver{Group: 2_000_009, Message: message(f.owner, 2_000_009, "x", "x"), Members: []uint64{uint64(bob.UIN)}}),
		"a group without members": deliver(&v1.GroupDeliver{Group: uint64(f.owner), Message: message(f.owner, f.owner, "x", "x")}),
		"a member twice":          deliver(&v1.GroupDeliver{Group: uint64(f.owner), Message: message(f.owner, f.owner, "x", "x"), Members: []uint64{uint64(bob.UIN), uint64(bob.UIN)}}),
		"in no segment":           appendCommand(t, message(f.owner, 5, "x", "x"), 5),
	}
	for name, k := range bad {
		if err := c.Execute(ctx, []*journal.Batch{f.batch(good("before "+name), k, good("after "+name))}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := u.has(bob, "before "+name, "after "+name); err != nil {
			t.Errorf("%s blocks others: %v", name, err)
		}
	}
	if all, _ := u.inbox(bob); len(all) != 2*len(bad) {
		t.Errorf("%d messages, want %d", len(all), 2*len(bad))
	}
	kept := 0
	if err := u.sites["sh"].store.Scan(ctx, bob.UIN, tableDeadLetter, scanAll, countRows(&kept)); err != nil {
		t.Fatal(err)
	}
	if err := u.sites["sh"].store.Scan(ctx, nobody, tableLostLetter, scanAll, countRows(&kept)); err != nil {
		t.Fatal(err)
	}
	if kept != len(bad) {
		t.Errorf("%d dead letters for %d bad commands", kept, len(bad))
	}
	counted := 0.0
	for _, m := range []string{"append", "group-deliver", "unknown"} {
		var metric dto.Metric
		if err := c.m.commands.WithLabelValues(m, dead).Write(&metric); err != nil {
			t.Fatal(err)
		}
		counted += metric.GetCounter().GetValue()
	}
	if int(counted) != len(bad) {
		t.Errorf("counted %v", counted)
	}
}

// A command whose target is another region's now waits until the world says
// otherwise.
func TestExecuteElsewhere(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	bob := u.register("sh", "Bob")
	f := &foreign{owner: 2_000_001}
	b := []*journal.Batch{f.batch(appendCommand(t, message(f.owner, bob.UIN, "x", "x"), bob.UIN))}
	u.setWorld(testWorld(2, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk"))
	wantKind(t, u.core("sh").Execute(ctx, b), region.Unavailable)
	u.setWorld(testWorld(3, nil, "sh", "hk"))
	if err := u.core("sh").Execute(ctx, b); err != nil {
		t.Fatal(err)
	}
	if err := u.has(bob, "x"); err != nil {
		t.Error(err)
	}
}

func TestNotAdmitting(t *testing.T) {
	u := newUniverse(t, "sh")
	alice := u.register("sh", "Alice")
	c := u.core("sh")
	u.fenced.Store(true)
	_, err := c.Send(ctx, alice.Caller, textTo(alice.UIN, "1", "x"))
	wantKind(t, err, region.Unavailable)
	_, err = c.Register(ctx, Caller{}, &v1.RegisterRequest{Nickname: "x", DeviceKey: make([]byte, 32), IdempotencyKey: "x"})
	wantKind(t, err, region.Unavailable)
	if _, err := c.Sync(ctx, alice.Caller, &v1.SyncRequest{}); err != nil {
		t.Errorf("reading: %v", err)
	}
}

func TestRevokedDevice(t *testing.T) {
	u := newUniverse(t, "sh")
	alice := u.register("sh", "Alice")
	c := u.core("sh")
	if _, err := c.Authenticate(ctx, alice.ticket); err != nil {
		t.Fatal(err)
	}
	err := c.mutate(ctx, alice.UIN, func(t *txn) error {
		if _, err := t.get(tableDevice, alice.DeviceKeyID[:]); err != nil {
			return err
		}
		return t.save(tableDevice, alice.DeviceKeyID[:], &v1.DeviceRow{Revoked: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Authenticate(ctx, alice.ticket)
	wantKind(t, err, region.Unauthenticated)
}

func FuzzParse(f *testing.F) {
	k := appendCommand(f, message(2_000_001, 1_000_001, "x", "x"), 1_000_001)
	f.Add(uint16(1), k.Payload, uint64(1_000_001), uint64(2_000_001))
	for m := range uint16(7) {
		f.Add(m, []byte{}, uint64(0), uint64(0))
	}
	f.Fuzz(func(t *testing.T, m uint16, payload []byte, target, owner uint64) {
		ops, order, err := parse(origin{region: "hk", owner: region.UIN(owner)}, &journal.Command{To: "sh", Target: region.UIN(target), Method: m, Payload: payload})
		if err != nil {
			return
		}
		if len(ops) != len(order) || len(ops) == 0 || len(ops) > MaxMembers+1 {
			t.Fatalf("%d operations, %d targets", len(ops), len(order))
		}
		for _, u := range order {
			o := ops[u]
			n := 0
			for _, set := range []bool{o.message != nil, o.create != nil, o.change != nil} {
				if set {
					n++
				}
			}
			if u == 0 || n != 1 {
				t.Fatalf("target %d: %+v", u, o)
			}
		}
	})
}
