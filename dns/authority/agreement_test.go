package authority

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// get fetches JSON from HTTPDNS and returns the status.
func (h *harness) get(t *testing.T, path string, params url.Values, into any) int {
	t.Helper()
	resp, err := http.Get("http://" + h.HTTPAddrs()[0].String() + path + "?" + params.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s?%s: %v in %s", path, params.Encode(), err, raw)
	}
	return resp.StatusCode
}

// exchange asks over UDP or TCP.
func (h *harness) exchange(t *testing.T, network string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network}
	out, _, err := c.Exchange(m, h.Addrs()[0].String())
	if err != nil {
		t.Fatalf("%s: %v\n%s", network, err, m)
	}
	return out
}

func question(name string, qtype uint16, client netip.Prefix) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	if client.IsValid() {
		s := subnet{family: familyIPv4, source: uint8(client.Bits()), prefix: client}
		if client.Addr().Is6() {
			s.family = familyIPv6
		}
		m.SetEdns0(maxUDP, false)
		m.IsEdns0().Option = []dns.EDNS0{s.option(0)}
	}
	return m
}

// targets are the SRV records in order of priority, as pop or region and port.
func targets(t *testing.T, m *dns.Msg) []string {
	t.Helper()
	var records []*dns.SRV
	for _, rr := range m.Answer {
		records = append(records, rr.(*dns.SRV))
	}
	slices.SortFunc(records, func(a, b *dns.SRV) int { return int(a.Priority) - int(b.Priority) })
	var out []string
	for _, r := range records {
		out = append(out, fmt.Sprintf("%s:%d", strings.SplitN(r.Target, ".", 2)[0], r.Port))
	}
	return out
}

func addrsIn(m *dns.Msg) []string {
	var out []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			out = append(out, rr.A.String())
		case *dns.AAAA:
			out = append(out, rr.AAAA.String())
		}
	}
	return out
}

func scopeOf(m *dns.Msg) int {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_SUBNET); ok {
				return int(e.SourceScope)
			}
		}
	}
	return -1
}

// richWorld has pools of every kind.
func richWorld() *region.World {
	w := testWorld()
	w.Version = 9
	for i := range w.POPs {
		w.POPs[i].Users = 1000
	}
	w.POPs[2].DrainShare = 2000
	w.Rules = []region.Rule{
		{Name: "down", Match: region.Match{Homes: []region.ID{"hk"}, Services: []region.Service{region.Long}}, Act: region.Act{POPs: []region.POPID{"pop-4", "pop-5", "pop-6"}, AllDown: region.LastKnownGood}},
		{Name: "measured", Match: region.Match{Homes: []region.ID{"ca"}}, Act: region.Act{Order: region.OrderMeasured, Band: 10}},
		{Name: "weighted", Match: region.Match{HealthyPOPs: []region.POPID{"pop-1"}, Not: &region.Match{Versions: []region.VersionRange{{From: 90_000}}}}, Act: region.Act{
			Pool:  []region.PoolMember{{POP: "pop-1", Weight: 3}, {POP: "pop-2"}, {POP: "pop-3", Weight: 2, Drain: 1000}, {Region: "sh", Tier: 1}},
			Order: region.OrderWeighted, Spill: 8000,
		}},
		{Name: "network", Act: region.Act{Order: region.OrderNearest, Band: 1500, Sticky: region.StickyPrefix}},
	}
	return w
}

