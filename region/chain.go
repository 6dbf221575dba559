package region

import (
	"bytes"
	"maps"
	"slices"
)

// Chain is the worlds that took effect, as one node knows them, and the line
// among them that counts. It is a pure state machine: [Chain.Apply] is its only
// step. The zero value is a chain without a world.
//
// The line is a function of the set of known worlds alone, so nodes that know
// the same worlds follow the same one, in whatever order they heard of them.
// Forgetting the losing side of a fork would make the order matter: a world
// after a loser may compete with one that resolved the fork.
type Chain struct {
	pinned PublicKey
	known  map[Hash]*Known
	after  map[Hash][]successor // by parent: which known worlds may follow it
	links  []Link               // from the first world to the newest
}

// successor is a world that is verified, and in effect, after a certain parent.
type successor struct {
	hash     Hash
	envelope *Envelope
	voted    bool
}

// outranks orders siblings.
func (s *successor) outranks(o *successor) bool {
	if s.voted != o.voted {
		return s.voted
	}
	return bytes.Compare(s.hash[:], o.hash[:]) > 0
}

// Link is one world of a chain and the envelope that made it take effect.
type Link struct {
	Known
	Envelope *Envelope
}

// Outcome says what [Chain.Apply] did.
type Outcome int

// The outcomes.
const (
	Unchanged Outcome = iota // known already, or resolved by the newest world or one before it
	Appended                 // the world is the newest now
	Switched                 // a fork: the chain now follows the offered sibling. Raise an alarm.
	Outranked                // a fork: the chain stays. Raise an alarm.
	Confirmed                // a world that was only forced turns out to be accepted by a majority
)

func (o Outcome) String() string {
	return [...]string{"unchanged", "appended", "switched", "outranked", "confirmed"}[o]
}

// NewChain makes a chain that trusts the key pinned at install.
func NewChain(pinned PublicKey) *Chain { return &Chain{pinned: pinned} }

// Clone returns a chain that can be stepped without changing c.
func (c *Chain) Clone() *Chain {
	return &Chain{pinned: c.pinned, known: maps.Clone(c.known), after: maps.Clone(c.after), links: slices.Clone(c.links)}
}

// Find returns the world of that hash.
func (c *Chain) Find(h Hash) (*Link, bool) {
	for i := range c.links {
		if c.links[i].Hash == h {
			return &c.links[i], true
		}
	}
	return nil, false
}

// Links returns the worlds, oldest first. The caller must not change them.
func (c *Chain) Links() []Link { return c.links }

// Newest returns the world that counts, or nil.
func (c *Chain) Newest() *Link {
	if len(c.links) == 0 {
		return nil
	}
	return &c.links[len(c.links)-1]
}

// Apply offers one envelope. Two nodes that keep offering themselves the same
// envelopes, in any order, end on the same world:
//
//   - a verified successor of a known world that takes effect is known;
//   - the line goes from the first world to the best successor of each: what a
//     majority accepted outranks what was only forced, and among equals the
//     greater hash wins. When the line leaves the newest world, fences do not
//     fall with it, so no region admits at a term older than one it has
//     admitted at (rule 3);
//   - a world that names both sides of a fork as parents may follow either, so
//     it ends the fork whichever side is on the line.
//
// Errors change nothing: Unavailable when a world in between is missing or too
// few voters accepted, Unsupported when a properly signed world needs a newer
// reader, otherwise what is wrong with the envelope.
func (c *Chain) Apply(e *Envelope) (Outcome, error) {
	if e == nil || e.Signed == nil {
		return Unchanged, Errorf(BadInput, "the envelope holds no world")
	}
	s, h := e.Signed, e.Signed.Hash()
	if len(c.links) == 0 {
		k, err := VerifyFirst(s, c.pinned)
		if err != nil {
			return Unchanged, err
		}
		c.known, c.after = map[Hash]*Known{h: k}, map[Hash][]successor{}
		c.links = []Link{{Known: *k, Envelope: e}}
		return Appended, nil
	}
	_, had := c.known[h]
	ranks := false // some parent has a new successor, or a better one
	var refused error
	var newest uint64 // version of the parent that refused
	for _, p := range s.Parents {
		parent, ok := c.known[p]
		if !ok {
			continue
		}
		k, err := c.follows(parent, e)
		if err != nil {
			if refused == nil || parent.World.Version >= newest {
				refused, newest = err, parent.World.Version
			}
			continue
		}
		ranks = c.put(parent, h, e) || ranks
		c.known[h] = k
	}
	k, ok := c.known[h]
	switch {
	case !ok && refused != nil:
		return Unchanged, refused
	case !ok:
		return Unchanged, c.unrelated(s)
	case !ranks:
		return Unchanged, nil
	}
	if !had { // worlds that named it as a parent may have come before it
		for _, l := range c.successorsOf(h) {
			if _, err := c.follows(k, l.envelope); err == nil {
				c.put(k, l.hash, l.envelope)
			}
		}
	}
	return c.relink(h, had), nil
}

