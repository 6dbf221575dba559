package region

import (
	"bytes"
	"fmt"
	"slices"
)

// Known is a verified world together with its envelope and hash.
type Known struct {
	Signed *Signed
	World  *World
	Hash   Hash
}

// VerifyFirst checks the first world against the key pinned at install: the
// world's root key, or one of its operators' (then the threshold holds too).
func VerifyFirst(s *Signed, pinned PublicKey) (*Known, error) {
	// Signature before content, so that a stranger's bytes are not interpreted.
	if s.SignedBy([]PublicKey{pinned}) == 0 {
		return nil, Errorf(Forbidden, "the first world is not signed by the pinned key %s", pinned).WithHint("install the key that `homing world init` printed")
	}
	if s.Version != 1 || len(s.Parents) != 0 {
		return nil, Errorf(BadInput, "world %d with %d parents is not a first world", s.Version, len(s.Parents)).WithHint("the first world has version 1 and no parent")
	}
	w, err := s.Decode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(w.Root, pinned) {
		if !slices.ContainsFunc(w.Operators, func(k PublicKey) bool { return bytes.Equal(k, pinned) }) {
			return nil, Errorf(Forbidden, "the pinned key %s is neither root nor operator of the first world", pinned).WithHint("install the key that `homing world init` printed")
		}
		if n := s.SignedBy(w.Operators); n < w.Threshold {
			return nil, tooFew(s, n, w)
		}
	}
	for _, r := range w.Regions {
		if r.Acting.Counter != 1 || r.Acting.Raised != nil {
			return nil, Errorf(BadInput, "region %s: in the first world the acting counter is 1 and raised by it", r.ID)
		}
	}
	if len(w.Retired) > 0 {
		return nil, Errorf(BadInput, "the first world retires %s, which never was", w.Retired[0])
	}
	return &Known{Signed: s, World: w, Hash: s.Hash()}, nil
}

func tooFew(s *Signed, n int, w *World) *Error {
	return Errorf(Forbidden, "world %d is signed by %d operators of world %d, which wants %d, and not by its root key", s.Version, n, w.Version, w.Threshold).
		WithHint("sign it with an operator key of the world before it")
}

// VerifySuccessor checks that s may follow parent: it names it, has enough of
// its operators' signatures or its root's, and obeys [CheckSuccessor].
//
// A world that resolves a fork names several parents and is checked against
// each, at nodes that hold it: every rule is one between two worlds, so a node
// that knows only one of the parents loses nothing.
func VerifySuccessor(parent *Known, s *Signed) (*Known, error) {
	old := parent.World
	if !slices.Contains(s.Parents, parent.Hash) {
		return nil, Errorf(Conflict, "world %d does not follow world %d %s", s.Version, old.Version, parent.Hash.Short()).WithHint("fetch the worlds in between, or resolve the fork")
	}
	if s.Version <= old.Version || len(s.Parents) == 1 && s.Version != old.Version+1 {
		return nil, Errorf(BadInput, "world %d cannot follow world %d: versions grow by one", s.Version, old.Version)
	}
	for i, p := range s.Parents {
		if slices.Contains(s.Parents[:i], p) {
			return nil, Errorf(BadInput, "world %d names a parent twice", s.Version)
		}
	}
	root := s.SignedBy([]PublicKey{old.Root}) == 1
	if n := s.SignedBy(old.Operators); !root && n < old.Threshold {
		return nil, tooFew(s, n, old)
	}
	w, err := s.Decode()
	if err != nil {
		return nil, err
	}
	if !root && !bytes.Equal(w.Root, old.Root) {
		return nil, Errorf(Forbidden, "world %d changes the root key without the root key's signature", s.Version).WithHint("only the root key names another")
	}
	k := &Known{Signed: s, World: w, Hash: s.Hash()}
	if err := CheckSuccessor(parent, w); err != nil {
		return nil, fmt.Errorf("world %d: %w", s.Version, err)
	}
	return k, nil
}

