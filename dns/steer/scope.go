package steer

import (
	"math/bits"
	"net/netip"
)

// narrow makes the answer's scope at least so many bits long.
func (d *decision) narrow(bits int) {
	if d.addr.IsValid() && bits > int(d.answer.Scope) {
		d.answer.Scope = uint8(min(bits, d.addr.BitLen()))
	}
}

// consultFacts notes that the answer depends on the facts about the address,
// which are the same for the whole network they were found for.
func (d *decision) consultFacts() {
	if p := d.client.Facts.Prefix; p.IsValid() && p.Addr().Is4() == d.addr.Is4() {
		d.narrow(p.Bits())
	}
}

// inPrefix compares the client's address with a prefix. The outcome is the same
// for all addresses that are inside as well, or that leave the prefix at the
// same bit.
func (d *decision) inPrefix(p netip.Prefix) bool {
	if !d.addr.IsValid() || d.addr.Is4() != p.Addr().Is4() {
		return false // constant over a whole address family, which a scope never leaves
	}
	common := commonBits(d.addr, p.Addr())
	if common >= p.Bits() {
		d.narrow(p.Bits())
		return true
	}
	d.narrow(common + 1)
	return false
}

// commonBits says how many leading bits two addresses of one family share.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range x {
		if diff := x[i] ^ y[i]; diff != 0 {
			return i*8 + bits.LeadingZeros8(diff) - (128 - a.BitLen())
		}
	}
	return a.BitLen()
}
