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

// A flood with forged addresses, of a few victims and of everybody, gets back no
// more bytes than it sends, as a node is set up when nothing is said about it; where
// answers are hardly longer than questions, no more than is allowed besides. A
// client with a cookie does not notice, nor does a resolver without, once it has
// come by TCP as the cut answer asks it to.
func TestSpoofedFlood(t *testing.T) {
	const seconds = 2
	for _, c := range []struct {
		name      string
		question  string
		do        bool
		perSecond int
	}{
		{"steered", "long.demo.test.", false, 20_000},
		{"signed denial", "nobody.demo.test.", true, 6_000},
		{"refused", "example.com.", false, 6_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			flooded := startWith(t, func(o *Options) {
				o.RateLimit, o.Keys = RateLimit{Excess: DefaultExcess}, []*ecdsa.PrivateKey{key}
			})
			m := newMemory(flooded.Server)
			forged := packed(t, c.question, c.do)
			honest := packed(t, "long.demo.test.", false)
			r := rand.New(rand.NewPCG(3, 5))
			var victims []netip.Prefix
			for i := range 8 {
				victims = append(victims, netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i), 0}), 24))
			}
			const heard = 7 // a resolver's network: it has used TCP before
			m.begin()
			flooded.limiter.prove(victims[heard].Addr(), m.nanos)
			in, out := make([]int, len(victims)+1), make([]int, len(victims)+1)
			friend := netip.MustParseAddr("198.51.100.1")
			cookie := flooded.baker.append(nil, []byte("12345678"), false, friend, flooded.unix())
			resolver := netip.MustParseAddr("127.0.0.1") // so that its TCP is real
			lost, byTCP, full := 0, 0, 0
			room := make([]byte, 0, maxUDP)
			for range seconds * 1000 {
				flooded.clock.Add(int64(time.Millisecond))
				m.begin()
				for i := range c.perSecond / 1000 {
					at := r.IntN(len(victims))
					from := victims[at].Addr().As4()
					if from[3] = byte(r.Uint32()); i%2 == 0 {
						at, from = len(victims), [4]byte{byte(1 + r.IntN(126)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}
					}
					in[at] += len(forged)
					out[at] += len(m.serve(room, forged, netip.AddrFrom4(from)))
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
			if totalOut > totalIn && c.name != "refused" || totalOut > totalIn+DefaultExcess*(seconds+1) {
				t.Errorf("%d bytes out for %d bytes in", totalOut, totalIn)
			}
			if out[heard] > in[heard]+provenShare*DefaultExcess*(seconds+1) {
				t.Errorf("a resolver's network is sent %d bytes for %d", out[heard], in[heard])
			}
			if lost > 20 || byTCP > 1 {
				t.Errorf("the resolver lost %d questions and came by TCP %d times", lost, byTCP)
			}
			if flooded.count(t, "homing_dns_rate_limited_total{slip}") == 0 && c.name != "refused" {
				t.Error("nothing was limited")
			}
		})
	}
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
		o.RateLimit = RateLimit{PerSecond: 1, Excess: 100, Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
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
