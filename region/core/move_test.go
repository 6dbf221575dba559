package core

import (
	"fmt"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// overlay is who lives outside their segment's region.
type overlay map[region.UIN]region.Moved

func (o overlay) Lookup(u region.UIN) (region.Moved, bool) { m, ok := o[u]; return m, ok }

// trySend writes a message to oneself, as a request that may be refused.
func (u *universe) trySend(in region.ID, who *user, id string) error {
	_, err := u.core(in).Send(ctx, who.Caller, &v1.SendRequest{To: uint64(who.UIN), ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: id}}})
	return err
}

// A user moves: nothing is acknowledged on the way, everything is there at the
// end, and what was sent to the old home arrives at the new one.
func TestMoveOfAUser(t *testing.T) {
	for name, e := range map[string]engine{"pebble": inPebble, "memory": inMemory} { // with flights, and without
		t.Run(name, func(t *testing.T) { moveOfAUser(t, e) })
	}
}

func moveOfAUser(t *testing.T, e engine) {
	u := newUniverseWith(t, e, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk", "ca")
	alice, bob := u.register("sh", "Alice"), u.register("ca", "Bob")
	for i := range 300 { // more than two pieces
		u.send(alice, alice.UIN, fmt.Sprint(i), fmt.Sprint("note ", i))
	}
	u.eventually("all is quiet", u.caughtUp)
	sh, hk := u.core("sh"), u.core("hk")

	m, err := sh.BeginMove(ctx, alice.UIN, "hk")
	must(t, err)
	for _, id := range []string{"early", "earlier"} { // the second with everything remembered
		if err := u.trySend("sh", alice, id); region.KindOf(err) != region.Unavailable {
			t.Errorf("a write in mid-move: %v", err)
		}
	}
	if again, err := sh.BeginMove(ctx, alice.UIN, "hk"); err != nil || again.Moves != 1 || again.Fence.Seq < m.Fence.Seq {
		t.Errorf("beginning again: %+v, %v", again, err)
	}
	if _, err := sh.BeginMove(ctx, alice.UIN, "ca"); region.KindOf(err) != region.Conflict {
		t.Errorf("beginning another move: %v", err)
	}
	must(t, sh.CallOff(ctx, m))
	must(t, u.trySend("sh", alice, "called off"))

	m, err = sh.BeginMove(ctx, alice.UIN, "hk")
	must(t, err)
	must(t, sh.MarkSent(ctx, m))
	if err := sh.CallOff(ctx, m); region.KindOf(err) != region.Conflict {
		t.Errorf("calling off what was sent: %v", err)
	}
	u.restart("sh") // the fence outlives the process
	sh = u.core("sh")
	if err := u.trySend("sh", alice, "early"); region.KindOf(err) != region.Unavailable {
		t.Errorf("a write in mid-move, after a restart: %v", err)
	}
	list, err := sh.Moving(ctx)
	must(t, err)
	if len(list) != 1 || list[0].Owner != alice.UIN || !list[0].Sent || list[0].Gone {
		t.Fatalf("unfinished: %+v", list)
	}
	if _, err := u.core("ca").Receive(ctx, alice.UIN, "hk", 1, nil); region.KindOf(err) != region.WrongRegion {
		t.Errorf("ca takes what is hk's: %v", err)
	}
	for _, arrived := range []bool{false, true} { // every step may be repeated
		var at region.Epoch
		must(t, sh.Rows(ctx, alice.UIN, func(rows []MovedRow) (err error) {
			at, err = hk.Receive(ctx, alice.UIN, "hk", 1, rows)
			return err
		}))
		if there, err := hk.Arrive(ctx, alice.UIN, "hk", 1, region.Epoch{}); err != nil || there.Missing == arrived {
			t.Errorf("rows of another term: %+v, %v", there, err)
		}
		there, err := hk.Arrive(ctx, alice.UIN, "hk", 1, at)
		if err != nil || there.Missing {
			t.Fatalf("arrival: %+v, %v", there, err)
		}
	}
	// Bob writes to where she lived, while the news travels.
	u.send(bob, alice.UIN, "late", "late")

	v := testWorld(2, nil, "sh", "hk", "ca")
	v.World.Regions[0].Acting.Counter, v.World.Regions[1].Acting.Counter, v.World.Regions[2].Acting.Counter = 1, 1, 1
	u.setWorld(region.NewView(v.World, u.view.Load().Hash, overlay{alice.UIN: {Home: "hk", Moves: 1}}))
	if err := u.trySend("sh", alice, "x"); region.KindOf(err) != region.WrongRegion {
		t.Errorf("the old home: %v", err)
	}
	alice.region = "hk"
	must(t, u.trySend("hk", alice, "new"))
	u.eventually("Bob's message arrives", func() error { return u.has(alice, "note 0", "note 299", "called off", "late", "new") })

	list, err = sh.Moving(ctx)
	must(t, err)
	if len(list) != 1 || !list[0].Gone {
		t.Fatalf("after the flip: %+v", list)
	}
	u.eventually("what is left goes", func() error { return sh.Depart(ctx, alice.UIN, 1) })
	u.eventually("all is quiet", u.caughtUp)
	rows := 0
	must(t, sh.eachRow(ctx, alice.UIN, func(r *store.Row) error {
		if r.Exists() && r.Table.Class() == journal.ClassOwn && r.Epoch.Moves == 0 {
			rows++
		}
		return nil
	}))
	if list, err := sh.Moving(ctx); err != nil || len(list) != 0 || rows != 0 {
		t.Errorf("%d rows and %+v are left: %v", rows, list, err)
	}
	for p := range region.Partition(partitions) { // hk is sh's backup, and the new home
		for _, home := range []region.ID{"sh", "hk"} {
			a, b := u.sites["sh"].store.Sums(p, home), u.sites["hk"].store.Sums(p, home)
			if home == "hk" { // sh has no full copy of it
				a.OwnSum, a.OwnRows, b.OwnSum, b.OwnRows = journal.Sum{}, 0, journal.Sum{}, 0
			}
			if a != b {
				t.Errorf("partition %d of %s: %+v and %+v", p, home, a, b)
			}
		}
	}
}