// For 1,000 random clients all transports say what Steer says; with POPs and a
// region dead and another acting, they change, and agree again.
func TestAllTransportsAgree(t *testing.T) {
	h := start(t)
	r := rand.New(rand.NewPCG(1, 2))
	changed := 0
	for i := range 1000 {
		if i == 500 {
			h.setHealth(&steer.Up{POPs: map[region.POPID]bool{"pop-2": true, "pop-4": true}, Regions: map[region.ID]bool{"hk": true, "ca": true}})
			w := testWorld()
			w.Version = 8
			w.Regions[0].Acting = region.Acting{Region: "hk", Counter: 2}
			h.view.Store(region.NewView(w, region.Hash{2}, nil))
		}
		if i == 750 {
			h.setHealth(&steer.Up{
				POPs: map[region.POPID]bool{"pop-1": true, "pop-2": true, "pop-3": true}, Regions: map[region.ID]bool{"sh": true, "ca": true},
				Loads: map[steer.Site]uint32{{POP: "pop-1"}: 9000}, RTTs: map[steer.Path]uint32{{From: steer.Site{POP: "pop-3"}, To: "ca"}: 5},
				Falls: map[steer.Site]int64{{POP: "pop-5"}: 100, {POP: "pop-6"}: 95, {POP: "pop-4"}: 50},
			})
			h.view.Store(region.NewView(richWorld(), region.Hash{3}, nil))
		}
		view, health := h.view.Load(), *h.health.Load()
		addr := randomAddr(r)
		prefix := netip.PrefixFrom(addr, addr.BitLen()-r.IntN(3)*4).Masked()
		c := steer.Client{Service: testWorld().Services()[r.IntN(2)], Prefix: prefix, Facts: h.geo.LookupPrefix(prefix)}
		name := string(c.Service) + ".demo.test"
		params := url.Values{"host": {name}, "ip": {prefix.String()}}
		if r.IntN(2) == 0 {
			c.Version = 80_000 + r.Uint32N(2)*10_000
			name = fmt.Sprintf("v-%d.%s", c.Version, name)
			params.Set("ver", fmt.Sprint(c.Version))
		}
		if r.IntN(3) > 0 {
			c.UIN = region.UIN(1_000_000 + r.Uint64N(3_100_000))
			name = fmt.Sprintf("u-%d.%s", c.UIN, name)
			params.Set("uin", fmt.Sprint(c.UIN))
		}
		want := steer.Steer(view, health, c)
		if i >= 500 {
			if before := steer.Steer(region.NewView(testWorld(), region.Hash{1}, nil), steer.AllUp, c); before.Text() != want.Text() {
				changed++
			}
		}
		var srv []string
		for _, e := range want.Endpoints {
			srv = append(srv, fmt.Sprintf("%s:%d", e.Name(), e.Address.Port()))
		}
		var v4, v6 []string
		for _, a := range addrsOf(want.Endpoints) {
			if a.Is4() {
				v4 = append(v4, a.String())
			} else {
				v6 = append(v6, a.String())
			}
		}
		for _, network := range []string{"udp", "tcp"} {
			m := h.exchange(t, network, question(name+".", dns.TypeSRV, prefix))
			if got := targets(t, m); !slices.Equal(got, srv) || scopeOf(m) != int(want.Scope) || m.Answer[0].Header().Ttl != want.TTL {
				t.Fatalf("%s SRV %v scope %d, want %v\n%s", network, got, scopeOf(m), srv, want.Text())
			}
		}
		for qtype, addrs := range map[uint16][]string{dns.TypeA: v4, dns.TypeAAAA: v6} {
			m := h.exchange(t, "udp", question(name+".", qtype, prefix))
			wantScope := int(want.Scope)
			if len(addrs) == 0 {
				wantScope = 0 // negative (RFC 7871 section 7.4)
			}
			if got := addrsIn(m); !slices.Equal(got, addrs) || scopeOf(m) != wantScope {
				t.Fatalf("%s %v scope %d, want %v\n%s", dns.TypeToString[qtype], got, scopeOf(m), addrs, want.Text())
			}
		}

		var d Reply
		if status := h.get(t, "/d", params, &d); status != http.StatusOK {
			t.Fatalf("HTTPDNS says %d", status)
		}
		var endpoints []netip.AddrPort
		for _, e := range want.Endpoints {
			endpoints = append(endpoints, e.Address)
		}
		scope, _ := prefix.Addr().Prefix(int(want.Scope))
		if !slices.Equal(d.Endpoints, endpoints) || d.TTL != want.TTL || d.Home != want.Home || d.Acting != want.Acting ||
			d.Rule != want.Rule || d.Scope != scope.String() || d.World != view.World.Version || !slices.Equal(d.IPs, addrsOf(want.Endpoints)) {
			t.Fatalf("HTTPDNS %+v\n%s", d, want.Text())
		}
		var x Explanation
		h.get(t, "/explain", params, &x)
		if x.Text != want.Text() || x.Answer.Text() != want.Text() || x.Client.Prefix != prefix || x.Client.UIN != c.UIN {
			t.Fatalf("explain %+v\n%s", x, want.Text())
		}
		var g resolved
		h.get(t, "/resolve", url.Values{"name": {name}, "type": {"SRV"}, "edns_client_subnet": {prefix.String()}}, &g)
		if len(g.Answer) != len(srv) || g.Subnet != fmt.Sprintf("%s/%d", bracketed(prefix), want.Scope) {
			t.Fatalf("resolve %+v\n%s", g, want.Text())
		}
	}
	if changed < 100 {
		t.Errorf("the dead changed only %d answers", changed)
	}
}

// bracketed is how the library prints an option's prefix.
func bracketed(p netip.Prefix) string {
	if p.Addr().Is6() {
		return fmt.Sprintf("[%s]/%d", p.Addr(), p.Bits())
	}
	return p.String()
}

// randomAddr is often in a network that the demo database knows.
func randomAddr(r *rand.Rand) netip.Addr {
	known := []string{"223.5.5.0", "117.184.0.0", "219.76.0.0", "99.224.0.0", "50.92.0.0", "8.8.8.0", "198.51.100.0", "240e:3a0::", "2409:8000::", "2607:fea8::"}
	raw := netip.MustParseAddr(known[r.IntN(len(known))]).AsSlice()
	for i := r.IntN(len(raw) + 1); i < len(raw); i++ {
		raw[i] = byte(r.Uint32())
	}
	a, _ := netip.AddrFromSlice(raw)
	return a.Unmap()
}
