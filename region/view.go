package region

import "sync"

// Overlay knows the owners who live outside their segment's region.
// Implementations are safe for concurrent use and do not block.
type Overlay interface {
	Lookup(UIN) (Moved, bool)
}

// Moved is where an owner lives after Moves moves.
type Moved struct {
	Home  ID
	Moves uint64
}

// View answers questions about owners under one world. It is immutable but for
// the overlay behind it.
type View struct {
	World   *World
	Hash    Hash    // of World
	Overlay Overlay // may be nil

	once  sync.Once
	homes map[ID]place
}

type place struct {
	acting ID
	term   Term
}

// NewView joins a world, its own hash and an overlay, which may be nil.
func NewView(w *World, hash Hash, o Overlay) *View { return &View{World: w, Hash: hash, Overlay: o} }

// Placement is the answer of [View.Placement].
type Placement struct {
	Home   ID
	Acting ID
	Epoch  Epoch
}

// Placement returns the home of an owner, who acts for it, and the owner's
// epoch under this world. It is false for a UIN in nobody's segment.
func (v *View) Placement(u UIN) (Placement, bool) {
	v.once.Do(v.index)
	var p Placement
	if v.Overlay != nil {
		if m, ok := v.Overlay.Lookup(u); ok {
			p.Home, p.Epoch.Moves = m.Home, m.Moves
		}
	}
	if p.Home == "" {
		s, ok := v.World.SegmentOf(u)
		if !ok {
			return Placement{}, false
		}
		p.Home = s.Home
	}
	h, ok := v.homes[p.Home]
	if !ok {
		return Placement{}, false
	}
	p.Acting, p.Epoch.Term = h.acting, h.term
	return p, true
}

// Acting returns who acts for a home, and at which term.
func (v *View) Acting(home ID) (ID, Term, bool) {
	v.once.Do(v.index)
	h, ok := v.homes[home]
	return h.acting, h.term, ok
}

func (v *View) index() {
	v.homes = make(map[ID]place, len(v.World.Regions))
	for _, r := range v.World.Regions {
		t, _ := v.World.TermOf(r.ID, v.Hash)
		v.homes[r.ID] = place{acting: r.Acting.Region, term: t}
	}
}

// Admit is the admission rule (rule 1): region self may write records of the
// owner only while the world says it acts for the owner's home. The returned
// placement carries the epoch at which the write has to be made.
//
// Errors: NotFound for a UIN in nobody's segment, WrongRegion otherwise.
func (v *View) Admit(self ID, u UIN) (Placement, error) {
	p, ok := v.Placement(u)
	if !ok {
		return p, Errorf(NotFound, "UIN %d belongs to no region of world %d", u, v.World.Version).WithHint("check the number")
	}
	if p.Acting != self {
		return p, Errorf(WrongRegion, "region %s acts for UIN %d, not %s", p.Acting, u, self).WithHint("follow the redirect")
	}
	return p, nil
}

// Fence is the oldest term per home at which writes are still admitted. A
// store keeps one durably and makes it a condition of every commit (rule 3).
type Fence map[ID]Term

// Allows says whether a write for a home at a term passes.
func (f Fence) Allows(home ID, t Term) bool { return t.Compare(f[home]) >= 0 }

// Raise returns true when the term is newer than what the fence had for the
// home, which it then becomes. A fence never falls.
func (f Fence) Raise(home ID, t Term) bool {
	if t.Compare(f[home]) <= 0 {
		return false
	}
	f[home] = t
	return true
}