// CheckSuccessor checks the content of a world against one of its parents'
// (rules 2, 4 and 5). For each home the successor either carries the parent's
// acting region, counter and raising world unchanged, or raises the counter
// itself. A world that resolves a fork therefore raises the counter of every
// home its parents disagree about: nobody's epoch ever falls, and no node needs
// to have seen both sides to know that.
func CheckSuccessor(parent *Known, w *World) error {
	old := parent.World
	if w.Name != old.Name {
		return Errorf(BadInput, "the name of a world never changes: %s was %s", w.Name, old.Name)
	}
	if w.Partitions != old.Partitions {
		return Errorf(BadInput, "the number of partitions never changes: %d were %d", w.Partitions, old.Partitions).WithHint("stores, topics and digests are laid out by it")
	}
	for _, id := range old.Retired {
		if !slices.Contains(w.Retired, id) {
			return Errorf(BadInput, "region %s was retired and stays so", id).WithHint("keep it under retired")
		}
	}
	for _, id := range w.Retired {
		_, was := old.Region(id)
		if !was && !slices.Contains(old.Retired, id) {
			return Errorf(BadInput, "region %s is retired but never was", id)
		}
	}
	for i := range old.Regions {
		was := &old.Regions[i]
		now, ok := w.Region(was.ID)
		if !ok {
			if !slices.Contains(w.Retired, was.ID) {
				return Errorf(BadInput, "region %s is gone", was.ID).WithHint("list it under retired: its ID is never re-assigned")
			}
			continue
		}
		if err := checkActing(was, now, parent.Hash); err != nil {
			return err
		}
	}
	for i := range w.Regions {
		now := &w.Regions[i]
		if _, ok := old.Region(now.ID); !ok && (now.Acting.Counter != 1 || now.Acting.Raised != nil) {
			return Errorf(BadInput, "region %s is new: its acting counter is 1 and raised by this world", now.ID)
		}
	}
	return checkSegments(old.Segments, w)
}

func checkActing(was, now *Region, parent Hash) error {
	a, b := was.Acting, now.Acting
	switch {
	case b.Counter < a.Counter:
		return Errorf(BadInput, "region %s: the acting counter fell from %d to %d", was.ID, a.Counter, b.Counter).WithHint("a rollback is old content with today's counters")
	case b.Counter > a.Counter:
		if b.Raised != nil {
			return Errorf(BadInput, "region %s: the counter rose from %d to %d, but another world is named as having raised it", was.ID, a.Counter, b.Counter)
		}
		return nil
	}
	if a.Region != b.Region {
		return Errorf(BadInput, "region %s: %s instead of %s acts for it, but the counter is still %d", was.ID, b.Region, a.Region, b.Counter).WithHint("who acts changes only together with its counter")
	}
	raised := parent
	if a.Raised != nil {
		raised = *a.Raised
	}
	if b.Raised == nil || *b.Raised != raised {
		return Errorf(BadInput, "region %s: counter %d was raised by world %s, which the new world does not say", was.ID, a.Counter, raised.Short()).WithHint("carry it over, or raise the counter")
	}
	return nil
}

// checkSegments wants every UIN that had a home to keep it. Segments may be
// split, joined and added.
func checkSegments(old []Segment, w *World) error {
	for _, s := range old {
		for u := s.First; ; {
			n, ok := w.SegmentOf(u)
			if !ok {
				return Errorf(BadInput, "UIN %d lost its segment, which is %s's", u, s.Home).WithHint("segments are never taken away")
			}
			if n.Home != s.Home {
				return Errorf(BadInput, "UIN %d is re-assigned from %s to %s", u, s.Home, n.Home).WithHint("segments are never re-assigned: move the owners instead")
			}
			if n.Last >= s.Last {
				break
			}
			u = n.Last + 1
		}
	}
	return nil
}
