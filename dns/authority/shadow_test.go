package authority

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// In the shadow of a present server clients get its very answers, over UDP and
// TCP, and what this one would have said is compared: what is the same, what
// differs in what, and what the present one does not answer.
func TestShadow(t *testing.T) {
	present := startWith(t, func(o *Options) { o.HTTP = nil })
	w := testWorld()
	w.Steering.TTL = 7
	w.Rules = nil
	present.view.Store(region.NewView(w, region.Hash{9}, nil))
	h := startWith(t, func(o *Options) { o.Shadow = present.Addrs()[0].String() })
	net1, mobile := netip.MustParsePrefix("223.5.5.0/24"), netip.MustParsePrefix("117.184.0.0/16")

	same := func(m *dns.Msg) {
		t.Helper()
		for _, network := range []string{"udp", "tcp"} {
			got, want := h.exchange(t, network, m), present.exchange(t, network, m)
			got.Id, want.Id = 0, 0
			if got.String() != want.String() {
				t.Errorf("%s\n%s\nwant\n%s", network, got, want)
			}
		}
	}
	same(question("long.demo.test.", dns.TypeA, net1))                   // differs in TTL
	same(question("long.demo.test.", dns.TypeA, mobile))                 // another answer: rule mobile is ours alone
	same(question("nobody.demo.test.", dns.TypeA, netip.Prefix{}))       // the same
	same(question("v-90000.long.demo.test.", dns.TypeA, netip.Prefix{})) // without an option; rule beta
	for series, want := range map[string]float64{"ttl": 2, "answer": 4, "same": 2} {
		if n := h.count(t, "homing_dns_shadow_total{"+series+"}"); n != want {
			t.Errorf("%s: %v, want %v", series, n, want)
		}
	}
	found := h.Differences()
	if len(found) != 6 {
		t.Fatalf("%+v", found)
	}
	d := found[2]
	if d.What != "answer" || d.Rule != "mobile" || d.Client != mobile.String() || d.Name != "long.demo.test." || d.Type != "A" ||
		strings.Join(d.Ours.Records, ",") != "A 127.1.0.1,A 127.2.0.2" || d.Theirs.TTL != 7 || len(d.Theirs.Records) != 3 {
		t.Errorf("%+v", d)
	}

	// What is malformed is refused here, and the present server is not bothered.
	bad := question("long.demo.test.", dns.TypeA, net1)
	bad.IsEdns0().SetVersion(1)
	if m := h.exchange(t, "udp", bad); m.Rcode != dns.RcodeBadVers {
		t.Error(m)
	}
	present.setHealth(steer.AllUp)
	if err := present.Close(); err != nil {
		t.Fatal(err)
	}
	m := h.exchange(t, "tcp", question("long.demo.test.", dns.TypeA, net1))
	if m.Rcode != dns.RcodeServerFailure || len(m.Answer) != 0 {
		t.Error(m)
	}
	if n := h.count(t, "homing_dns_shadow_total{unanswered}"); n != 1 {
		t.Error(n)
	}
	if _, err := New(Options{View: h.view.Load, Health: h.o.Health, Geo: h.geo, Shadow: "ns.example"}); region.KindOf(err) != region.BadInput {
		t.Error(err)
	}
}
