package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// strait is the way between two regions of a universe, with what a test does to it.
type strait struct {
	u       *universe
	to      region.ID
	late    bool // rows are received at another term than that of the arrival
	down    bool
	sent    int // pieces
	flipped int
}

func (s *strait) Receive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, rows []MovedRow) (region.Epoch, error) {
	if s.down {
		return region.Epoch{}, errors.New("down")
	}
	s.sent++
	e, err := s.u.core(s.to).Receive(ctx, owner, home, moves, rows)
	if s.late {
		s.late, e.Term.Counter = false, e.Term.Counter+1
	}
	return e, err
}

func (s *strait) Arrive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, sent region.Epoch) (Arrival, error) {
	return s.u.core(s.to).Arrive(ctx, owner, home, moves, sent)
}

func (s *strait) HeldUpTo(_ context.Context, home region.ID, p region.Partition, m Mark) (bool, error) {
	return s.u.core(s.to).HeldUpTo(home, p, m), nil
}

func (s *strait) Flip(_ context.Context, m Move) error {
	s.flipped++
	v := testWorld(2, nil, "sh", "hk", "ca")
	for i := range v.World.Regions {
		v.World.Regions[i].Acting.Counter = 1
	}
	s.u.setWorld(region.NewView(v.World, s.u.view.Load().Hash, overlay{m.Owner: {Home: m.To, Moves: m.Moves}}))
	return nil
}

// A move takes its steps in order: nothing is sent before the backup has the fence,
// rows that came at another term are sent again before the owner is given away, and
// what is left goes last.
func TestCarry(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"sh": "hk", "ca": "hk"}, "sh", "hk", "ca")
	alice := u.register("sh", "Alice")
	u.send(alice, alice.UIN, "1", "note")
	u.eventually("all is quiet", u.caughtUp)
	sh := u.core("sh")

	u.cut.Store(region.ID("sh"), true) // its backup hears nothing
	m, err := sh.BeginMove(ctx, alice.UIN, "ca")
	must(t, err)
	way, c := &strait{u: u, to: "ca", down: true}, &Carriage{Move: m}
	for range 3 {
		if p, err := sh.Carry(ctx, way, c); p != Waiting || err != nil || c.Sent || way.sent > 0 {
			t.Fatalf("without its fence at the backup: %v, %v, %+v", p, err, c)
		}
	}
	u.cut.Delete(region.ID("sh"))
	u.setWorld(u.view.Load()) // wakes who carries
	u.eventually("the fence is backed up", func() error {
		if p, err := sh.Carry(ctx, way, c); p != Moved || err != nil {
			return errors.Join(err, errors.New("waiting"))
		}
		return nil
	})
	if _, err := sh.Carry(ctx, way, c); err == nil || way.flipped > 0 {
		t.Fatalf("rows were sent to who is down: %v", err)
	}
	way.down, way.late = false, true
	for way.flipped == 0 {
		if p, err := sh.Carry(ctx, way, c); p != Moved || err != nil {
			t.Fatalf("%v, %v", p, err)
		}
	}
	if way.sent != 2 {
		t.Errorf("rows that came at another term were sent %d times, want 2", way.sent)
	}
	alice.region = "ca"
	must(t, u.has(alice, "note"))
	u.eventually("nothing is left", func() error {
		if p, err := sh.Carry(ctx, way, c); p != Ended || err != nil {
			return errors.Join(err, errors.New("not ended"))
		}
		return nil
	})
	if list, err := sh.Moving(ctx); err != nil || len(list) > 0 || way.flipped != 1 {
		t.Errorf("in the end: %v, %v, %d flips", list, err, way.flipped)
	}
}

// A fence that only a tail knows of holds from when the tail is merged, though the
// owner was written here since: what is written behind it would stay here.
func TestFenceInATail(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice := u.register("sh", "Alice")
	u.send(alice, alice.UIN, "1", "note")
	tail := u.failOver("sh", "hk", alice, func() {
		_, err := u.core("sh").BeginMove(ctx, alice.UIN, "hk")
		must(t, err)
	})
	must(t, u.trySend("hk", alice, "2"))
	_, err := u.core("hk").Merge(ctx, tail)
	must(t, err)
	if list, err := u.core("hk").Moving(ctx); err != nil || len(list) != 1 {
		t.Fatalf("moves of the successor: %v, %v", list, err)
	}
	if err := u.trySend("hk", alice, "3"); region.KindOf(err) != region.Unavailable {
		t.Errorf("a write behind the fence: %v", err)
	}
	if err := u.core("hk").CallOff(ctx, Move{Owner: alice.UIN, To: "hk", Moves: 1}); err != nil {
		t.Errorf("a fence of this region's own: %v", err)
	}
	must(t, u.trySend("hk", alice, "4"))
}

