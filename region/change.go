package region

// Change is how the acting region of a home came to be the one it is.
type Change struct {
	Home   ID
	Before ID // the last one that acted before, on any side of a fork, and is not Acting; "" when there is none
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
	var before Term
	joins := false // the world that made it ended a fork
	for i := len(c.links) - 1; i >= 0; i-- {
		l := &c.links[i]
		t, ok := l.World.TermOf(home, l.Hash)
		if !ok {
			break // a new region: nobody acted before
		}
		if t == term {
			ch.Forced, joins = l.Signed.Forced, len(l.Signed.Parents) > 1
			continue
		}
		// A term that nobody wrote at may lie between: whoever was named in it and
		// is named again took nothing over.
		if was, _ := l.World.Region(home); was.Acting.Region != ch.Acting {
			ch.Before, before = was.Acting.Region, t
			break
		}
	}
	// On the other side of a fork somebody may have acted since, whom the line does
	// not name.
	for _, k := range c.known {
		t, _ := k.World.TermOf(home, k.Hash)
		was, ok := k.World.Region(home)
		if ok && was.Acting.Region != ch.Acting && t.Compare(term) < 0 && t.Compare(before) > 0 {
			ch.Before, before = was.Acting.Region, t
		}
	}
	// Nor need a node know the other side. All have to answer alike, so that whoever
	// is waited for knows it: it is the one who would have acted.
	if ch.Before == "" && joins {
		switch {
		case ch.Acting != home:
			ch.Before = home
		case len(r.Backups) > 0:
			ch.Before = r.Backups[0]
		}
	}
	return ch, true
}

// Dispute returns who acts for a home at the newest term that worlds name, and
// whether they name several: then the worlds are sides of a fork, and the one that
// joins them raises the home's counter. It should name who is returned here, and a
// later one somebody else, once the home's change has come to its end: of all who
// acted, only that one takes no row of an older term for its own, so nobody else can
// merge what the others acknowledged.
func Dispute(home ID, sides ...*Known) (acting ID, disputed bool) {
	var newest Term
	for _, k := range sides {
		t, ok := k.World.TermOf(home, k.Hash)
		if !ok {
			continue
		}
		disputed = disputed || acting != "" && t != newest
		if acting == "" || t.Compare(newest) > 0 {
			r, _ := k.World.Region(home)
			acting, newest = r.Acting.Region, t
		}
	}
	return acting, disputed
}
