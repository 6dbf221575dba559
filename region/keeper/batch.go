package keeper

import (
	"crypto/ed25519"
	"encoding/binary"
	"slices"

	"github.com/homing-im/homing/region"
)

// MaxBatch is the most entries in one batch, MaxBatchSize its bytes.
const (
	MaxBatch     = 10_000
	MaxBatchSize = 512 << 10
)

// Entry says where an owner lives after so many moves.
type Entry struct {
	Owner region.UIN
	Home  region.ID
	Moves uint32 // grows with every move of the owner, from 1
}

// Batch is a part of the overlay: owners that a region gave away, signed by it.
//
// Its encoding, all numbers big-endian, is what the signature covers followed
// by the 64 bytes of it:
//
//	"homing.overlay\x00"
//	u8 length, region ID       who gave the owners away
//	32 bytes                   hash of the world it acted under
//	u16 count, then per entry  u64 owner, u32 moves, u8 length, region ID of the new home
//
// The feed (GET /overlay) and the file DIR/overlay.log are sequences of
// u32 length, u32 CRC-32C of the encoding, encoding. Cursors count batches.
type Batch struct {
	From    region.ID
	World   region.Hash
	Entries []Entry
	Sig     []byte
}

const batchContext = "homing.overlay\x00"

// NewBatch signs a batch with the region's key.
func NewBatch(from region.ID, world region.Hash, entries []Entry, key ed25519.PrivateKey) *Batch {
	b := &Batch{From: from, World: world, Entries: slices.Clone(entries)}
	b.Sig = ed25519.Sign(key, b.covered())
	return b
}

func (b *Batch) covered() []byte {
	out := make([]byte, 0, 64+len(b.Entries)*20)
	out = append(out, batchContext...)
	out = append(out, byte(len(b.From)))
	out = append(out, b.From...)
	out = append(out, b.World[:]...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(b.Entries)))
	for _, e := range b.Entries {
		out = binary.BigEndian.AppendUint64(out, uint64(e.Owner))
		out = binary.BigEndian.AppendUint32(out, e.Moves)
		out = append(out, byte(len(e.Home)))
		out = append(out, e.Home...)
	}
	return out
}

// Encode returns the batch's bytes.
func (b *Batch) Encode() []byte { return append(b.covered(), b.Sig...) }

// DecodeBatch reads one batch and checks its form, not its signature.
func DecodeBatch(data []byte) (*Batch, error) {
	bad := func(what string) (*Batch, error) {
		return nil, region.Errorf(region.BadInput, "overlay batch: %s", what)
	}
	if len(data) > MaxBatchSize {
		return bad("larger than a batch may be")
	}
	r := cursor{rest: data}
	if string(r.take(len(batchContext))) != batchContext {
		return bad("does not begin as one")
	}
	b := &Batch{From: region.ID(r.take(int(r.u8())))}
	copy(b.World[:], r.take(32))
	n := int(binary.BigEndian.Uint16(r.fixed(2)))
	if r.short || n > MaxBatch || b.From.Valid() != nil {
		return bad("its head is malformed")
	}
	for range n {
		e := Entry{Owner: region.UIN(binary.BigEndian.Uint64(r.fixed(8))), Moves: binary.BigEndian.Uint32(r.fixed(4))}
		e.Home = region.ID(r.take(int(r.u8())))
		if r.short || e.Owner == 0 || e.Moves == 0 || e.Home.Valid() != nil {
			return bad("an entry is malformed")
		}
		b.Entries = append(b.Entries, e)
	}
	b.Sig = slices.Clone(r.take(ed25519.SignatureSize))
	if r.short || len(r.rest) != 0 {
		return bad("its length is wrong")
	}
	return b, nil
}

// cursor reads bytes; past the end it is short and yields zeros.
type cursor struct {
	rest  []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.rest) {
		c.short, c.rest = true, nil
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) fixed(n int) []byte {
	if b := c.take(n); b != nil {
		return b
	}
	return make([]byte, n)
}

func (c *cursor) u8() byte { return c.fixed(1)[0] }
