package authority

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

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
	// Credit keeps the bytes of UDP answers to a network, from its first question on,
	// within those of its questions; 0 does not. An answer that is longer is cut, so
	// that a real client comes by TCP: this is the number of bytes by which answers to
	// its network may then exceed their questions before the next one is cut. It is
	// granted once a second at most, to who comes by TCP or has a good cookie, and not
	// saved up: that much is what a forger can have of a network that is heard from.
	Credit int
	// Slip lets every so many'th answer beyond the limits out, cut to nothing: a real
	// client then comes again by TCP, or with the cookie it finds. 0 is 2; 1 drops
	// none. The first [cutsPerSecond] that are too long for their questions all go out.
	Slip int
	// Exempt are networks that are not limited, because nobody can forge their addresses.
	Exempt []netip.Prefix
}

// DefaultCredit is what a name server on the Internet should have: for a resolver
// without cookies one question in some ten thousand is asked by TCP.
const DefaultCredit = 512 << 10

const (
	// buckets is the number of networks told apart; those that share one share
	// the rate as well.
	buckets = 1 << 16

	// burst is how much of a rate may come at once, in nanoseconds.
	burst = 1e9

	// cutsPerSecond is how many answers to a network may be cut, and none dropped, for
	// want of credit: resolvers that cannot know better yet lose no question.
	cutsPerSecond = 64

	creditEvery = int64(time.Second)
	creditFor   = int64(24 * time.Hour) // a network may have other owners then
)

// limiter is safe for concurrent use.
type limiter struct {
	perAnswer int64 // nanoseconds of a network's time that an answer takes
	credit    int64 // bytes; 0: questions and answers are not weighed
	slip      uint64
	exempt    []netip.Prefix
	key       sipKey // nobody can choose who shares a bucket
	due       [buckets]atomic.Int64
	cuts      [buckets]atomic.Int64 // likewise, of answers that are cut
	// saved is how many bytes a network's answers may exceed their questions by, never
	// less than zero: what it has sent and not got back, and what it was granted.
	saved   [buckets]atomic.Int64
	granted [buckets]atomic.Int64 // Unix nanoseconds; 0 for not
	over    atomic.Uint64         // answers beyond the limits

	dropped, slipped prometheus.Counter
}

func newLimiter(o RateLimit, key sipKey, counts *prometheus.CounterVec) *limiter {
	if o.PerSecond <= 0 && o.Credit <= 0 {
		return nil
	}
	if o.Slip <= 0 {
		o.Slip = 2
	}
	l := &limiter{
		slip: uint64(o.Slip), credit: int64(max(o.Credit, 0)), exempt: o.Exempt, key: key,
		dropped: counts.WithLabelValues("drop"), slipped: counts.WithLabelValues("slip"),
	}
	if o.PerSecond > 0 {
		l.perAnswer = max(burst/int64(o.PerSecond), 1)
	}
	return l
}

// limit is what goes out for an answer to a question of in bytes from an address
// that may be forged, at a time in Unix nanoseconds: the answer, less, or nothing.
func (l *limiter) limit(peer netip.Addr, in int, out []byte, now int64) []byte {
	for i := range l.exempt {
		if l.exempt[i].Contains(peer.Unmap()) {
			return out
		}
	}
	i := l.bucket(peer)
	often := !take(&l.due[i], l.perAnswer, now)
	if !often && l.spend(i, len(out)-in, now) {
		return out
	}
	opt, cookie, end := findOPT(out)
	if drop := often || !take(&l.cuts[i], burst/cutsPerSecond, now); end < 0 || drop && l.over.Add(1)%l.slip != 0 {
		l.spend(i, -in, now)
		l.dropped.Inc()
		return nil
	}
	l.slipped.Inc()
	if len(cookie) > 0 {
		// Where nothing is weighed the bytes of a server cookie are those of the answers that are dropped.
		if more := end + optLen + 4 + len(cookie) - in; (l.credit > 0 || l.slip > 1) && l.spend(i, more, now) {
			return cut(out, opt, cookie, end)
		}
	}
	l.spend(i, end+min(optLen, len(opt))-in, now) // never more than came in
	return cut(out, opt, nil, end)
}

// take takes so many nanoseconds. A bucket holds the time at which what was taken
// so far is paid for (the generic cell rate algorithm). Two workers at one bucket
// may lose one of their two answers, which is only ever to the client's advantage.
func take(b *atomic.Int64, cost, now int64) bool {
	due := max(b.Load(), now)
	if due-now > burst-cost {
		return false
	}
	b.Store(due + cost)
	return true
}

// spend takes so many bytes from what a network has saved, or, if they are less
// than zero, adds to it. It takes none when there are not as many.
func (l *limiter) spend(i uint64, bytes int, now int64) bool {
	if l.credit == 0 {
		return true
	}
	if at := l.granted[i].Load(); at != 0 && now-at > creditFor && l.granted[i].CompareAndSwap(at, 0) {
		l.saved[i].Store(0)
	}
	for {
		have := l.saved[i].Load()
		left := min(have-int64(bytes), l.credit)
		if left < 0 {
			return false
		}
		if left == have || l.saved[i].CompareAndSwap(have, left) {
			return true
		}
	}
}

// prove notes that the network of an address hears us. A nil limiter needs no proof.
func (l *limiter) prove(peer netip.Addr, now int64) {
	if l == nil || l.credit == 0 {
		return
	}
	i := l.bucket(peer)
	if at := l.granted[i].Load(); now-at >= creditEvery && l.granted[i].CompareAndSwap(at, now) {
		l.saved[i].Store(l.credit)
	}
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

// optLen is the size of an OPT record without options, in bytes.
const optLen = 11

// cut makes of an answer what goes out instead: its head, the question that ends at
// end, and its OPT if there is one. With a cookie that says BADCOOKIE, which a client
// answers by coming again with it (RFC 7873 section 5.2.3); without, truncated.
func cut(out, opt, cookie []byte, end int) []byte {
	var fixed [optLen]byte
	has := copy(fixed[:], opt) == optLen
	cookie = bytes.Clone(cookie) // it lies where something else will be
	head := out[:headerLen]
	if records := binary.BigEndian.Uint32(head[6:]); cookie == nil && records != 0 { // else it loses options only
		head[2] |= 1 << 1 // TC
	}
	clear(head[6:12])
	out = out[:end]
	if !has {
		return out
	}
	head[11] = 1
	binary.BigEndian.PutUint16(fixed[9:], 0)
	if cookie != nil {
		head[3] = head[3]&0xf0 | dns.RcodeBadCookie&0xf
		fixed[5] = dns.RcodeBadCookie >> 4
		binary.BigEndian.PutUint16(fixed[9:], uint16(4+len(cookie)))
	}
	out = append(out, fixed[:]...)
	if cookie != nil {
		out = append(append(out, 0, dns.EDNS0COOKIE, 0, byte(len(cookie))), cookie...)
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
		for o := opt[optLen:]; len(o) >= 4; {
			n := int(binary.BigEndian.Uint16(o[2:]))
			if binary.BigEndian.Uint16(o) == dns.EDNS0COOKIE && 4+n <= len(o) {
				cookie = o[4 : 4+n]
			}
			o = o[min(4+n, len(o)):]
		}
	}
	return opt, cookie, end
}
