package region

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// history is a random life of a world: an operator who signs, forks and
// resolves, and regions that hear of it in any order, write, and restart.
type history struct {
	t     *rapid.T
	all   []*Known // every world signed
	sent  []*Envelope
	nodes map[ID]*actor

	admitted map[string]ID // owner and epoch -> the one region that wrote (rule 1)
	homes    map[UIN]ID    // rule 4
}

// actor is a region: what it knows, and its store's fence.
type actor struct {
	chain *Chain
	fence Fence
	wrote map[UIN]Epoch // newest epoch written at, per owner (rule 3)
}

var regions = []ID{"sh", "hk", "ca"}

func newHistory(t *rapid.T) *history {
	h := &history{t: t, nodes: make(map[ID]*actor), admitted: make(map[string]ID), homes: make(map[UIN]ID)}
	g := testGenesis()
	h.all, h.sent = []*Known{g}, []*Envelope{{Signed: g.Signed}}
	for _, id := range regions {
		h.nodes[id] = &actor{chain: NewChain(testPublic("root")), fence: make(Fence), wrote: make(map[UIN]Epoch)}
		h.hear(id, h.sent[0])
	}
	return h
}

func (h *history) pick(n int, what string) int { return rapid.IntRange(0, n-1).Draw(h.t, what) }

// tips are the worlds no other follows.
func (h *history) tips() (tips []*Known) {
	for _, k := range h.all {
		if !slices.ContainsFunc(h.all, func(c *Known) bool { return slices.Contains(c.Signed.Parents, k.Hash) }) {
			tips = append(tips, k)
		}
	}
	return tips
}

// sign makes a world after one parent, any of them: that is a fork when the
// parent has a successor already.
func (h *history) sign() {
	parent := h.all[h.pick(len(h.all), "parent")]
	w := follow(parent)
	switch h.pick(4, "change") {
	case 0: // a rule, or nothing
		w.Steering.TTL = uint32(1 + h.pick(100, "ttl"))
	case 1:
		first := UIN(10_000 + 1000*len(h.all))
		w.Segments = append(w.Segments, Segment{first, first + 999, regions[h.pick(3, "home")]})
	default:
		appoint(w, regions[h.pick(3, "home")], regions[h.pick(3, "acting")])
	}
	h.record(w, []*Known{parent})
}

// fork forces two worlds after one parent that appoint different regions for
// one home, and tells each to the region it appoints: the worst an operator
// with a lost ledger can do.
func (h *history) fork() {
	parent := h.all[len(h.all)-1-h.pick(min(3, len(h.all)), "parent")]
	home, first := h.pick(3, "home"), h.pick(3, "acting")
	for _, acting := range []int{first, (first + 1) % 3} {
		w := follow(parent)
		appoint(w, regions[home], regions[acting])
		s := testSeal(w, []Hash{parent.Hash}, true, "operator")
		h.all = append(h.all, &Known{Signed: s, World: w, Hash: s.Hash()})
		h.sent = append(h.sent, &Envelope{Signed: s})
		h.hear(regions[acting], h.sent[len(h.sent)-1])
	}
}

// resolve makes a world that follows all tips, as region/worldfile compiles it:
// a home its parents disagree about gets a new term.
func (h *history) resolve() {
	tips := h.tips()
	if len(tips) < 2 {
		return
	}
	w := follow(tips[0])
	for _, p := range tips[1:] {
		w.Version = max(w.Version, p.World.Version+1)
		for _, s := range p.World.Segments {
			if _, ok := w.SegmentOf(s.First); !ok {
				w.Segments = append(w.Segments, s)
			}
		}
	}
	slices.SortFunc(w.Segments, func(a, b Segment) int { return int(a.First) - int(b.First) })
	for i := range w.Regions {
		for _, p := range tips[1:] {
			r, _ := p.World.Region(w.Regions[i].ID)
			w.Regions[i].Acting.Counter = max(w.Regions[i].Acting.Counter, r.Acting.Counter)
		}
		w.Regions[i].Acting.Counter++
		w.Regions[i].Acting.Raised = nil
	}
	h.record(w, tips)
}

func (h *history) record(w *World, parents []*Known) {
	var hashes []Hash
	for _, p := range parents {
		hashes = append(hashes, p.Hash)
	}
	forced := h.pick(2, "forced") == 0
	s := testSeal(w, hashes, forced, "operator")
	for _, p := range parents {
		if _, err := VerifySuccessor(p, s); err != nil {
			// Two forks may give one segment to two homes: not signed, then.
			return
		}
	}
	e := &Envelope{Signed: s}
	// A majority accepts at most one child of a parent; Ballot sees to that.
	if !forced && !slices.ContainsFunc(h.all, func(k *Known) bool { return len(parents) == 1 && slices.Contains(k.Signed.Parents, parents[0].Hash) }) {
		e = accept(s, "region/sh", "region/ca", "pop/pop-1")
	}
	h.all = append(h.all, &Known{Signed: s, World: w, Hash: s.Hash()})
	h.sent = append(h.sent, e)
}

