package core

import (
	"context"
	"fmt"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
)

func (u *universe) letters(id region.ID, page int) []Letter {
	u.t.Helper()
	var all []Letter
	var after LetterID
	for {
		l, err := u.core(id).Letters(ctx, after, page)
		must(u.t, err)
		if all = append(all, l...); len(l) < page {
			return all
		}
		after = l[len(l)-1].ID
	}
}

// Commands that cannot be executed are kept and listed, hold up nobody, not even
// their owner; and one whose reason has gone is executed.
func TestLetters(t *testing.T) {
	for name, e := range map[string]engine{"pebble": inPebble, "memory": inMemory} {
		t.Run(name, func(t *testing.T) { testLetters(t, newUniverseWith(t, e, nil, "sh", "hk")) })
	}
}

func testLetters(t *testing.T, u *universe) {
	bob, carol := u.register("sh", "Bob"), u.register("sh", "Carol")
	c := u.core("sh")
	const stranger = region.UIN(1_000_777) // nobody has this number yet
	f := &foreign{owner: 2_000_001}
	unknown := appendCommand(t, message(f.owner, bob.UIN, "x", "x"), bob.UIN)
	unknown.Method = 999
	must(t, c.Execute(ctx, []*journal.Batch{f.batch(
		unknown,
		appendCommand(t, message(f.owner, bob.UIN, "1", "behind an unknown one"), bob.UIN),
		appendCommand(t, message(f.owner, stranger, "2", "to a stranger"), stranger),
		appendCommand(t, message(f.owner, stranger, "3", "to a stranger again"), stranger),
		appendCommand(t, message(f.owner, 5, "4", "to no segment"), 5),
		appendCommand(t, message(f.owner, carol.UIN, "5", "behind them all"), carol.UIN),
	)}))
	must(t, u.has(bob, "behind an unknown one"))
	must(t, u.has(carol, "behind them all"))
	for _, page := range []int{1, 2, 100} {
		all := u.letters("sh", page)
		if len(all) != 4 {
			t.Fatalf("in pages of %d: %v", page, all)
		}
		owners := map[region.UIN]int{}
		for _, l := range all {
			owners[l.ID.Owner]++
			if one, err := c.Letter(ctx, l.ID); err != nil || one.Reason == "" || one.Reason != l.Reason || one.From != f.owner {
				t.Errorf("%v, %v", one, err)
			}
			if id, err := ParseLetterID(l.ID.String()); err != nil || id != l.ID {
				t.Errorf("%s is read as %v, %v", l.ID, id, err)
			}
		}
		if owners[0] != 1 || owners[bob.UIN] != 1 || owners[stranger] != 2 {
			t.Errorf("owners %v", owners)
		}
	}
	for _, l := range u.letters("sh", 100) {
		wantKind(t, c.ReplayLetter(ctx, l.ID), region.Conflict) // nothing has changed
	}
	if n := len(u.letters("sh", 100)); n != 4 {
		t.Errorf("%d are left of 4 that failed again", n)
	}
	// Now the stranger has an account after all.
	must(t, c.mutate(ctx, stranger, func(t *txn) error { return t.saveAccount(&v1.AccountRow{Nickname: "Late"}) }))
	late := &user{Caller: Caller{UIN: stranger}, region: "sh"}
	for _, l := range u.letters("sh", 100) {
		if l.ID.Owner == stranger {
			must(t, c.ReplayLetter(ctx, l.ID))
			wantKind(t, c.ReplayLetter(ctx, l.ID), region.NotFound)
		} else {
			must(t, c.DiscardLetter(ctx, l.ID))
			wantKind(t, c.DiscardLetter(ctx, l.ID), region.NotFound)
		}
	}
	must(t, u.has(late, "to a stranger", "to a stranger again"))
	if all := u.letters("sh", 100); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
	_, err := c.Letters(ctx, LetterID{}, MaxLetters+1)
	wantKind(t, err, region.BadInput)
}

// A letter that is replayed at every crash is executed once.
func TestReplayLetterCrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		u := newUniverseWith(t, inMemory, nil, "sh", "hk")
		const stranger = region.UIN(1_000_777)
		f := &foreign{owner: 2_000_001}
		must(t, u.core("sh").Execute(ctx, []*journal.Batch{f.batch(appendCommand(t, message(f.owner, stranger, "m", "late"), stranger))}))
		must(t, u.core("sh").mutate(ctx, stranger, func(t *txn) error { return t.saveAccount(&v1.AccountRow{Nickname: "Late"}) }))
		id := u.letters("sh", 1)[0].ID
		s := u.sites["sh"].store
		s.mu.Lock()
		s.plan = &crash{step: 1, after: after}
		s.mu.Unlock()
		u.retry(func() error {
			if err := u.core("sh").ReplayLetter(context.Background(), id); region.KindOf(err) != region.NotFound {
				return err
			}
			return nil
		})
		late := &user{Caller: Caller{UIN: stranger}, region: "sh"}
		if all, err := u.inbox(late); err != nil || len(all) != 1 {
			t.Errorf("after %v: %d messages, %v", after, len(all), err)
		}
	}
}

func FuzzLetterID(f *testing.F) {
	f.Add("1000007/hk/3/42")
	f.Add("0//0/0")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseLetterID(s)
		if err != nil {
			wantKind(t, err, region.BadInput)
			return
		}
		if again, err := ParseLetterID(id.String()); err != nil || again != id {
			t.Fatal(fmt.Sprint(id, again, err))
		}
	})
}
