package authority

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// webRequest is GET /d with a query, of a peer.
func webRequest(query, peer string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/d", nil)
	r.URL.RawQuery, r.RequestURI, r.RemoteAddr = query, "/d?"+query, peer
	return r
}

// sameReply asks both ways. It says whether the first had an answer.
func (h *harness) sameReply(t testing.TB, query, peer string) bool {
	t.Helper()
	quick, library := httptest.NewRecorder(), httptest.NewRecorder()
	if !h.quick(quick, webRequest(query, peer)) {
		if quick.Body.Len() > 0 || len(quick.Header()) > 0 {
			t.Fatalf("%s: refused, but begun", query)
		}
		return false
	}
	h.direct(library, webRequest(query, peer))
	if quick.Code != library.Code || !reflect.DeepEqual(quick.Header(), library.Header()) || quick.Body.String() != library.Body.String() {
		t.Fatalf("%s of %s\nquick   %d %v %s\nlibrary %d %v %s", query, peer, quick.Code, quick.Header(), quick.Body, library.Code, library.Header(), library.Body)
	}
	return true
}

// randomQuery is mostly a question that a client asks, sometimes a damaged one.
func randomQuery(r *rand.Rand) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	host := pick("long", "short", "web", "Long", "pop") + pick(".demo.test", ".demo.test", ".Demo.TEST.", ".other.test")
	if r.IntN(4) == 0 {
		host = fmt.Sprintf("v-%d.", r.IntN(40)) + host
	}
	if r.IntN(4) == 0 {
		host = fmt.Sprintf("u-%d.", 1_000_000+r.IntN(20)) + host
	}
	parts := []string{"host=" + host}
	if addr := randomAddr(r); r.IntN(3) > 0 {
		parts = append(parts, "ip="+addr.String())
	} else if r.IntN(2) == 0 {
		parts = append(parts, "ip="+netip.PrefixFrom(addr, r.IntN(addr.BitLen()+1)).String())
	}
	if r.IntN(2) == 0 {
		parts = append(parts, fmt.Sprintf("uin=%d", []uint64{0, 7, 1_000_000 + r.Uint64N(20), 1_500_000, 1_000_000 + r.Uint64N(3_100_000)}[r.IntN(5)]))
	}
	if r.IntN(3) == 0 {
		parts = append(parts, fmt.Sprintf("ver=%d", []uint64{0, 5, 9, 10, 20, 21, 30, 1<<32 - 1, 1 << 32}[r.IntN(9)]))
	}
	if r.IntN(3) == 0 {
		parts = append(parts, "platform="+pick("ios", "android", "web", "", "ios"))
	}
	if r.IntN(3) == 0 {
		parts = append(parts, "query="+pick("4", "6", "4,6", "6,4", "5", "", "4, 6"))
	}
	if r.IntN(8) == 0 {
		parts = append(parts, pick("nonce=1", "x=y", "ip=1.2.3.4", "ip=", "host=", "host=&host=web.demo.test", "dn=x", "uin=", "ver=%31", "a;b", "ver=+1", "=", ""))
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return strings.Join(parts, "&")
}

// HTTPDNS from memory has the very bytes and headers of the library's way, while
// worlds, health and the overlay change under it, and most of the time.
func TestQuickRepliesLikeTheLibrary(t *testing.T) {
	h := start(t)
	r := rand.New(rand.NewPCG(8, 9))
	moved := overlay{}
	worlds := manyWorlds()
	platforms := classyWorld()
	platforms.Rules = append([]region.Rule{
		{Name: "ios", Match: region.Match{Platforms: []string{"ios", "mac"}}, Act: region.Act{POPs: []region.POPID{"pop-4"}}},
		{Name: "no android", Match: region.Match{Not: &region.Match{Platforms: []string{"android"}}, Countries: []string{"CN"}}, Act: region.Act{POPs: []region.POPID{"pop-2"}}},
	}, platforms.Rules...)
	worlds = append(worlds, platforms, platforms)
	taken, rules := 0, map[string]bool{}
	const rounds = 6000
	for i := range rounds {
		if i%200 == 0 {
			h.view.Store(region.NewView(worlds[i/200%len(worlds)], region.Hash{byte(i)}, moved))
			up := &steer.Up{POPs: map[region.POPID]bool{}, Regions: map[region.ID]bool{"sh": r.IntN(2) == 0, "ca": r.IntN(2) == 0}}
			for n := range 6 {
				up.POPs[region.POPID(fmt.Sprint("pop-", n+1))] = r.IntN(2) == 0
			}
			h.setHealth(up)
		}
		if i%50 == 0 {
			moved[region.UIN(1_000_000+r.Uint64N(3_100_000))] = region.Moved{Home: []region.ID{"sh", "hk", "ca", "gone"}[r.IntN(4)], Moves: 1}
		}
		if h.sameReply(t, randomQuery(r), "223.5.5.5:4711") {
			taken++
		}
		if i%200 == 199 {
			for _, d := range h.desks {
				for _, t := range d.m.tallies {
					rules[t.rule] = true
				}
			}
		}
	}
	if taken < rounds/4 {
		t.Errorf("only %d of %d questions were answered from memory", taken, rounds)
	}
	if !rules["ios"] || !rules["no android"] {
		t.Errorf("answers by %v", rules)
	}
}

// What is remembered costs no memory to answer with, and is counted.
func TestNoAllocationAtADesk(t *testing.T) {
	h := start(t)
	r := webRequest("host=u-1000001.long.demo.test&ip=223.5.5.5&ver=90003&platform=ios", "127.0.0.1:1")
	out := make([]byte, 0, 4096)
	ask := func() {
		var q webAsk
		if !q.read(r, false) {
			t.Fatal("not of the common form")
		}
		if _, _, ok := h.desks[0].answer(out, &q); !ok {
			t.Fatal("not answered from memory")
		}
	}
	for range countedAll { // the first of a second are looked at closer
		ask()
	}
	if n := testing.AllocsPerRun(100, ask); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := h.count(t, `homing_dns_responses_total{NOERROR,http}`); n != countedAll+101 { // one to warm up
		t.Errorf("%v answers counted", n)
	}
	if n := h.count(t, "homing_dns_memory_misses_total{}"); n != 1 {
		t.Errorf("steering was asked %v times", n)
	}
}

// FuzzQuick runs both ways on any query string and compares.
func FuzzQuick(f *testing.F) {
	h := start(f)
	h.view.Store(region.NewView(classyWorld(), region.Hash{3}, overlay{1_000_001: {Home: "ca", Moves: 1}}))
	r := rand.New(rand.NewPCG(1, 9))
	for range 100 {
		f.Add(randomQuery(r), "223.5.5.5:1")
	}
	f.Fuzz(func(t *testing.T, query, peer string) { h.sameReply(t, query, peer) })
}

// BenchmarkDesk is what an answer costs without net/http.
func BenchmarkDesk(b *testing.B) {
	h := start(b)
	r := webRequest("host=long.demo.test&ip=223.5.5.5", "127.0.0.1:1")
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		var q webAsk
		if !q.read(r, false) {
			b.Fatal("not of the common form")
		}
		if _, _, ok := h.desks[0].answer(out, &q); !ok {
			b.Fatal("not answered from memory")
		}
	}
}
