package keeper

import "github.com/homing-im/homing/region"

// TakeUp is the step of a node that is offered an envelope: it applies it to a
// chain, has it saved, and has the region guarded before anybody sees the new
// view (see [Keeper.Guard]). It returns the chain and the view after it, which
// are the caller's to show; with [region.Unchanged] there is nothing to show. The
// chain that is given is not changed, and its newest world stays in use after an
// error; of a fork's losing side the chain that is returned knows, because what
// follows it may win later. save and guard may fail, and are called again then by another try; guard
// may be nil.
//
// Errors: those of [region.Chain.Apply]; Conflict, with [region.Outranked], for a
// fork's losing side; Unavailable when the guard fails; those of save.
func TakeUp(c *region.Chain, e *region.Envelope, overlay region.Overlay, save func(*region.Envelope) error, guard func(*region.View) error) (*region.Chain, *region.View, region.Outcome, error) {
	next := c.Clone()
	outcome, err := next.Apply(e)
	switch {
	case err != nil:
		return c, nil, region.Unchanged, err
	case outcome == region.Unchanged && c.Lost(e.Signed.Hash()):
		return c, nil, region.Unchanged, lost(e)
	case outcome == region.Unchanged:
		return c, nil, region.Unchanged, nil
	}
	if err := save(e); err != nil {
		return c, nil, region.Unchanged, err
	}
	if outcome == region.Outranked {
		return next, nil, outcome, lost(e)
	}
	n := next.Newest()
	view := region.NewView(n.World, n.Hash, overlay)
	if guard != nil {
		if err := guard(view); err != nil {
			return c, nil, outcome, region.Errorf(region.Unavailable, "world %d cannot be taken up now", n.World.Version).WithCause(err).WithHint("it is tried again")
		}
	}
	return next, view, outcome, nil
}

func lost(e *region.Envelope) error {
	return region.Errorf(region.Conflict, "world %d %s lost a fork", e.Signed.Version, e.Signed.Hash().Short()).
		WithHint("sign a world that names both sides as parents")
}
