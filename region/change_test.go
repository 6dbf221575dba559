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