func (h *history) hear(id ID, e *Envelope) {
	n := h.nodes[id]
	before := n.chain.Newest()
	outcome, err := n.chain.Apply(e)
	after := n.chain.Newest()
	if before != nil && (err != nil || outcome == Unchanged || outcome == Outranked) && before.Hash != after.Hash {
		h.t.Fatalf("%s: %v, %v, but the world changed", id, outcome, err)
	}
	// The store raises its fence before it admits anything under the new world.
	for i := range after.World.Regions {
		term, _ := after.World.TermOf(after.World.Regions[i].ID, after.Hash)
		n.fence.Raise(after.World.Regions[i].ID, term)
	}
	if outcome == Appended && before != nil {
		for i := range before.World.Regions { // rule 2: along a chain terms only grow
			home := before.World.Regions[i].ID
			was, _ := before.World.TermOf(home, before.Hash)
			now, _ := after.World.TermOf(home, after.Hash)
			if now.Compare(was) < 0 {
				h.t.Fatalf("rule 2: %s's term fell from %s to %s", home, was, now)
			}
			if now == was && before.World.Regions[i].Acting.Region != after.World.Regions[i].Acting.Region {
				h.t.Fatalf("rule 5: another region acts for %s at the same term", home)
			}
		}
	}
}

// write is a store's commit: the admission rule, then the fence.
func (h *history) write(id ID, u UIN) {
	n := h.nodes[id]
	newest := n.chain.Newest()
	p, err := NewView(newest.World, newest.Hash, nil).Admit(id, u)
	if p.Home != "" {
		if home, ok := h.homes[u]; ok && home != p.Home && h.forkless() {
			h.t.Fatalf("rule 4: UIN %d moved from %s to %s", u, home, p.Home)
		}
		h.homes[u] = p.Home
	}
	if err != nil || !n.fence.Allows(p.Home, p.Epoch.Term) {
		return
	}
	at := fmt.Sprint(u, " ", p.Epoch)
	if other, ok := h.admitted[at]; ok && other != id {
		h.t.Fatalf("rule 1: %s and %s both admit UIN %d at epoch %s", other, id, u, p.Epoch)
	}
	h.admitted[at] = id
	if last, ok := n.wrote[u]; ok && p.Epoch.Less(last) {
		h.t.Fatalf("rule 3: %s admits UIN %d at %s after %s", id, u, p.Epoch, last)
	}
	n.wrote[u] = p.Epoch
}

// forkless says whether all worlds are one chain. Two sides of a fork may each
// add the same segment for another home; such a fork cannot be resolved, and no
// rule is broken along either side.
func (h *history) forkless() bool { return len(h.tips()) == 1 }

// Rules 1 to 5, over random worlds, forks, deliveries and writes.
func TestRulesHoldInAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch h.pick(8, "step") {
			case 0:
				h.sign()
			case 1:
				h.resolve()
			case 2:
				h.fork()
			default:
				h.hear(regions[h.pick(3, "node")], h.sent[h.pick(len(h.sent), "world")])
			}
			for _, id := range regions { // everybody always tries to write everything
				for _, u := range []UIN{1000, 2000, 3000} {
					h.write(id, u)
				}
			}
		}
		h.converge()
	})
}

// converge: nodes that keep hearing everything end on one world.
func (h *history) converge() {
	for changed, rounds := true, 0; changed; rounds++ {
		if rounds > 2*len(h.sent)+2 {
			h.t.Fatalf("no end after %d rounds", rounds)
		}
		changed = false
		for _, id := range regions {
			before := h.nodes[id].chain.Newest().Hash
			for _, e := range h.sent {
				h.hear(id, e)
			}
			changed = changed || h.nodes[id].chain.Newest().Hash != before
		}
	}
	first := h.nodes["sh"].chain.Newest()
	for _, id := range regions[1:] {
		if n := h.nodes[id].chain.Newest(); n.Hash != first.Hash {
			h.t.Fatalf("sh is at world %d %s, %s at world %d %s", first.World.Version, first.Hash.Short(), id, n.World.Version, n.Hash.Short())
		}
	}
}

