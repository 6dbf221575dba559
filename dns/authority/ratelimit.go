package authority

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// RateLimit bounds what a forged address can make the server send to its
// owner. Clients with a good cookie, and all that come by TCP, are not limited.
type RateLimit struct {
	// PerSecond is the number of UDP answers per second for one IPv4 /24 or IPv6
	// /56 network; 0 does not limit. A public resolver without cookies may well ask
	// thousands of questions per second from one network.
	PerSecond int
	// Slip lets every so many'th answer beyond the rate out, cut to nothing: a real
	// client then comes again by TCP, or with the cookie it finds. 0 is 2; 1 drops
	// none.
	Slip int
}

// buckets is the number of networks told apart; those that share one share
// the rate as well.
const buckets = 1 << 16

// limiter is safe for concurrent use.
type limiter struct {
	interval int64 // nanoseconds per answer
	slip     uint64
	key      sipKey // nobody can choose who shares a bucket
	due      [buckets]atomic.Int64
	over     atomic.Uint64 // answers beyond the rate

	dropped, slipped prometheus.Counter
}

// burst is how much of the rate may come at once, in nanoseconds.
const burst = 1e9

func newLimiter(o RateLimit, key sipKey, counts *prometheus.CounterVec) *limiter {
	if o.PerSecond <= 0 {
		return nil
	}
	if o.Slip <= 0 {
		o.Slip = 2
	}
	return &limiter{
		interval: max(1e9/int64(o.PerSecond), 1), slip: uint64(o.Slip), key: key,
		dropped: counts.WithLabelValues("drop"), slipped: counts.WithLabelValues("slip"),
	}
}

// allow takes one answer for the network of an address at a time in
// nanoseconds. Each bucket holds the time at which the answers so far are paid
// for (the generic cell rate algorithm). Two workers at one bucket may lose one
// of their two answers, which is only ever to the client's advantage.
func (l *limiter) allow(peer netip.Addr, now int64) bool {
	b := &l.due[l.bucket(peer)]
	due := max(b.Load(), now)
	if due-now > burst-l.interval {
		return false
	}
	b.Store(due + l.interval)
	return true
}

func (l *limiter) bucket(peer netip.Addr) uint64 {
	var network [8]byte
	peer = peer.Unmap()
	if peer.Is4() {
		a := peer.As4()
		copy(network[1:], a[:3])
	} else {
		a := peer.As16()
		copy(network[:], a[:7])
		network[7] = 6
	}
	return l.key.sum(network[:]) % buckets
}

// cut makes of an answer beyond the rate what goes out instead: nothing, or
// head and question alone. Who has sent a client cookie is told BADCOOKIE with
// a server cookie (RFC 7873 section 5.2.3), all others that the answer is
// truncated.
func (l *limiter) cut(out []byte) []byte {
	if l.over.Add(1)%l.slip != 0 {
		l.dropped.Inc()
		return nil
	}
	opt, cookie, end := findOPT(out)
	if end < 0 {
		l.dropped.Inc()
		return nil
	}
	l.slipped.Inc()
	head := out[:headerLen]
	clear(head[6:12])
	var fixed [11]byte
	has := opt != nil && copy(fixed[:], opt) == len(fixed)
	kept := append([]byte(nil), cookie...)
	out = out[:end]
	if cookie == nil {
		head[2] |= 1 << 1 // TC
	}
	if !has {
		return out
	}
	head[11] = 1
	at := len(out)
	out = append(out, fixed[:]...)
	binary.BigEndian.PutUint16(out[at+9:], 0)
	if cookie != nil {
		head[3] = head[3]&0xf0 | dns.RcodeBadCookie&0xf
		out[at+5] = dns.RcodeBadCookie >> 4
		binary.BigEndian.PutUint16(out[at+9:], uint16(4+len(kept)))
		out = append(out, 0, dns.EDNS0COOKIE, 0, byte(len(kept)))
		out = append(out, kept...)
	}
	return out
}

// findOPT finds in an answer of ours the OPT, the cookie in it, and the end of
// the question; -1 when it is not well formed, which cannot be.
func findOPT(p []byte) (opt, cookie []byte, end int) {
	end = headerLen
	if binary.BigEndian.Uint16(p[4:]) == 1 {
		if end = skipName(p, end); end < 0 || end+4 > len(p) {
			return nil, nil, -1
		}
		end += 4
	}
	at := end
	for at < len(p) {
		start := at
		if at = skipName(p, at); at < 0 || at+10 > len(p) {
			return nil, nil, -1
		}
		length := int(binary.BigEndian.Uint16(p[at+8:]))
		rtype := binary.BigEndian.Uint16(p[at:])
		if at += 10 + length; at > len(p) {
			return nil, nil, -1
		}
		if rtype != dns.TypeOPT {
			continue
		}
		opt = p[start:at]
		for o := opt[11:]; len(o) >= 4; {
			n := int(binary.BigEndian.Uint16(o[2:]))
			if binary.BigEndian.Uint16(o) == dns.EDNS0COOKIE && 4+n <= len(o) {
				cookie = o[4 : 4+n]
			}
			o = o[min(4+n, len(o)):]
		}
	}
	return opt, cookie, end
}