// Who moves to a home whose second copy is at the old one leaves nothing in the old
// home's own backup, although the new copies took the place of the rows, and of the
// state of the move, before anybody could say that they are gone.
func TestMoveToWhomTheOldHomeBacks(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"ca": "hk", "sh": "ca"}, "sh", "hk", "ca")
	alice := u.register("ca", "Alice")
	u.send(alice, alice.UIN, "1", "note")
	u.eventually("all is quiet", u.caughtUp)
	ca := u.core("ca")
	m, err := ca.BeginMove(ctx, alice.UIN, "sh")
	must(t, err)
	way, c := &strait{u: u, to: "sh"}, &Carriage{Move: m}
	u.eventually("she lives in sh", func() error {
		if _, err := ca.Carry(ctx, way, c); err != nil || way.flipped == 0 {
			return errors.Join(err, errors.New("not yet"))
		}
		return nil
	})
	u.eventually("all is quiet", u.caughtUp)
	for again := range 2 { // whoever carries it on knows no more than what is stored
		c = nil
		u.eventually("nothing is left", func() error {
			list, err := ca.Moving(ctx)
			if err != nil || len(list) == 0 {
				return err
			}
			if again > 0 {
				t.Fatalf("what has ended goes on: %+v", list)
			}
			if c == nil {
				c = &Carriage{Move: list[0]}
			}
			_, err = ca.Carry(ctx, way, c)
			return errors.Join(err, errors.New("not ended"))
		})
	}
	u.eventually("all is quiet", u.caughtUp)
	alice.region = "sh"
	must(t, u.has(alice, "note"))
	for table := range journal.Table(200) {
		var here, there []string
		rows := func(id region.ID, out *[]string) {
			must(t, u.sites[id].store.Scan(ctx, alice.UIN, table, store.Range{Limit: 1000}, func(r *store.Row) bool {
				*out = append(*out, fmt.Sprintf("%x %s %x", r.Row, r.Epoch, r.Value))
				return true
			}))
		}
		if rows("hk", &here); table.Class() == journal.ClassOwn && len(here) > 0 {
			t.Errorf("hk has of table %d: %v", table, here)
		}
		here = nil
		rows("sh", &here)
		if rows("ca", &there); !slices.Equal(here, there) {
			t.Errorf("table %d: sh has %v, its backup %v", table, here, there)
		}
	}
}

// What a tail tells of a move is no more of use when the owner has moved: it holds
// nothing up at who took the old home over and may not write the owner any more.
func TestTailOfWhoHasMoved(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk", "ca")
	alice := u.register("sh", "Alice")
	u.send(alice, alice.UIN, "1", "note")
	tail := u.failOver("sh", "hk", alice, func() {
		m, err := u.core("sh").BeginMove(ctx, alice.UIN, "ca")
		must(t, err)
		must(t, u.core("sh").MarkSent(ctx, m))
	})
	v := testWorld(3, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk", "ca")
	u.setWorld(region.NewView(v.World, u.view.Load().Hash, overlay{alice.UIN: {Home: "ca", Moves: 1}}))
	if outcomes, err := u.core("hk").Merge(ctx, tail); err != nil || len(outcomes) != 2 || outcomes[0] != TailKnown || outcomes[1] != TailKnown {
		t.Fatalf("the fence and that rows were sent: %v, %v", outcomes, err)
	}
	// Anything else of hers is not taken for known.
	other := *tail[0]
	other.Records = append([]journal.Record(nil), other.Records...)
	row := *other.Records[0].Row
	row.Table = tableSetting
	other.Records[0].Row = &row
	if _, err := u.core("hk").Merge(ctx, []*journal.Batch{&other}); region.KindOf(err) != region.WrongRegion {
		t.Errorf("a setting of hers: %v", err)
	}
}

// A successor sends nothing on the strength of a fence that another region wrote: it
// writes its own, and that goes to its backup first.
func TestFenceOfTheRegionBefore(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice := u.register("sh", "Alice")
	u.send(alice, alice.UIN, "1", "note")
	_, err := u.core("sh").BeginMove(ctx, alice.UIN, "hk")
	must(t, err)
	u.failOver("sh", "hk", alice, func() {})
	hk := u.core("hk")
	list, err := hk.Moving(ctx)
	if must(t, err); len(list) != 1 {
		t.Fatalf("moves of the successor: %+v", list)
	}
	m := list[0]
	for again := range 2 {
		before := m.Fence
		must(t, hk.fenceHere(ctx, &m))
		p, _ := u.view.Load().Placement(alice.UIN)
		if r, err := u.sites["hk"].store.Get(ctx, alice.UIN, tableMove, keySingle); err != nil || r.Epoch != p.Epoch {
			t.Errorf("the fence is of %s, %v; the owner's epoch is %s", r.Epoch, err, p.Epoch)
		}
		if (m.Fence == before) != (again == 1) {
			t.Errorf("fenced %d times before: %+v, then %+v", again, before, m.Fence)
		}
	}
}
