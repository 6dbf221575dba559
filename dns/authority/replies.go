package authority

import (
	"net/netip"
	"slices"
)

// replies are a class's answers by the networks that they hold for, of which no
// two overlap, in order.
type replies []*savedReply

// find is the reply for an address, or nil.
func (r replies) find(addr netip.Addr) *savedReply {
	i, same := slices.BinarySearchFunc(r, addr, func(s *savedReply, a netip.Addr) int { return s.network.Addr().Compare(a) })
	if !same {
		i-- // the last network that begins before the address
	}
	if i < 0 || !r[i].network.Contains(addr) {
		return nil
	}
	return r[i]
}

// put adds a reply in place of those of smaller networks within its own: they say
// the same. It returns how many more there are now. Nobody had one around it.
func (r *replies) put(s *savedReply) int {
	from, _ := slices.BinarySearchFunc(*r, s.network.Addr(), func(s *savedReply, a netip.Addr) int { return s.network.Addr().Compare(a) })
	to := from
	for to < len(*r) && s.network.Contains((*r)[to].network.Addr()) {
		to++
	}
	*r = slices.Replace(*r, from, to, s)
	return 1 - (to - from)
}
