package keeper

import (
	"bytes"
	"context"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// Two admins act at once, each with the same world behind them and a half of the
// network before them. The majority's change takes effect and the other's does
// not; forced, both do, until the halves meet, and then every node follows one.
// A world that names both ends it.
func TestTwoAdminsInTwoPartitions(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	left, right := []peer.Identity{sh}, []peer.Identity{hk, ca}
	for _, id := range []peer.Identity{sh, hk, ca} {
		l.start(id)
	}
	ctx := context.Background()
	follows := func(e *region.Envelope, ids ...peer.Identity) {
		t.Helper()
		for _, id := range ids {
			if n := l.nodes[id]; n.View().Hash != e.Signed.Hash() {
				t.Fatalf("%s follows %s", n.Keeper, n.View().Hash.Short())
			}
		}
	}

	minority := l.after(l.genesis, false, failover("hk", "sh"))
	majority := l.after(l.genesis, false, failover("sh", "hk"))
	_, err := l.push(minority, left, left)
	wantKind(t, err, region.Unavailable)
	if _, err := l.push(majority, right, right); err != nil {
		t.Fatal(err)
	}
	follows(l.genesis, left...)
	follows(majority, right...)
	// The halves meet: sh has accepted the other world, and follows what took effect.
	if err := l.nodes[sh].Offer(ctx, l.nodes[hk].Envelope()); err != nil {
		t.Fatal(err)
	}
	follows(majority, sh, hk, ca)
	_, err = l.push(minority, []peer.Identity{sh, hk, ca}, left)
	if err == nil {
		t.Fatal("the world that lost takes effect afterwards")
	}
	follows(majority, sh, hk, ca)

	one := l.after(majority, true, failover("ca", "sh"))
	two := l.after(majority, true, failover("ca", "hk"))
	if h1, h2 := one.Signed.Hash(), two.Signed.Hash(); bytes.Compare(h1[:], h2[:]) > 0 {
		one, two = two, one
	}
	if _, err := l.push(two, right, right); err != nil {
		t.Fatal(err)
	}
	follows(two, right...)
	if err := l.nodes[sh].Offer(ctx, one); err != nil {
		t.Fatal(err)
	}
	follows(one, left...)
	if err := l.nodes[sh].Offer(ctx, two); err != nil {
		t.Fatal(err)
	}
	wantKind(t, l.nodes[hk].Offer(ctx, one), region.Conflict)
	wantKind(t, l.nodes[ca].Offer(ctx, one), region.Conflict)
	follows(two, sh, hk, ca)
	for _, id := range []peer.Identity{sh, hk, ca} {
		if counted(l.nodes[id].metrics.forks) == 0 {
			t.Errorf("%s raised no alarm", id)
		}
	}

	w, err := one.Signed.Decode()
	if err != nil {
		t.Fatal(err)
	}
	w.Version++
	counter := uint64(0)
	for i := range w.Regions {
		if r := &w.Regions[i]; r.ID == "ca" { // what the sides disagree about gets a new term
			counter = r.Acting.Counter + 1
			r.Acting = region.Acting{Region: "sh", Counter: counter}
		}
	}
	resolved := &region.Envelope{Signed: seal(t, w, []region.Hash{one.Signed.Hash(), two.Signed.Hash()}, false, l.operator)}
	if _, err := l.push(resolved, []peer.Identity{sh, hk, ca}, []peer.Identity{sh, hk, ca}); err != nil {
		t.Fatal(err)
	}
	follows(resolved, sh, hk, ca)
	for _, id := range []peer.Identity{sh, hk, ca} {
		if acting, term, _ := l.nodes[id].View().Acting("ca"); acting != "sh" || term.Counter != counter {
			t.Errorf("%s: %s acts for ca at term %s", id, acting, term)
		}
	}
}

// What the operator signed once is no way back: an old world offered again changes
// nothing, nor does a new one that says what was said before.
func TestReplayedAndDowngradedWorlds(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n := l.start(sh)
	ctx := context.Background()
	second := l.accepted(l.after(l.genesis, false, failover("sh", "hk")), sh, hk)
	third := l.accepted(l.after(second, false, failover("sh", "ca")), sh, hk)
	if err := n.Offer(ctx, second, third); err != nil {
		t.Fatal(err)
	}
	if err := n.Offer(ctx, l.genesis, second, third); err != nil || !n.at(3)() {
		t.Fatalf("the old ones again: %v at %s", err, n.Keeper)
	}
	for name, change := range map[string]func(*region.World){
		"a counter falls":                   func(w *region.World) { w.Regions[0].Acting = region.Acting{Region: "sh", Counter: 1} },
		"who acts changes without its term": func(w *region.World) { w.Regions[0].Acting.Region = "sh" },
		"a key of the first world's past": func(w *region.World) {
			w.Operators = []region.PublicKey{public(l.keys[sh])}
			w.Root = public(l.keys[hk])
		},
		"a segment changes hands": func(w *region.World) { w.Segments[0].Home = "hk" },
	} {
		err := n.Offer(ctx, l.after(third, true, change))
		if err == nil || !n.at(3)() {
			t.Errorf("%s: %v at %s", name, err, n.Keeper)
		}
	}
	// A world that was overtaken: signed after the second, and offered after the third.
	late := l.after(second, false, failover("hk", "sh"))
	if err := n.Offer(ctx, l.accepted(late, sh)); err == nil || !n.at(3)() {
		t.Errorf("an overtaken world: %v at %s", err, n.Keeper)
	}
	l.stop(sh)
	if n := l.start(sh); !n.at(3)() {
		t.Errorf("after a restart: %s", n.Keeper)
	}
}
