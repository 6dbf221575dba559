package region

import (
	"bytes"
	"slices"
)

// Chain is the worlds that took effect, oldest first, as one node knows them.
// It is a pure state machine: [Chain.Apply] is its only step. The zero value is
// a chain without a world.
type Chain struct {
	pinned PublicKey
	links  []Link
}

// Link is one world of a chain and the envelope that made it take effect.
type Link struct {
	Known
	Envelope *Envelope
	voted    bool // by a majority, not merely forced
}

// Outcome says what [Chain.Apply] did.
type Outcome int

// The outcomes.
const (
	Unchanged Outcome = iota // known already, or resolved by a world in the chain
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
func (c *Chain) Clone() *Chain { return &Chain{pinned: c.pinned, links: slices.Clone(c.links)} }

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
//   - a verified successor of the newest world that takes effect is appended;
//   - a sibling of a world in the chain is a fork: what a majority accepted
//     outranks what was only forced, and among equals the greater hash wins;
//     the loser's descendants go with it. Fences do not fall with it, so no
//     region admits at a term older than one it has admitted at (rule 3);
//   - a fork is over once the chain has a world that names the other side as a
//     parent.
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
		c.links = append(c.links, Link{Known: *k, Envelope: e, voted: true})
		return Appended, nil
	}
	for i := range c.links {
		if c.links[i].Hash == h {
			return c.confirm(i, e), nil
		}
	}
	at := -1 // the newest world of the chain that is a parent
	for i := range c.links {
		if slices.Contains(s.Parents, c.links[i].Hash) {
			at = i
		}
	}
	if at < 0 {
		return Unchanged, c.unrelated(s)
	}
	parent := &c.links[at]
	k, err := VerifySuccessor(&parent.Known, s)
	if err != nil {
		return Unchanged, err
	}
	// The other parents this node has: the world must obey the rules against each.
	for i := range c.links[:at] {
		if slices.Contains(s.Parents, c.links[i].Hash) {
			if err := CheckSuccessor(&c.links[i].Known, k.World); err != nil {
				return Unchanged, err
			}
		}
	}
	if !TakesEffect(parent.World, e) {
		return Unchanged, Errorf(Unavailable, "world %d has not taken effect: %d of %d voters accepted it, %d are needed",
			s.Version, e.Accepted(parent.World), len(parent.World.Voters()), parent.World.Majority()).
			WithHint("push it to more voters, or sign it with --forced")
	}
	next := Link{Known: *k, Envelope: e, voted: e.Accepted(parent.World) >= parent.World.Majority()}
	if at == len(c.links)-1 {
		c.links = append(c.links, next)
		return Appended, nil
	}
	for i := at + 1; i < len(c.links); i++ {
		if slices.Contains(c.links[i].Signed.Parents, h) {
			return Unchanged, nil
		}
	}
	if !next.outranks(&c.links[at+1]) {
		return Outranked, nil
	}
	c.links = append(slices.Clone(c.links[:at+1]), next)
	return Switched, nil
}

// confirm keeps an envelope that says a majority accepted a world of the chain
// that was only forced so far: it ranks higher now.
func (c *Chain) confirm(i int, e *Envelope) Outcome {
	if i == 0 || c.links[i].voted {
		return Unchanged
	}
	parent := c.links[i-1].World
	if e.Accepted(parent) < parent.Majority() {
		return Unchanged
	}
	c.links[i].Envelope, c.links[i].voted = e, true
	return Confirmed
}

func (c *Chain) unrelated(s *Signed) error {
	newest := c.Newest()
	if s.Version <= newest.World.Version {
		return Errorf(Conflict, "world %d is stale: this node has world %d", s.Version, newest.World.Version).WithHint("sign a successor of world %d %s", newest.World.Version, newest.Hash.Short())
	}
	return Errorf(Unavailable, "world %d follows one this node lacks; its newest is %d", s.Version, newest.World.Version).WithHint("offer the worlds in between first")
}

// outranks orders siblings.
func (l *Link) outranks(m *Link) bool {
	if l.voted != m.voted {
		return l.voted
	}
	return bytes.Compare(l.Hash[:], m.Hash[:]) > 0
}
