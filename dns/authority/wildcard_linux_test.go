package authority

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A socket bound to no address answers from the address that was asked, also
// when many packets come in one system call; a connected client hears no other.
func TestWildcardAnswersFromWhereItWasAsked(t *testing.T) {
	six, err := net.ListenPacket("udp6", "[::1]:0")
	if err == nil {
		_ = six.Close()
	}
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		h := startWith(t, func(o *Options) { o.Listen, o.Workers = []string{listen}, 3 })
		for _, at := range []string{"127.0.0.1", "127.7.7.7", "::1"} {
			if at == "::1" && (six == nil || listen == "0.0.0.0:0") {
				continue
			}
			for range 8 { // other ports, so other workers
				conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(at), Port: int(h.Addrs()[0].Port())})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Fatal(err)
				}
				ask := packet(t, headR+qA+"00 0029 04d0 00000000 000b 00080007 0001 18 00 df0505")
				for range 40 {
					if _, err := conn.Write(ask); err != nil {
						t.Fatal(err)
					}
				}
				buf := make([]byte, maxUDP)
				for i := range 40 {
					n, err := conn.Read(buf)
					var m dns.Msg
					if err != nil || m.Unpack(buf[:n]) != nil || len(m.Answer) != 3 {
						t.Fatalf("%s at %s: answer %d: %v\n%s", listen, at, i, err, &m)
					}
				}
			}
		}
	}
}
