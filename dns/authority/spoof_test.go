package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A flood with forged addresses, of a few victims and of everybody, slow or fast,
// never gets back more bytes than it has sent, at no moment and for no victim, as a
// node is set up when nothing is said about it. Of a network that has used TCP it
// gets no more than that is granted. A client with a cookie does not notice, nor does
// a resolver without, once it has come by TCP as the cut answer asks it to.
func TestSpoofedFlood(t *testing.T) {
	const seconds = 2
	for _, c := range []struct {
		name      string
		question  string
		do        bool
		perSecond int
	}{
		{"steered", "long.demo.test.", false, 10_000},
		{"steered, slow", "long.demo.test.", false, 200},
		{"signed, slow", "long.demo.test.", true, 100},
		{"signed denial", "nobody.demo.test.", true, 3_000},
		{"signed denial, slow", "nobody.demo.test.", true, 20},
		{"refused", "example.com.", false, 6_000},
		{"refused, slow", "example.com.", false, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			flooded := startWith(t, func(o *Options) {
				o.RateLimit, o.Keys = RateLimit{Credit: DefaultCredit}, []*ecdsa.PrivateKey{key}
			})
			m := newMemory(flooded.Server)
			forged := packed(t, c.question, c.do)
			honest := packed(t, "long.demo.test.", false)
			r := rand.New(rand.NewPCG(3, 5))
			friend := netip.MustParseAddr("198.51.100.1")
			resolver := netip.MustParseAddr("127.0.0.1") // so that its TCP is real
			// Networks that share a bucket share what they have saved: not here.
			taken := map[uint64]bool{flooded.limiter.bucket(friend): true, flooded.limiter.bucket(resolver): true}
			var victims []netip.Prefix
			for i := 0; len(victims) < 8; i++ {
				at := netip.AddrFrom4([4]byte{203, 0, byte(i), 0})
				if b := flooded.limiter.bucket(at); !taken[b] {
					taken[b], victims = true, append(victims, netip.PrefixFrom(at, 24))
				}
			}
			const heard = 7 // a resolver's network: it has used TCP before
			everybody := len(victims)
			anybody := func() (from netip.Addr) {
				for from = friend; taken[flooded.limiter.bucket(from)]; {
					from = netip.AddrFrom4([4]byte{byte(1 + r.IntN(126)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
				}
				return from
			}
			m.begin()
			flooded.limiter.prove(victims[heard].Addr(), m.nanos)
			in, out := make([]int, len(victims)+1), make([]int, len(victims)+1)
			cookie := flooded.baker.append(nil, []byte("12345678"), false, friend, flooded.unix())
			lost, byTCP, full := 0, 0, 0
			room := make([]byte, 0, maxUDP)
			const steps = 1000 // in a second
			for i := range seconds * steps {
				flooded.clock.Add(int64(time.Second / steps))
				m.begin()
				for n := i * c.perSecond / steps; n < (i+1)*c.perSecond/steps; n++ {
					at := r.IntN(len(victims))
					raw := victims[at].Addr().As4()
					raw[3] = byte(r.Uint32())
					from := netip.AddrFrom4(raw)
					if n%2 == 0 {
						at, from = everybody, anybody()
					}
					in[at] += len(forged)
					out[at] += len(m.serve(room, forged, from))
					if at != heard && out[at] > in[at] {
						t.Fatalf("victim %d has been sent %d bytes for %d", at, out[at], in[at])
					}
				}
				var got dns.Msg
				if err := got.Unpack(m.serve(room, withCookie(t, cookie), friend)); err != nil || len(got.Answer) == 0 {
					t.Fatalf("a client with a cookie is told %v, %s", err, &got)
				}
				answer := m.serve(room, honest, resolver)
				m.end()
				if len(answer) == 0 {
					lost++
					continue
				}
				if err := got.Unpack(answer); err != nil {
					t.Fatal(err)
				}
				if full++; got.Truncated {
					byTCP++
					if tcp := flooded.exchange(t, "tcp", question("long.demo.test.", dns.TypeA, netip.Prefix{})); len(tcp.Answer) == 0 {
						t.Fatal(tcp)
					}
				}
			}
			totalIn, totalOut := 0, 0
			for i := range in {
				if i != heard {
					totalIn, totalOut = totalIn+in[i], totalOut+out[i]
				}
			}
			t.Logf("%d bytes in, %d bytes out; to the network that is known %d for %d; the resolver lost %d questions and came by TCP %d times, of %d",
				totalIn, totalOut, out[heard], in[heard], lost, byTCP, full+lost)
			if totalIn == 0 || totalOut == 0 {
				t.Error("there was no flood")
			}
			if out[heard] > in[heard]+DefaultCredit {
				t.Errorf("a resolver's network is sent %d bytes for %d", out[heard], in[heard])
			}
			if lost > 0 || byTCP != 1 {
				t.Errorf("the resolver lost %d questions and came by TCP %d times", lost, byTCP)
			}
			if flooded.count(t, "homing_dns_rate_limited_total{slip}") == 0 {
				t.Error("nothing was limited")
			}
		})
	}
}

// A resolver that nobody gave a cookie asks at ordinary and at great rates for hours:
// hardly ever by TCP, and no question is lost.
func TestResolverWithoutCookies(t *testing.T) {
	for _, perSecond := range []int{1, 10_000} {
		h := startWith(t, func(o *Options) { o.RateLimit = RateLimit{Credit: DefaultCredit} })
		m := newMemory(h.Server)
		resolver := netip.MustParseAddr("223.5.5.5")
		ask := packed(t, "long.demo.test.", false)
		room := make([]byte, 0, maxUDP)
		byTCP, bunch := 0, max(1, perSecond/100)
		const questions = 25_000
		for i := range questions {
			if i%bunch == 0 {
				h.clock.Add(int64(time.Second) * int64(bunch) / int64(perSecond))
				m.begin()
			}
			answer := m.serve(room, ask, resolver)
			switch {
			case len(answer) < headerLen:
				t.Fatalf("question %d at %d/s is not answered", i, perSecond)
			case answer[2]&(1<<1) != 0: // TC
				byTCP++
				h.limiter.prove(resolver, m.nanos) // as serveConn does
			case answer[7] != 3:
				t.Fatalf("%x", answer)
			}
		}
		if byTCP != 3 { // 48 bytes more than a question are 10,922 answers
			t.Errorf("at %d/s %d of %d questions were asked by TCP", perSecond, byTCP, questions)
		}
	}
}

// What is granted lasts a day, and is granted once a second, from however many
// connections; what a network has sent itself is saved up to as much and not more.
func TestCredit(t *testing.T) {
	const in, more = 60, 40
	h := startWith(t, func(o *Options) { o.RateLimit = RateLimit{Credit: 1000} })
	l, now := h.limiter, int64(testClock)
	i := l.bucket(peer)
	take := func(want int) {
		t.Helper()
		n := 0
		for l.spend(i, more, now) {
			n++
		}
		if n != want {
			t.Errorf("%d answers of %d bytes more, want %d", n, more, want)
		}
	}
	take(0)
	l.prove(peer, now)
	take(1000 / more)
	l.prove(peer, now+creditEvery-1)
	take(0)
	now += creditEvery
	for range 10 {
		l.prove(peer, now)
	}
	take(1000 / more)
	now += creditEvery
	l.prove(peer, now)
	now += creditFor + 1
	take(0)
	for range 4 { // dropped
		l.spend(i, -in, now)
	}
	take(4 * in / more)
	for range 100 {
		l.spend(i, -in, now)
	}
	take(1000 / more)
	var nobody *limiter
	nobody.prove(peer, now)
}

// packed is a question with EDNS.
func packed(t *testing.T, name string, do bool) []byte {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeA)
	q.SetEdns0(4096, do)
	out, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Networks whose addresses nobody can forge are not limited.
func TestExemptNetworks(t *testing.T) {
	h := startWith(t, func(o *Options) {
		o.RateLimit = RateLimit{PerSecond: 1, Credit: 100, Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
	})
	m := newMemory(h.Server)
	m.begin()
	room := make([]byte, 0, maxUDP)
	ask := packed(t, "long.demo.test.", false)
	for from, want := range map[string]int{"10.1.2.3": 100, "::ffff:10.1.2.4": 100, "fd00::1": 100, "192.0.2.1": 0} {
		full := 0
		for range 100 {
			var got dns.Msg
			if answer := m.serve(room, ask, netip.MustParseAddr(from)); len(answer) > 0 && got.Unpack(answer) == nil && !got.Truncated {
				full++
			}
		}
		if want == 100 && full != want || want == 0 && full > 1 {
			t.Errorf("%s is given %d full answers of 100", from, full)
		}
	}
}
