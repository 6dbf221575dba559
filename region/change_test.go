package region

import "testing"

// TestChange tells how a home's acting region came about, along a chain.
func TestChange(t *testing.T) {
	link := func(version uint64, acting ID, counter uint64, raised *Hash, forced bool) Link {
		return Link{Known: Known{Hash: Hash{byte(version)}, Signed: &Signed{Version: version, Forced: forced},
			World: &World{Version: version, Regions: []Region{{ID: "sh", Acting: Acting{Region: acting, Counter: counter, Raised: raised}}}}}}
	}
	by := func(version byte) *Hash { return &Hash{version} }
	line := []Link{
		link(1, "sh", 1, nil, false),
		link(2, "sh", 1, by(1), true), // forced for another reason
		link(3, "hk", 2, nil, false),
		link(4, "hk", 2, by(3), true),
		link(5, "hk", 3, nil, true), // hk again: it waited in vain
		link(6, "sh", 4, nil, false),
	}
	term := func(counter uint64, version byte) Term {
		return Term{Counter: counter, Raised: ShortHash{version}}
	}
	for i, want := range []Change{
		{"sh", "", "sh", term(1, 1), false},
		{"sh", "", "sh", term(1, 1), false},
		{"sh", "sh", "hk", term(2, 3), false},
		{"sh", "sh", "hk", term(2, 3), false},
		{"sh", "sh", "hk", term(3, 5), true},
		{"sh", "hk", "sh", term(4, 6), false},
	} {
		c := &Chain{links: line[:i+1]}
		if got, ok := c.Change("sh"); !ok || got != want {
			t.Errorf("at world %d: %+v, %v, want %+v", i+1, got, ok, want)
		}
	}
	if _, ok := (&Chain{links: line}).Change("ca"); ok {
		t.Error("a region that is not there has a change")
	}
	if _, ok := new(Chain).Change("sh"); ok {
		t.Error("no world, and a change")
	}
}

// TestChangeAcrossAFork: who acted on the side that lost is waited for, too, by
// those who know that side and by those who do not.
func TestChangeAcrossAFork(t *testing.T) {
	known := func(name byte, acting ID, counter uint64, raised *Hash, parents ...byte) Known {
		k := Known{Hash: Hash{name}, Signed: &Signed{Version: uint64(name), Forced: true},
			World: &World{Regions: []Region{{ID: "sh", Backups: []ID{"hk", "ca"}, Acting: Acting{Region: acting, Counter: counter, Raised: raised}}}}}
		for _, p := range parents {
			k.Signed.Parents = append(k.Signed.Parents, Hash{p})
		}
		return k
	}
	first := known(1, "sh", 1, nil)
	away, home := known(2, "hk", 2, nil, 1), known(3, "sh", 3, nil, 2) // to hk and back,
	other := known(4, "sh", 1, &Hash{1}, 1)                            // of which this side has not heard
	joined := known(5, "sh", 4, nil, 3, 4)
	chain := func(line []Known, more ...Known) *Chain {
		c := &Chain{known: map[Hash]*Known{}}
		for _, k := range append(more, line...) {
			c.known[k.Hash] = &k
		}
		for _, k := range line {
			c.links = append(c.links, Link{Known: k})
		}
		return c
	}
	after := Change{"sh", "hk", "sh", Term{4, ShortHash{5}}, true}
	for what, l := range map[string]struct {
		chain *Chain
		want  Change
	}{
		"the line knows it":           {chain([]Known{first, away, home, joined}, other), after},
		"only the losing side does":   {chain([]Known{first, other, joined}, away, home), after},
		"that side is not known here": {chain([]Known{first, other, joined}), after},
		"not joined yet: a newer term is no predecessor": {chain([]Known{first, other}, away, home),
			Change{"sh", "", "sh", Term{1, ShortHash{1}}, true}},
	} {
		if got, ok := l.chain.Change("sh"); !ok || got != l.want {
			t.Errorf("%s: %+v, want %+v", what, got, l.want)
		}
	}
}
