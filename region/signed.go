package region

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
)

// Format is the format number of signed worlds this code writes.
const Format = 1

// MaxSigned is the largest envelope accepted, in bytes of JSON.
const MaxSigned = 4 << 20

// Signed is a world as it travels and as it lies on disk. Payload is kept and
// verified as the exact bytes that were signed; it is never re-serialised.
type Signed struct {
	Format     int         `json:"format"`
	Requires   []string    `json:"requires"` // features a reader must know; unknown ones keep it from using the world
	Version    uint64      `json:"version"`
	Parents    []Hash      `json:"parents"` // one, or several when a fork is resolved; none for the first
	Payload    []byte      `json:"payload"` // JSON of a World
	Signatures []Signature `json:"signatures"`
	Forced     bool        `json:"forced"` // operator's word that it takes effect without a majority
}

// Signature is one key's ed25519 signature over [Signed.Covered].
type Signature struct {
	Key PublicKey `json:"key"`
	Sig []byte    `json:"sig"`
}

// Covered returns the bytes that are hashed and signed: a context string, then
// format, version, forced, requires, parents and payload, each length prefixed
// with eight big-endian bytes, so that no field can pass for another.
func (s *Signed) Covered() []byte {
	var b bytes.Buffer
	b.WriteString("homing.world\x00")
	num := func(n uint64) { _ = binary.Write(&b, binary.BigEndian, n) }
	num(uint64(s.Format))
	num(s.Version)
	if s.Forced {
		num(1)
	} else {
		num(0)
	}
	num(uint64(len(s.Requires)))
	for _, r := range s.Requires {
		num(uint64(len(r)))
		b.WriteString(r)
	}
	num(uint64(len(s.Parents)))
	for _, p := range s.Parents {
		b.Write(p[:])
	}
	num(uint64(len(s.Payload)))
	b.Write(s.Payload)
	return b.Bytes()
}

// Hash names the world: SHA-256 of what is covered. Signatures are not part of
// it, so adding one does not make another world.
func (s *Signed) Hash() Hash { return sha256.Sum256(s.Covered()) }

// Sign adds key's signature, replacing an earlier one of the same key.
func (s *Signed) Sign(key ed25519.PrivateKey) {
	pub := PublicKey(key.Public().(ed25519.PublicKey))
	s.Signatures = slices.DeleteFunc(s.Signatures, func(g Signature) bool { return bytes.Equal(g.Key, pub) })
	s.Signatures = append(s.Signatures, Signature{Key: pub, Sig: ed25519.Sign(key, s.Covered())})
}

// SignedBy says how many different keys of the set have a valid signature.
func (s *Signed) SignedBy(keys []PublicKey) int {
	covered := s.Covered()
	n := 0
	for i, k := range keys {
		if len(k) != ed25519.PublicKeySize || slices.ContainsFunc(keys[:i], func(p PublicKey) bool { return bytes.Equal(p, k) }) {
			continue
		}
		for _, g := range s.Signatures {
			if bytes.Equal(g.Key, k) && ed25519.Verify(ed25519.PublicKey(k), covered, g.Sig) {
				n++
				break
			}
		}
	}
	return n
}

// Decode reads the payload strictly. It verifies nothing: see [VerifyFirst] and
// [VerifySuccessor].
func (s *Signed) Decode() (*World, error) {
	if s.Format != Format {
		return nil, Errorf(Unsupported, "world %d has format %d, this node reads %d", s.Version, s.Format, Format).WithHint("upgrade this node")
	}
	if len(s.Requires) > 0 {
		return nil, Errorf(Unsupported, "world %d requires %q, which this node does not know", s.Version, s.Requires).WithHint("upgrade this node")
	}
	d := json.NewDecoder(bytes.NewReader(s.Payload))
	d.DisallowUnknownFields()
	w := new(World)
	if err := d.Decode(w); err != nil {
		return nil, Errorf(BadInput, "world %d: payload is not a world", s.Version).WithCause(err)
	}
	if d.More() {
		return nil, Errorf(BadInput, "world %d: bytes after the payload", s.Version)
	}
	if w.Version != s.Version {
		return nil, Errorf(BadInput, "envelope says world %d, its payload says %d", s.Version, w.Version)
	}
	if err := w.Validate(); err != nil {
		return nil, fmt.Errorf("world %d: %w", s.Version, err)
	}
	return w, nil
}
