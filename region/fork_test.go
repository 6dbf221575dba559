package region

import (
	"slices"
	"testing"
)

// Two siblings, a world that resolves them, and a world that only the loser's
// or only the winner's side knows as its parent's successor: whatever the order
// in which a node hears of them, it ends where the others end, and hearing all
// again changes nothing. (Found by TestRulesHoldInAnyHistory: a node that had
// forgotten the losing sibling could not see what came after it.)
func TestForkHeardInAnyOrder(t *testing.T) {
	g := testGenesis()
	seal := func(w *World, parents ...*Known) *Known {
		var hashes []Hash
		for _, p := range parents {
			hashes = append(hashes, p.Hash)
		}
		s := testSeal(w, hashes, true, "operator")
		return &Known{Signed: s, World: w, Hash: s.Hash()}
	}
	sibling := func(parent *Known, home, acting ID) *Known {
		w := follow(parent)
		appoint(w, home, acting)
		return seal(w, parent)
	}
	a, b := sibling(g, "hk", "sh"), sibling(g, "hk", "ca")
	resolving := follow(a)
	for i := range resolving.Regions { // what its parents disagree about gets a new term
		resolving.Regions[i].Acting.Counter++
		resolving.Regions[i].Acting.Raised = nil
	}
	r := seal(resolving, a, b)
	x, y := sibling(a, "sh", "hk"), sibling(b, "ca", "hk")

	var end Hash
	permute([]*Known{a, b, r, x, y}, func(order []*Known) {
		c := NewChain(testPublic("root"))
		if _, err := c.Apply(&Envelope{Signed: g.Signed}); err != nil {
			t.Fatal(err)
		}
		for range len(order) {
			for _, k := range order {
				_, _ = c.Apply(&Envelope{Signed: k.Signed}) // an error is a parent not heard of yet
			}
		}
		newest := c.Newest().Hash
		for _, k := range order {
			if outcome, err := c.Apply(&Envelope{Signed: k.Signed}); err != nil || outcome != Unchanged || c.Newest().Hash != newest {
				t.Fatalf("again: %s, %v", outcome, err)
			}
		}
		if end == (Hash{}) {
			end = newest
		}
		if newest != end {
			t.Fatalf("one order ends at %s, another at %s", end.Short(), newest.Short())
		}
	})
	if end == a.Hash || end == b.Hash {
		t.Errorf("the line ends at a sibling, although worlds follow it")
	}
}

// permute calls f with every order of s.
func permute[T any](s []T, f func([]T)) {
	var step func(int)
	s = slices.Clone(s)
	step = func(n int) {
		if n == len(s) {
			f(s)
			return
		}
		for i := n; i < len(s); i++ {
			s[n], s[i] = s[i], s[n]
			step(n + 1)
			s[n], s[i] = s[i], s[n]
		}
	}
	step(0)
}