// Of two worlds that both got a majority for the same parent, one names the
// other as a parent: whatever voters are asked, in any order, no node has to
// choose between two that were voted for.
func TestMajoritiesNeverFork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := testGenesis()
		candidates := []*Known{}
		for i := range rapid.IntRange(2, 5).Draw(t, "candidates") {
			w := follow(g)
			parents := []Hash{g.Hash}
			for j, c := range candidates { // some come after earlier ones
				if rapid.Bool().Draw(t, fmt.Sprintf("%d names %d", i, j)) {
					parents = append(parents, c.Hash)
					w.Version = max(w.Version, c.World.Version+1)
				}
			}
			for k := range w.Regions {
				w.Regions[k].Acting = Acting{Region: regions[rapid.IntRange(0, 2).Draw(t, "acting")], Counter: uint64(2 + i)}
			}
			s := testSeal(w, parents, false, "operator")
			candidates = append(candidates, &Known{Signed: s, World: w, Hash: s.Hash()})
		}
		accepted := make(map[Hash]*Envelope)
		for _, voter := range []string{"region/sh", "region/hk", "region/ca", "pop/pop-1"} {
			var b Ballot
			for range rapid.IntRange(0, 6).Draw(t, "questions") {
				c := candidates[rapid.IntRange(0, len(candidates)-1).Draw(t, "asked")]
				next, err := b.Vote(g, c.Signed)
				if err != nil {
					if next.Accepted != b.Accepted {
						t.Fatal("a refusal changed the ballot")
					}
					continue
				}
				if again, err := next.Vote(g, c.Signed); err != nil || again.Accepted != c.Hash {
					t.Fatalf("the same question, another answer: %v", err)
				}
				b = next
				e := accepted[c.Hash]
				if e == nil {
					e = &Envelope{Signed: c.Signed}
					accepted[c.Hash] = e
				}
				e.Acceptances = append(e.Acceptances, accept(c.Signed, voter).Acceptances...)
			}
		}
		for _, a := range candidates {
			for _, b := range candidates {
				if a.Hash == b.Hash || accepted[a.Hash] == nil || accepted[b.Hash] == nil ||
					!TakesEffect(g.World, accepted[a.Hash]) || !TakesEffect(g.World, accepted[b.Hash]) {
					continue
				}
				if !descends(candidates, a, b.Hash) && !descends(candidates, b, a.Hash) {
					t.Fatalf("worlds %s and %s both took effect", a.Hash.Short(), b.Hash.Short())
				}
			}
		}
	})
}

// descends says whether k names the hash as a parent, or a candidate it names does.
func descends(all []*Known, k *Known, h Hash) bool {
	for _, p := range k.Signed.Parents {
		if p == h {
			return true
		}
		for _, c := range all {
			if c.Hash == p && descends(all, c, h) {
				return true
			}
		}
	}
	return false
}

// Rule 3: a fence never falls, and lets through what is at least as new.
func TestFenceNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := make(Fence)
		var highest Term
		for range rapid.IntRange(1, 20).Draw(t, "raises") {
			term := Term{Counter: rapid.Uint64Range(0, 4).Draw(t, "counter"), Raised: ShortHash{byte(rapid.IntRange(0, 3).Draw(t, "hash"))}}
			if f.Raise("sh", term) != (term.Compare(highest) > 0) {
				t.Fatalf("raising %s over %s", term, highest)
			}
			if term.Compare(highest) > 0 {
				highest = term
			}
			if f["sh"] != highest || !f.Allows("sh", highest) || f.Allows("sh", term) != (term.Compare(highest) >= 0) {
				t.Fatalf("fence %s after %s", f["sh"], highest)
			}
		}
	})
}

// Epochs are ordered totally, moves first.
func TestEpochOrder(t *testing.T) {
	draw := rapid.Custom(func(t *rapid.T) Epoch {
		return Epoch{rapid.Uint64Range(0, 2).Draw(t, "moves"), Term{rapid.Uint64Range(0, 2).Draw(t, "counter"), ShortHash{byte(rapid.IntRange(0, 2).Draw(t, "raised"))}}}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw.Draw(t, "a"), draw.Draw(t, "b"), draw.Draw(t, "c")
		if a.Compare(b) != -b.Compare(a) || (a.Compare(b) == 0) != (a == b) {
			t.Fatalf("%s and %s", a, b)
		}
		if a.Less(b) && b.Less(c) && !a.Less(c) {
			t.Fatalf("%s < %s < %s", a, b, c)
		}
		if a.Moves < b.Moves && !a.Less(b) {
			t.Fatalf("moves come first: %s and %s", a, b)
		}
	})
}
