package authority

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/authority/static"
)

// SVCB and HTTPS say what SRV and the addresses say, on the wire and to the real
// dig, signed or not; names that are not HTTP have no HTTPS.
func TestBindings(t *testing.T) {
	h, made := startSigned(t, 1)
	key, err := DNSKEY("demo.test", &made[0].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, client := range []string{"223.5.5.0/24", "50.92.0.0/16", "117.184.0.0/16"} {
		prefix := netip.MustParsePrefix(client)
		var want Reply
		if status := h.get(t, "/d", url.Values{"host": {"short.demo.test"}, "ip": {client}}, &want); status != http.StatusOK {
			t.Fatal(status)
		}
		for _, qtype := range []uint16{dns.TypeSVCB, dns.TypeHTTPS} {
			m := h.exchange(t, "udp", question("short.demo.test.", qtype, prefix))
			var got []netip.AddrPort
			for i, rr := range m.Answer {
				svcb, ok := rr.(*dns.SVCB)
				if https, is := rr.(*dns.HTTPS); is {
					svcb, ok = &https.SVCB, true
				}
				if !ok || rr.Header().Rrtype != qtype || rr.Header().Ttl != want.TTL || int(svcb.Priority) != i+1 || svcb.Target != want.Hints[i].Target {
					t.Fatalf("%s", rr)
				}
				addr := netip.MustParseAddr(svcb.Value[1].String())
				got = append(got, netip.MustParseAddrPort(fmt.Sprintf("%s:%s", bracket(addr), svcb.Value[0])))
			}
			if !slices.Equal(got, want.Endpoints) || scopeOf(m) != netip.MustParsePrefix(want.Scope).Bits() {
				t.Errorf("%s %s: %v, want %+v", client, dns.TypeToString[qtype], got, want)
			}
		}
	}
	secure := question("short.demo.test.", dns.TypeHTTPS, netip.Prefix{})
	secure.SetEdns0(maxUDP, true)
	if got := signedSets(t, h.exchange(t, "tcp", secure).Answer, []*dns.DNSKEY{key}); !slices.Equal(got, []string{"HTTPS"}) {
		t.Error(got)
	}
	if m := h.exchange(t, "udp", question("long.demo.test.", dns.TypeHTTPS, netip.Prefix{})); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Error(m)
	}
	out := squeeze(h.dig(t, "short.demo.test", "HTTPS", "+subnet=223.5.5.0/24"))
	if !strings.Contains(out, "HTTPS 1 pop-1.pop.demo.test. port=7002 ipv4hint=127.2.0.1") && !strings.Contains(out, "TYPE65") {
		t.Error(out)
	}
}

func bracket(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// Zone files have SVCB and HTTPS records too, the alias form at the zone's own
// name among them, and CAA.
func TestBindingsInFiles(t *testing.T) {
	zone, err := static.Parse("z.db", `$ORIGIN example.org.
@ 300 IN SOA ns hostmaster 1 60 60 60 60
@ IN NS ns
@ IN HTTPS 0 www
@ IN CAA 0 issue "ca.example"
ns IN A 192.0.2.53
www IN A 192.0.2.80
www IN HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.80
_8443._foo.api IN SVCB 2 www port=8443
`)
	if err != nil {
		t.Fatal(err)
	}
	set, err := static.NewSet(zone)
	if err != nil {
		t.Fatal(err)
	}
	h := startWith(t, func(o *Options) { o.Static = func() *static.Set { return set } })
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
		extra int // additional records
	}{
		{"example.org.", dns.TypeHTTPS, "0 www.example.org.", 1},
		{"www.example.org.", dns.TypeHTTPS, `1 . alpn="h2,h3" ipv4hint="192.0.2.80"`, 0},
		{"_8443._foo.api.example.org.", dns.TypeSVCB, `2 www.example.org. port="8443"`, 1},
		{"example.org.", dns.TypeCAA, `0 issue "ca.example"`, 0},
	} {
		m := h.exchange(t, "udp", question(c.name, c.qtype, netip.Prefix{}))
		if len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), "\t"+c.want) || len(m.Extra) != c.extra {
			t.Errorf("%s", m)
		}
	}
}
