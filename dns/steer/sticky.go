package steer

import (
	"net/netip"

	"github.com/homing-im/homing/region"
)

// A choice that sticks is a hash of who asks and of what is chosen, so nobody
// has to remember it, all nodes make the same one, and when a site goes only
// its own clients go elsewhere.

// StickySalt is the salt of the [Share] by which choices tell UINs apart: two
// UINs of one share get the same ones.
const StickySalt = "sticky"

// What networks a choice tells apart, in bits.
const (
	stickyBits4 = 24
	stickyBits6 = 56
)

// who is the number that the client's choices stick to: its UIN's share, else a
// hash of its network, else 0.
func (d *decision) who(by region.Sticky) uint64 {
	if d.client.UIN != 0 && by != region.StickyPrefix {
		return 1 + uint64(Share(StickySalt, d.client.UIN))
	}
	if !d.addr.IsValid() {
		return 0
	}
	bits := stickyBits4
	if !d.addr.Is4() {
		bits = stickyBits6
	}
	d.narrow(bits)
	return hashNetwork(netip.PrefixFrom(d.addr, bits).Masked().Addr())
}

// hashNetwork is FNV-1a 64 over the address's bytes.
func hashNetwork(a netip.Addr) uint64 {
	raw := a.As16()
	h := uint64(offset64)
	for i := 16 - a.BitLen()/8; i < 16; i++ {
		h = (h ^ uint64(raw[i])) * prime64
	}
	return h
}

// place is where among 10,000 a client stands with a site for a purpose: below
// a share, it is part of the share.
func place(purpose string, s Site, who uint64) uint32 {
	return uint32(ticket(siteHash(purpose, s, who), 0) % 10_000)
}

// luck is the best of as many tickets as the site has weight. Of several sites
// the one with the best ticket gets the client (rendezvous hashing; Thaler and
// Ravishankar, 1998), so each gets its part by weight.
func luck(s Site, weight uint32, who uint64) uint64 {
	h := siteHash("weight", s, who)
	best := uint64(0)
	for i := range max(1, weight) {
		best = max(best, ticket(h, i))
	}
	return best
}

// siteHash is FNV-1a 64 over the purpose, the POP and the region, a zero byte
// behind each, and the eight big-endian bytes of who.
func siteHash(purpose string, s Site, who uint64) uint64 {
	h := uint64(offset64)
	for _, text := range [...]string{purpose, string(s.POP), string(s.Region)} {
		for i := range len(text) {
			h = (h ^ uint64(text[i])) * prime64
		}
		h *= prime64 // the zero byte
	}
	for shift := 56; shift >= 0; shift -= 8 {
		h = (h ^ uint64(byte(who>>uint(shift)))) * prime64
	}
	return h
}

// ticket is number i of the SplitMix64 sequence that begins at h (Steele, Lea
// and Flood, 2014): FNV alone spreads its input too little over the high bits.
func ticket(h uint64, i uint32) uint64 {
	z := h + (uint64(i)+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Sticks says whether any answer of the world may go by [Share] of StickySalt.
func Sticks(w *region.World) bool {
	for i := range w.POPs {
		if w.POPs[i].DrainShare > 0 {
			return true
		}
	}
	for i := range w.Rules {
		if a := &w.Rules[i].Act; balances(a) || a.Spill > 0 || drains(a) {
			return true
		}
	}
	return false
}

// Measuring says which measures the world's rules look at: loads, round trips.
func Measuring(w *region.World) (loads, rtts bool) {
	for i := range w.Rules {
		a := &w.Rules[i].Act
		loads, rtts = loads || a.Spill > 0, rtts || a.Order == region.OrderMeasured
	}
	return loads, rtts
}

// balances says whether equal members share the clients, instead of all going
// to the first.
func balances(a *region.Act) bool {
	if a.Order == region.OrderWeighted || a.Band > 0 || a.Sticky != "" {
		return true
	}
	for i := range a.Pool {
		if a.Pool[i].Weight > 0 {
			return true
		}
	}
	return false
}

func drains(a *region.Act) bool {
	for i := range a.Pool {
		if a.Pool[i].Drain > 0 {
			return true
		}
	}
	return false
}
