package region

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"slices"
)

// Voter is who may accept worlds: a region, or a POP that is a witness. Its
// name is kind and ID, such as "region/sh" or "pop/pop-6".
type Voter struct {
	Name string
	Key  PublicKey
}

// Voters of the world, in its order.
func (w *World) Voters() []Voter {
	var vs []Voter
	for i := range w.Regions {
		vs = append(vs, Voter{"region/" + string(w.Regions[i].ID), w.Regions[i].Key})
	}
	for i := range w.POPs {
		if w.POPs[i].Witness {
			vs = append(vs, Voter{"pop/" + string(w.POPs[i].ID), w.POPs[i].Key})
		}
	}
	return vs
}

// Majority is how many of the world's voters are more than half of them.
func (w *World) Majority() int { return len(w.Voters())/2 + 1 }

// Acceptance is a voter's word that it accepted a world as the successor of
// its parent.
type Acceptance struct {
	Voter string `json:"voter"`
	World Hash   `json:"world"`
	Sig   []byte `json:"sig"`
}

// covered is a context string, the hash, then the voter's name with its length
// in eight big-endian bytes.
func (a Acceptance) covered() []byte {
	var b bytes.Buffer
	b.WriteString("homing.acceptance\x00")
	b.Write(a.World[:])
	_ = binary.Write(&b, binary.BigEndian, uint64(len(a.Voter)))
	b.WriteString(a.Voter)
	return b.Bytes()
}

// Accept signs a voter's acceptance of a world.
func Accept(voter string, world Hash, key ed25519.PrivateKey) Acceptance {
	a := Acceptance{Voter: voter, World: world}
	a.Sig = ed25519.Sign(key, a.covered())
	return a
}

// Valid says whether the acceptance is signed with the voter's key.
func (a Acceptance) Valid(v Voter) bool {
	return a.Voter == v.Name && len(v.Key) == ed25519.PublicKeySize && ed25519.Verify(ed25519.PublicKey(v.Key), a.covered(), a.Sig)
}

// Envelope is a signed world with what makes it take effect.
type Envelope struct {
	Signed      *Signed      `json:"signed"`
	Acceptances []Acceptance `json:"acceptances"`
}

// MaxEnvelope is the largest JSON of an envelope that is read, in bytes.
const MaxEnvelope = MaxSigned + 1<<20

// Accepted counts the voters of the parent that validly accepted the world.
func (e *Envelope) Accepted(parent *World) int {
	h := e.Signed.Hash()
	n := 0
	for _, v := range parent.Voters() {
		if slices.ContainsFunc(e.Acceptances, func(a Acceptance) bool { return a.World == h && a.Valid(v) }) {
			n++
		}
	}
	return n
}

// TakesEffect says whether a verified successor of the parent counts: a
// majority of all the parent's voters accepted it, or the operator forced it.
func TakesEffect(parent *World, e *Envelope) bool {
	return e.Signed.Forced || e.Accepted(parent) >= parent.Majority()
}

// Ballot is what a voter remembers, durably and before it answers: the world
// it last accepted, and the parent it accepted it for. Its zero value has
// accepted nothing.
type Ballot struct {
	Parent   Hash    `json:"parent"`
	Accepted Hash    `json:"accepted"`
	Signed   *Signed `json:"signed,omitempty"` // the accepted world
}

// Vote is the voter's step: it returns the ballot after it was asked to accept
// s while its newest world is newest. It accepts one successor of its newest
// world; asked again for the same it gives the same answer; after that only a
// world that also names the accepted one as a parent, and so comes after both.
//
// Errors: Conflict when another successor was accepted; else those of
// [VerifySuccessor].
func (b Ballot) Vote(newest *Known, s *Signed) (Ballot, error) {
	h := s.Hash()
	if b.Signed != nil && b.Parent == newest.Hash && b.Accepted == h {
		return b, nil
	}
	if _, err := VerifySuccessor(newest, s); err != nil {
		return b, err
	}
	if b.Signed != nil && b.Parent == newest.Hash {
		if !slices.Contains(s.Parents, b.Accepted) {
			return b, Errorf(Conflict, "this voter has accepted world %d %s as the successor of world %d", b.Signed.Version, b.Accepted.Short(), newest.World.Version).
				WithHint("name %s as a parent too, or push that world", b.Accepted)
		}
		accepted, err := VerifySuccessor(newest, b.Signed)
		if err != nil {
			return b, err
		}
		if _, err := VerifySuccessor(accepted, s); err != nil {
			return b, err
		}
	}
	return Ballot{Parent: newest.Hash, Accepted: h, Signed: s}, nil
}
