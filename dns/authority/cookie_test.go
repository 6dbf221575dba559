package authority

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The vectors of the SipHash paper (appendix A) and of RFC 9018 appendix A.
func TestSipHashAndCookieVectors(t *testing.T) {
	var key [16]byte
	message := make([]byte, 15)
	for i := range key {
		key[i] = byte(i)
	}
	for i := range message {
		message[i] = byte(i)
	}
	if got := newSipKey(key).sum(message); got != 0xa129ca6149be45e5 {
		t.Errorf("SipHash %x", got)
	}
	b := baker{newSipKey([16]byte(packet(t, "e5e973e5a6b2a43f48e7dc849e37bfcf")))}
	client := packet(t, "2464c4abcf10c957")
	got := b.append(nil, client, false, netip.MustParseAddr("198.51.100.100"), 1559731985)
	if want := "2464c4abcf10c957010000005cf79f111f8130c3eee29480"; hex.EncodeToString(got) != want {
		t.Errorf("cookie %x, want %s", got, want)
	}
	if !b.check(got, netip.MustParseAddr("198.51.100.100"), 1559731985+60) {
		t.Error("its own cookie is not good")
	}
}

// cookieOf is the cookie option of an answer, nil for none.
func cookieOf(t *testing.T, m *dns.Msg) []byte {
	t.Helper()
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				raw, err := hex.DecodeString(c.Cookie)
				if err != nil {
					t.Fatal(err)
				}
				return raw
			}
		}
	}
	return nil
}

func withCookie(t *testing.T, cookie []byte) []byte {
	t.Helper()
	m := question("long.demo.test.", dns.TypeA, netip.MustParsePrefix("223.5.5.0/24"))
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(cookie)})
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The life of a cookie, on the worker's way: given, recognised, renewed,
// refused to others and when old (RFC 7873 section 5.2, RFC 9018 section 4.3).
func TestCookieLife(t *testing.T) {
	h := start(t)
	m := newMemory(h.Server)
	ask := func(cookie []byte, from netip.Addr) (back []byte, trusted bool) {
		p := withCookie(t, cookie)
		if !h.same(t, m, p, from) {
			t.Fatal("not answered from memory")
		}
		var answer dns.Msg
		if err := answer.Unpack(h.respond(p, from, overUDP)); err != nil || answer.Rcode != dns.RcodeSuccess || len(answer.Answer) != 3 {
			t.Fatal(err, &answer)
		}
		return cookieOf(t, &answer), m.g.trusted
	}
	client := []byte("12345678")
	full, trusted := ask(client, peer)
	if len(full) != cookieLen || !bytes.HasPrefix(full, client) || trusted {
		t.Fatalf("first cookie %x, trusted %v", full, trusted)
	}
	if back, trusted := ask(full, peer); !trusted || !bytes.Equal(back, full) {
		t.Errorf("the good cookie came back as %x, trusted %v", back, trusted)
	}
	if back, trusted := ask(full, netip.MustParseAddr("223.5.5.6")); trusted || bytes.Equal(back, full) {
		t.Errorf("somebody else's cookie came back as %x, trusted %v", back, trusted)
	}
	forged := bytes.Clone(full)
	forged[20] ^= 1
	if _, trusted := ask(forged, peer); trusted {
		t.Error("a forged cookie is trusted")
	}
	if _, trusted := ask(append(bytes.Clone(client), "another server's"...), peer); trusted {
		t.Error("another server's cookie is trusted")
	}
	for _, c := range []struct {
		after          time.Duration
		trusted, fresh bool
	}{{29 * time.Minute, true, false}, {31 * time.Minute, true, true}, {time.Hour + time.Second, false, true}, {-time.Minute, true, false}, {-6 * time.Minute, false, true}} {
		h.clock.Store(int64(testClock + c.after))
		back, trusted := ask(full, peer)
		if trusted != c.trusted || bytes.Equal(back, full) == c.fresh {
			t.Errorf("after %s: trusted %v, back %x of %x", c.after, trusted, back, full)
		}
	}
}

