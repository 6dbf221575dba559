package geo

import (
	"net/netip"

	"github.com/homing-im/homing/region"
)

// worldPlaces indexes the configured places of one world in a binary trie per
// address family.
type worldPlaces struct {
	of     *region.World
	v4, v6 *node
}

// node stands for the network that the path from the root spells.
type node struct {
	children [2]*node
	place    *region.Prefix
}

// worldPlaces returns the index of the newest world, building it when the world
// has changed. Two callers may build it at once; either result is right.
func (db *DB) worldPlaces() *worldPlaces {
	v := db.view()
	if v == nil {
		return &worldPlaces{}
	}
	if p := db.places.Load(); p != nil && p.of == v.World {
		return p
	}
	p := newWorldPlaces(v.World)
	db.places.Store(p)
	return p
}

func newWorldPlaces(w *region.World) *worldPlaces {
	p := &worldPlaces{of: w}
	for i := range w.Places {
		p.insert(&w.Places[i])
	}
	return p
}

// insert adds a place; false means that its prefix has one already, which it
// replaces.
func (p *worldPlaces) insert(place *region.Prefix) bool {
	if !place.Prefix.IsValid() {
		return true
	}
	addr, bits := place.Prefix.Addr(), place.Prefix.Bits()
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	at := &p.v6
	if addr.Is4() {
		at = &p.v4
	}
	raw := addr.AsSlice()
	for i := range bits {
		if *at == nil {
			*at = &node{}
		}
		at = &(*at).children[bit(raw, i)]
	}
	if *at == nil {
		*at = &node{}
	}
	fresh := (*at).place == nil
	(*at).place = place
	return fresh
}

// lookup returns the place of the longest prefix around the address, or nil,
// and how many bits of the address that rests on: all addresses that share them
// take the same way through the trie.
func (p *worldPlaces) lookup(addr netip.Addr) (*region.Prefix, int) {
	n := p.v6
	if addr.Is4() {
		n = p.v4
	}
	var best *region.Prefix
	raw := addr.AsSlice()
	for i := 0; n != nil; i++ {
		if n.place != nil {
			best = n.place
		}
		if n.children == [2]*node{} {
			return best, i
		}
		if n = n.children[bit(raw, i)]; n == nil {
			return best, i + 1
		}
	}
	return best, 0
}

func bit(raw []byte, i int) int { return int(raw[i/8]>>(7-i%8)) & 1 }
