package region

// Change is how the acting region of a home came to be the one it is.
type Change struct {
	Home   ID
	Before ID // the last one that acted before and is not Acting; "" when there is none
	Acting ID
	Term   Term
	Forced bool // the world that made it took effect by the operator's word alone
}

// Change returns how the newest world's acting region of a home came about;
// false for a home it does not have.
func (c *Chain) Change(home ID) (Change, bool) {
	newest := c.Newest()
	if newest == nil {
		return Change{}, false
	}
	r, ok := newest.World.Region(home)
	if !ok {
		return Change{}, false
	}
	term, _ := newest.World.TermOf(home, newest.Hash)
	ch := Change{Home: home, Acting: r.Acting.Region, Term: term}
	for i := len(c.links) - 1; i >= 0; i-- {
		l := &c.links[i]
		t, ok := l.World.TermOf(home, l.Hash)
		if !ok {
			return ch, true // a new region: nobody acted before
		}
		if t == term {
			ch.Forced = l.Signed.Forced
			continue
		}
		// A term that nobody wrote at may lie between: whoever was named in it and
		// is named again took nothing over.
		if was, _ := l.World.Region(home); was.Acting.Region != ch.Acting {
			ch.Before = was.Acting.Region
			return ch, true
		}
	}
	return ch, true
}
