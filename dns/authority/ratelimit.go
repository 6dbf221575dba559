package authority

import (
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
	// Excess is the number of bytes per second by which UDP answers may exceed their
	// questions; 0 does not limit. A network that has shown within a day that it hears
	// us, by TCP or a good cookie, may have [provenShare] times as much for itself. All
	// others share it: a flood from addresses all over gets no more than one from one.
	Excess int
	// Slip lets every so many'th answer beyond the limits out, cut to nothing: a real
	// client then comes again by TCP, or with the cookie it finds. 0 is 2; 1 drops
	// none.
	Slip int
	// Exempt are networks that are not limited, because nobody can forge their addresses.
	Exempt []netip.Prefix
}

// DefaultExcess is what a name server on the Internet should have: about a
// thousand plain answers per second for those that never used TCP.
const DefaultExcess = 64 << 10

const (
	// buckets is the number of networks told apart; those that share one share
	// the rate as well.
	buckets = 1 << 16

	// burst is how much of the rate may come at once, in nanoseconds.
	burst = 1e9

	provenShare = 8 // large resolvers without cookies are not to be hindered
	provenFor   = int64(24 * time.Hour)
)

// limiter is safe for concurrent use.
type limiter struct {
	perAnswer int64 // nanoseconds of a network's time that an answer takes
	perByte   int64 // and each byte that it is longer than its question, or of everybody's
	slip      uint64
	exempt    []netip.Prefix
	key       sipKey // nobody can choose who shares a bucket
	due       [buckets]atomic.Int64
	proven    [buckets]atomic.Int64 // Unix nanoseconds until which a network is known to hear us
	common    atomic.Int64          // due of all others together, for what is longer
	over      atomic.Uint64         // answers beyond the limits

	dropped, slipped prometheus.Counter
}

func newLimiter(o RateLimit, key sipKey, counts *prometheus.CounterVec) *limiter {
	if o.PerSecond <= 0 && o.Excess <= 0 {
		return nil
	}
	if o.Slip <= 0 {
		o.Slip = 2
	}
	l := &limiter{
		slip: uint64(o.Slip), exempt: o.Exempt, key: key,
		dropped: counts.WithLabelValues("drop"), slipped: counts.WithLabelValues("slip"),
	}
	if o.PerSecond > 0 {
		l.perAnswer = max(burst/int64(o.PerSecond), 1)
	}
	if o.Excess > 0 {
		l.perByte = max(burst/int64(o.Excess), 1)
	}
	return l
}

// allow says whether an answer of out bytes to a question of in bytes may go to
// the network of an address, at a time in Unix nanoseconds.
func (l *limiter) allow(peer netip.Addr, in, out int, now int64) bool {
	for i := range l.exempt {
		if l.exempt[i].Contains(peer.Unmap()) {
			return true
		}
	}
	i := l.bucket(peer)
	excess := int64(max(out-in, 0)) * l.perByte
	if l.proven[i].Load() > now {
		return take(&l.due[i], l.perAnswer+excess/provenShare, now)
	}
	return take(&l.due[i], l.perAnswer, now) && (excess == 0 || take(&l.common, excess, now))
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

// prove notes that the network of an address hears us. A nil limiter needs no proof.
func (l *limiter) prove(peer netip.Addr, now int64) {
	if l == nil {
		return
	}
	b := &l.proven[l.bucket(peer)]
	if until := now + provenFor; b.Load() < until-int64(time.Minute) { // not with every packet
		b.Store(until)
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

// cut makes of an answer beyond the limits what goes out instead: nothing, or
// head and question alone. Who has sent a client cookie is told BADCOOKIE with
// a server cookie (RFC 7873 section 5.2.3), all others that the answer is
// truncated. What goes out is never longer than what came in: the bytes of a
// server cookie are those of the answers that are dropped.
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
	if l.slip == 1 {
		cookie = nil
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
