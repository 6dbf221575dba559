package authority

import (
	"encoding/binary"
	"net/netip"
)

// Cookies tell clients who can hear us from those whose address may be forged
// (RFC 7873). They are made as RFC 9018 says, so that nodes behind one address
// accept each other's, provided they share the secret.

// Sizes of the option, in bytes, and ages of a server cookie, in seconds.
const (
	clientCookieLen = 8
	serverCookieLen = 16
	cookieLen       = clientCookieLen + serverCookieLen
	maxCookieLen    = clientCookieLen + 32
	cookieTooOld    = 3600
	cookieTooNew    = 300  // clocks differ
	cookieRenewed   = 1800 // younger ones are returned as they are
)

// baker makes and checks cookies.
type baker struct{ key sipKey }

// wellFormedCookie says whether an option's length can be right (RFC 7873
// section 5.2.2: else it is a format error).
func wellFormedCookie(option []byte) bool {
	n := len(option)
	return n == clientCookieLen || (n >= 2*clientCookieLen && n <= maxCookieLen)
}

// check says whether the option, which is well formed, has a server cookie that
// we gave to that address, and not too long ago.
func (b *baker) check(option []byte, peer netip.Addr, now uint32) bool {
	if len(option) != cookieLen || option[8] != 1 {
		return false
	}
	age := int32(now - binary.BigEndian.Uint32(option[12:])) // serial arithmetic, past 2106 (RFC 9018 section 4.3)
	return age >= -cookieTooNew && age <= cookieTooOld &&
		binary.LittleEndian.Uint64(option[16:]) == b.hash(option[:16], peer)
}

// append appends the option's data for the answer: the client's part, and the
// server cookie that it sent if that is good for long enough, else a new one.
func (b *baker) append(out, option []byte, trusted bool, peer netip.Addr, now uint32) []byte {
	if trusted && int32(now-binary.BigEndian.Uint32(option[12:])) < cookieRenewed {
		return append(out, option...)
	}
	at := len(out)
	out = append(out, option[:clientCookieLen]...)
	out = append(out, 1, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, now)
	return binary.LittleEndian.AppendUint64(out, b.hash(out[at:], peer))
}

// hash is over the client cookie, version, reserved bytes, timestamp and the
// client's address (RFC 9018 section 4.4).
func (b *baker) hash(head []byte, peer netip.Addr) uint64 {
	var buf [32]byte
	n := copy(buf[:], head[:16])
	peer = peer.Unmap()
	if peer.Is4() {
		a := peer.As4()
		n += copy(buf[n:], a[:])
	} else {
		a := peer.As16()
		n += copy(buf[n:], a[:])
	}
	return b.key.sum(buf[:n])
}