// A question for a cookie alone, and cookies of a wrong length.
func TestCookieForms(t *testing.T) {
	h := start(t)
	option := func(n int) string {
		return "00 0029 04d0 00000000 " + hex.EncodeToString(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(n+4)), 10), uint16(n))) + strings.Repeat("61", n)
	}
	for n := range 44 {
		var m dns.Msg
		if err := m.Unpack(h.respond(packet(t, "abcd 0100 0000 0000 0000 0001"+option(n)), peer, overUDP)); err != nil {
			t.Fatal(err)
		}
		good := n == 8 || (n >= 16 && n <= 40)
		if (m.Rcode == dns.RcodeSuccess) != good || (cookieOf(t, &m) != nil) != good || (!good && m.Rcode != dns.RcodeFormatError) {
			t.Errorf("cookie of %d bytes: %s", n, &m)
		}
	}
}

// A flood with forged addresses gets back no more bytes than it sent; who has a
// cookie, another network, or TCP does not notice.
func TestFloodIsNotAmplified(t *testing.T) {
	for _, c := range []struct {
		name   string
		packet []byte
		rcode  int
	}{
		{"plain", packet(t, head+qA), dns.RcodeSuccess},
		{"EDNS and subnet", packet(t, headR+qname+"0021 0001"+"00 0029 04d0 00008000 000b 00080007 0001 18 00 df0505"), dns.RcodeSuccess},
		{"client cookie", withCookie(t, []byte("forgery!")), dns.RcodeBadCookie},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := startWith(t, func(o *Options) { o.RateLimit = RateLimit{PerSecond: 10} })
			m := newMemory(h.Server)
			m.begin()
			room := make([]byte, 0, maxUDP)
			full, cut, none, in, out := 0, 0, 0, 0, 0
			for range 1000 {
				answer := m.serve(room, c.packet, peer)
				in, out = in+len(c.packet), out+len(answer)
				if len(answer) == 0 {
					none++
					continue
				}
				var got dns.Msg
				if err := got.Unpack(answer); err != nil {
					t.Fatal(err)
				}
				switch {
				case len(got.Answer) > 0:
					full++
				case got.Rcode == c.rcode && got.Truncated == (c.rcode == dns.RcodeSuccess) && len(got.Question) == 1 && (cookieOf(t, &got) != nil) == (c.rcode == dns.RcodeBadCookie):
					cut++
				default:
					t.Fatal(&got)
				}
			}
			if full != 10 || cut != 495 || none != 495 {
				t.Errorf("%d full, %d cut, %d dropped", full, cut, none)
			}
			if out > in {
				t.Errorf("%d bytes out for %d in", out, in)
			}
			if got := h.count(t, "homing_dns_rate_limited_total{slip}") + h.count(t, "homing_dns_rate_limited_total{drop}"); got != 990 {
				t.Errorf("%v counted", got)
			}
			if len(m.serve(room, c.packet, netip.MustParseAddr("223.5.6.5"))) == 0 {
				t.Error("another network is limited, too")
			}
			cookie := m.s.baker.append(nil, []byte("12345678"), false, peer, h.unix())
			for range 100 {
				var got dns.Msg
				if err := got.Unpack(m.serve(room, withCookie(t, cookie), peer)); err != nil || len(got.Answer) != 3 {
					t.Fatal("a client with a cookie is limited, too", err, &got)
				}
			}
			if len(h.respond(c.packet, peer, overTCP)) <= len(c.packet) {
				t.Error("TCP is limited, too")
			}
			h.clock.Add(int64(time.Second))
			m.begin()
			var got dns.Msg
			if err := got.Unpack(m.serve(room, c.packet, peer)); err != nil || len(got.Answer) == 0 {
				t.Error("limited for ever", err, &got)
			}
		})
	}
}
