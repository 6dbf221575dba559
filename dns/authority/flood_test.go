package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A flood from forged addresses gets back no more bytes than it sends, whatever
// it asks for, once it is beyond the rate: real packets, a signed zone, and the
// largest answers there are. The clock stands still, so that the rate is spent.
func TestFloodOnTheWire(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		qtype uint16
		do    bool
	}{
		{"long.demo.test.", dns.TypeA, false},
		{"long.demo.test.", dns.TypeSRV, false},
		{"long.demo.test.", dns.TypeANY, true},
		{"demo.test.", dns.TypeDNSKEY, true},
		{"demo.test.", dns.TypeNS, true},
		{"nobody.demo.test.", dns.TypeA, true},
		{"example.com.", dns.TypeA, false},
	} {
		t.Run(c.name+dns.TypeToString[c.qtype], func(t *testing.T) {
			t.Parallel()
			h := startWith(t, func(o *Options) { o.RateLimit, o.Keys = RateLimit{PerSecond: 20}, []*ecdsa.PrivateKey{key} })
			m := new(dns.Msg)
			m.SetQuestion(c.name, c.qtype)
			m.SetEdns0(4096, c.do)
			packet, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(h.Addrs()[0]))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			const packets = 2000
			in, out, answers, largest := 0, 0, 0, 0
			room := make([]byte, 65536)
			take := func(wait time.Duration) bool {
				_ = conn.SetReadDeadline(time.Now().Add(wait))
				n, err := conn.Read(room)
				if err != nil {
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatal(err)
					}
					return false
				}
				out, answers, largest = out+n, answers+1, max(largest, n)
				return true
			}
			for range packets {
				n, err := conn.Write(packet)
				if err != nil {
					t.Fatal(err)
				}
				in += n
				for take(time.Microsecond) {
				}
			}
			for take(300 * time.Millisecond) {
			}
			t.Logf("%d bytes in, %d bytes out in %d answers, the largest of %d bytes for %d", in, out, answers, largest, len(packet))
			if answers < 20 || largest <= len(packet) && c.name != "example.com." {
				t.Errorf("%d answers, the largest of %d bytes: the flood was not answered", answers, largest)
			}
			if out > in {
				t.Errorf("%d bytes out for %d bytes in", out, in)
			}
		})
	}
}