// follows verifies a world against one parent, and that it takes effect.
func (c *Chain) follows(parent *Known, e *Envelope) (*Known, error) {
	k, err := VerifySuccessor(parent, e.Signed)
	if err != nil {
		return nil, err
	}
	if !TakesEffect(parent.World, e) {
		return nil, Errorf(Unavailable, "world %d has not taken effect: %d of %d voters accepted it, %d are needed",
			e.Signed.Version, e.Accepted(parent.World), len(parent.World.Voters()), parent.World.Majority()).
			WithHint("push it to more voters, or sign it with --forced")
	}
	return k, nil
}

// put makes a world a successor of the parent, and says whether that is new or
// ranks it higher than before.
func (c *Chain) put(parent *Known, h Hash, e *Envelope) bool {
	next := successor{hash: h, envelope: e, voted: e.Accepted(parent.World) >= parent.World.Majority()}
	all := slices.Clone(c.after[parent.Hash]) // a clone of the chain may share it
	i := slices.IndexFunc(all, func(s successor) bool { return s.hash == h })
	switch {
	case i < 0:
		all = append(all, next)
	case next.voted && !all[i].voted:
		all[i] = next
	default:
		return false
	}
	c.after[parent.Hash] = all
	return true
}

// successorsOf returns the known worlds that name h as a parent, each once.
func (c *Chain) successorsOf(h Hash) (out []successor) {
	for _, all := range c.after {
		for _, s := range all {
			if slices.Contains(s.envelope.Signed.Parents, h) && !slices.ContainsFunc(out, func(o successor) bool { return o.hash == s.hash }) {
				out = append(out, s)
			}
		}
	}
	return out
}

// relink finds the line anew after world h was put, and says what that did.
func (c *Chain) relink(h Hash, had bool) Outcome {
	before := c.Newest().Hash
	links := c.links[:1:1]
	for {
		all := c.after[links[len(links)-1].Hash]
		if len(all) == 0 {
			break
		}
		best := &all[0]
		for i := range all[1:] {
			if all[i+1].outranks(best) {
				best = &all[i+1]
			}
		}
		links = append(links, Link{Known: *c.known[best.hash], Envelope: best.envelope})
	}
	c.links = links
	_, kept := c.Find(before)
	switch {
	case c.Newest().Hash == before && had:
		return Confirmed
	case c.Newest().Hash == before && c.resolves(h):
		return Unchanged
	case c.Newest().Hash == before:
		return Outranked
	case kept:
		return Appended
	default:
		return Switched
	}
}

// resolves says whether the line passes through h, or through a world that
// names it as a parent.
func (c *Chain) resolves(h Hash) bool {
	return slices.ContainsFunc(c.links, func(l Link) bool { return l.Hash == h || slices.Contains(l.Signed.Parents, h) })
}

// Lost says whether a known world is the losing side of a fork that is not
// resolved.
func (c *Chain) Lost(h Hash) bool {
	_, known := c.known[h]
	return known && !c.resolves(h)
}

func (c *Chain) unrelated(s *Signed) error {
	newest := c.Newest()
	if s.Version <= newest.World.Version {
		return Errorf(Conflict, "world %d is stale: this node has world %d", s.Version, newest.World.Version).WithHint("sign a successor of world %d %s", newest.World.Version, newest.Hash.Short())
	}
	return Errorf(Unavailable, "world %d follows one this node lacks; its newest is %d", s.Version, newest.World.Version).WithHint("offer the worlds in between first")
}
