package keeper

import (
	"slices"
	"sort"

	"github.com/homing-im/homing/region"
)

// chunkSize bounds a chunk, in entries, so that an insertion moves at most 10
// KiB. Smaller chunks cost more headers, larger ones more copying.
const chunkSize = 1024

// entries is a sorted map from owner to (home, moves) in ten bytes per entry:
// chunks of parallel arrays, an owner being its distance from the chunk's
// first. Ten million take about 150 MB when inserted in random order. A Go map
// would take four times that.
type entries struct {
	chunks []*chunk // by base; never empty ones
	homes  []region.ID
	n      int
}

type chunk struct {
	base   region.UIN
	offset []uint32
	moves  []uint32
	home   []uint16 // index into entries.homes
}

func (c *chunk) last() region.UIN { return c.base + region.UIN(c.offset[len(c.offset)-1]) }

// find returns the chunk that holds or would hold the owner.
func (e *entries) find(u region.UIN) int {
	return sort.Search(len(e.chunks), func(i int) bool { return e.chunks[i].base > u }) - 1
}

// position of the owner in the chunk, and whether it is there.
func (c *chunk) position(u region.UIN) (int, bool) {
	d := uint64(u - c.base)
	if d > 1<<32-1 {
		return len(c.offset), false
	}
	return slices.BinarySearch(c.offset, uint32(d))
}

func (e *entries) get(u region.UIN) (region.Moved, bool) {
	i := e.find(u)
	if i < 0 {
		return region.Moved{}, false
	}
	c := e.chunks[i]
	j, ok := c.position(u)
	if !ok {
		return region.Moved{}, false
	}
	return region.Moved{Home: e.homes[c.home[j]], Moves: uint64(c.moves[j])}, true
}

func (e *entries) put(n Entry) {
	home := slices.Index(e.homes, n.Home)
	if home < 0 {
		home = len(e.homes)
		e.homes = append(e.homes, n.Home)
	}
	i := e.find(n.Owner)
	if i >= 0 {
		if j, ok := e.chunks[i].position(n.Owner); ok {
			e.chunks[i].moves[j], e.chunks[i].home[j] = n.Moves, uint16(home)
			return
		}
	}
	e.n++
	// A new chunk: before all others, too far from the base, or after a full
	// one (ascending inserts then fill chunks instead of leaving them half full).
	if i < 0 || n.Owner-e.chunks[i].base > 1<<32-1 || len(e.chunks[i].offset) >= chunkSize && n.Owner > e.chunks[i].last() {
		e.chunks = slices.Insert(e.chunks, i+1, newChunk(n, uint16(home)))
		return
	}
	if c := e.chunks[i]; len(c.offset) >= chunkSize {
		e.chunks = slices.Insert(e.chunks, i+1, c.split())
		if n.Owner >= e.chunks[i+1].base {
			i++
		}
	}
	c := e.chunks[i]
	j, _ := c.position(n.Owner)
	c.offset = slices.Insert(c.offset, j, uint32(n.Owner-c.base))
	c.moves = slices.Insert(c.moves, j, n.Moves)
	c.home = slices.Insert(c.home, j, uint16(home))
}

func newChunk(n Entry, home uint16) *chunk {
	return &chunk{base: n.Owner, offset: []uint32{0}, moves: []uint32{n.Moves}, home: []uint16{home}}
}

// split keeps the lower half and returns the upper.
func (c *chunk) split() *chunk {
	h := len(c.offset) / 2
	up := &chunk{base: c.base + region.UIN(c.offset[h]), offset: slices.Clone(c.offset[h:]), moves: slices.Clone(c.moves[h:]), home: slices.Clone(c.home[h:])}
	for i := range up.offset {
		up.offset[i] -= c.offset[h]
	}
	c.offset, c.moves, c.home = slices.Clone(c.offset[:h]), slices.Clone(c.moves[:h]), slices.Clone(c.home[:h])
	return up
}
