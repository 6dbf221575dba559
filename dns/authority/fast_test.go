package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

var testSecret = [16]byte{1, 2, 3}

// classyWorld has conditions of every kind that classes are made of.
func classyWorld() *region.World {
	w := testWorld()
	w.Version = 9
	w.Rules = append([]region.Rule{
		{Name: "canary", Match: region.Match{Percent: &region.Percent{Salt: "a", Below: 3000}, Versions: []region.VersionRange{{From: 10, To: 20}, {From: 30, To: 1<<32 - 1}}}, Act: region.Act{POPs: []region.POPID{"pop-4"}}},
		{Name: "vip", Match: region.Match{UINs: []region.UINRange{{First: 1_500_000, Last: 1_500_010}, {First: 1<<64 - 5, Last: 1<<64 - 1}}}, Act: region.Act{POPs: []region.POPID{"pop-5"}, TTL: 77}},
		{Name: "hk", Match: region.Match{Homes: []region.ID{"hk"}, Not: &region.Match{Percent: &region.Percent{Salt: "b", Below: 5000}}}, Act: region.Act{POPs: []region.POPID{"pop-6"}}},
		{Name: "either", Match: region.Match{Any: []region.Match{{UINs: []region.UINRange{{First: 7, Last: 7}}}, {All: []region.Match{{Versions: []region.VersionRange{{From: 5, To: 5}}}, {Countries: []string{"CN"}}}}}}, Act: region.Act{Regions: []region.ID{"ca"}}},
		{Name: "six", Match: region.Match{Prefixes: []netip.Prefix{netip.MustParsePrefix("240e:3a0:1234:5600::/100"), netip.MustParsePrefix("223.5.5.128/30")}}, Act: region.Act{Regions: []region.ID{"hk"}}},
	}, w.Rules...)
	return w
}

// manyWorlds differ in all that answers and their classes are made of.
func manyWorlds() []*region.World {
	worlds := []*region.World{testWorld(), classyWorld()}
	nothing := classyWorld()
	nothing.Steering.AllDown, nothing.Steering.Answers, nothing.Steering.TTL = steer.Nothing, 12, 0
	crowded := testWorld()
	crowded.Rules, crowded.Steering.Answers = nil, 40
	for i := range 60 {
		pop := crowded.POPs[0]
		pop.ID, pop.Serves = region.POPID(fmt.Sprint("many-", i)), serves(fmt.Sprintf("127.9.0.%d", i+1))
		crowded.POPs = append(crowded.POPs, pop)
	}
	salty := testWorld()
	for _, salt := range []string{"x", "y", "z"} {
		salty.Rules = append(salty.Rules, region.Rule{Name: salt, Match: region.Match{Percent: &region.Percent{Salt: salt, Below: 1000}}, Act: region.Act{POPs: []region.POPID{"pop-1"}}})
	}
	sticky := classyWorld()
	sticky.POPs[0].DrainShare = 4000
	sticky.Rules = append(sticky.Rules, region.Rule{Name: "sticky", Match: region.Match{Platforms: nil, HealthyPOPs: []region.POPID{"pop-1", "pop-3"}}, Act: region.Act{
		Pool: []region.PoolMember{{POP: "pop-1", Weight: 3}, {POP: "pop-3", Weight: 2, Drain: 2000}, {POP: "pop-5"}, {Region: "sh", Tier: 1}}, Order: region.OrderWeighted,
	}})
	network := testWorld()
	network.Rules = []region.Rule{{Name: "network", Act: region.Act{Order: region.OrderNearest, Band: 2000, Sticky: region.StickyPrefix, AllDown: region.LastKnownGood}}}
	return append(worlds, nothing, crowded, salty, sticky, network)
}

// overlay is one that a test changes between two questions.
type overlay map[region.UIN]region.Moved

func (o overlay) Lookup(u region.UIN) (region.Moved, bool) { m, ok := o[u]; return m, ok }

// randomPacket is mostly a question that a client sends, sometimes a damaged one.
func randomPacket(t testing.TB, r *rand.Rand) []byte {
	name := string(testWorld().Services()[r.IntN(3)]) + ".demo.test."
	if r.IntN(2) == 0 {
		name = fmt.Sprintf("v-%d.", []uint32{1, 5, 9, 10, 20, 21, 30, 89_999, 90_000, 1<<32 - 1}[r.IntN(10)]) + name
	}
	if r.IntN(2) == 0 {
		name = fmt.Sprintf("u-%d.", []uint64{1, 6, 7, 8, 1_499_999, 1_500_000, 1_500_010, 1_500_011, 1<<64 - 6, 1<<64 - 5, 1<<64 - 1,
			1_000_000 + r.Uint64N(3_100_000), 1_000_000 + r.Uint64N(3_100_000)}[r.IntN(13)]) + name
	}
	raw := []byte(name)
	for i := range raw {
		if r.IntN(8) == 0 && 'a' <= raw[i] && raw[i] <= 'z' {
			raw[i] -= 'a' - 'A'
		}
	}
	m := question(string(raw), []uint16{dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeSRV}[r.IntN(4)], netip.Prefix{})
	m.Id, m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = uint16(r.Uint32()), r.IntN(2) == 0, r.IntN(4) == 0, r.IntN(4) == 0
	if r.IntN(5) > 0 {
		m.SetEdns0(uint16(r.IntN(2000)), r.IntN(4) == 0)
		if r.IntN(5) > 0 {
			addr := randomAddr(r)
			prefix := netip.PrefixFrom(addr, r.IntN(addr.BitLen()+1)).Masked()
			s := subnet{family: familyIPv4, source: uint8(prefix.Bits()), prefix: prefix}
			if addr.Is6() {
				s.family = familyIPv6
			}
			m.IsEdns0().Option = []dns.EDNS0{s.option(0)}
		}
		if n := r.IntN(8); n < 4 {
			cookie := make([]byte, []int{8, 16, 24, 24}[n])
			copy(cookie, "fixed...")
			if n == 3 { // of the tests' secret and clock
				b := baker{newSipKey(testSecret)}
				cookie = b.append(nil, cookie[:8], false, netip.MustParseAddr("223.5.5.5"), uint32(testClock/time.Second))
			}
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(cookie)})
		}
		if r.IntN(6) == 0 {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: 65001, Data: make([]byte, r.IntN(5))})
		}
	}
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if r.IntN(4) == 0 {
		p[r.IntN(len(p))] ^= 1 << r.IntN(8)
	}
	return p
}

// same asks both ways. It says whether the worker's memory had an answer.
func (h *harness) same(t testing.TB, m *memory, p []byte, peer netip.Addr) bool {
	m.begin()
	before := bytes.Clone(p)
	got := m.answer(make([]byte, 0, maxUDP), p, peer)
	m.end()
	if got == nil {
		return false
	}
	if want := h.respond(p, peer, overUDP); !bytes.Equal(got, want) {
		t.Fatalf("packet %x of %s\nworker  %x\nlibrary %x", p, peer, got, want)
	}
	if !bytes.Equal(before, p) {
		t.Fatal("the packet was changed")
	}
	return true
}

// The worker's memory answers with the very bytes that the library path would,
// while worlds, health and the overlay change under it, and most of the time.
func TestWorkersAnswerLikeTheLibrary(t *testing.T) {
	t.Run("unsigned", func(t *testing.T) { workersAnswerLikeTheLibrary(t, 15_000, 0.5) })
	key := zoneKey(t)
	t.Run("signed", func(t *testing.T) { workersAnswerLikeTheLibrary(t, 5_000, 0.4, key) })
}

// zoneKey is one to sign a zone with.
func zoneKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func workersAnswerLikeTheLibrary(t *testing.T, rounds int, least float64, keys ...*ecdsa.PrivateKey) {
	h := startWith(t, func(o *Options) { o.CookieSecret, o.Keys = &testSecret, keys })
	m := newMemory(h.Server)
	r := rand.New(rand.NewPCG(5, 6))
	moved := overlay{}
	taken, plain, trusted, signed := 0, 0, 0, 0
	worlds := manyWorlds()
	for i := range rounds {
		if i%500 == 0 {
			h.view.Store(region.NewView(worlds[i/500%len(worlds)], region.Hash{byte(i)}, moved))
			up := &steer.Up{POPs: map[region.POPID]bool{}, Regions: map[region.ID]bool{"sh": r.IntN(2) == 0, "ca": r.IntN(2) == 0}}
			for n := range 6 {
				up.POPs[region.POPID(fmt.Sprint("pop-", n+1))] = r.IntN(2) == 0
			}
			h.setHealth(up)
			if r.IntN(2) == 0 {
				h.setHealth(steer.AllUp)
			}
		}
		if i%50 == 0 {
			moved[region.UIN(1_000_000+r.Uint64N(3_100_000))] = region.Moved{Home: []region.ID{"sh", "hk", "ca", "gone"}[r.IntN(4)], Moves: 1}
		}
		p := randomPacket(t, r)
		peer := randomAddr(r)
		if r.IntN(2) == 0 {
			peer = netip.MustParseAddr("223.5.5.5")
		}
		plain++
		if h.same(t, m, p, peer) {
			taken++
			if m.g.trusted {
				trusted++
			}
			if m.g.do && len(keys) > 0 {
				signed++
			}
		}
	}
	if trusted == 0 {
		t.Error("no cookie was ever good")
	}
	if float64(taken) < least*float64(plain) || signed == 0 && len(keys) > 0 {
		t.Errorf("only %d of %d questions were answered from memory, %d signed", taken, plain, signed)
	}
}

// A reload of the databases is a new plan; so is a change of health.
func TestMemoryForgets(t *testing.T) {
	h := start(t)
	m := newMemory(h.Server)
	p := packet(t, head+qA)
	for range 3 {
		if !h.same(t, m, p, peer) {
			t.Fatal("not answered from memory")
		}
	}
	if n := h.count(t, "homing_dns_memory_misses_total{}"); n != 1 {
		t.Errorf("steering was asked %v times", n)
	}
	first := m.plan
	if m.begin(); m.plan != first {
		t.Error("a new plan for nothing")
	}
	if err := h.geo.Reload(); err != nil {
		t.Fatal(err)
	}
	if m.begin(); m.plan == first {
		t.Error("the old plan after a reload")
	}
	second := m.plan
	h.setHealth(&steer.Up{POPs: map[region.POPID]bool{"pop-6": true}})
	if !h.same(t, m, p, peer) || m.plan == second {
		t.Error("the old plan after a change of health")
	}
	h.setHealth(steer.Up{POPs: map[region.POPID]bool{"pop-5": true}}) // cannot be compared: never remembered
	if h.same(t, m, p, peer) {
		t.Error("answered from memory by a health that cannot be compared")
	}
}

// A world for the root zone takes the library's way: the root is not compressed.
func TestRootZone(t *testing.T) {
	h := start(t)
	w := testWorld()
	w.Zone = ""
	h.view.Store(region.NewView(w, region.Hash{4}, nil))
	if h.same(t, newMemory(h.Server), packet(t, head+"04 6c6f6e67 00 001c 0001"), peer) {
		t.Error("answered from memory")
	}
}

// Signed answers come from memory, of names without a UIN, however they are spelled,
// and anew when the hour or the keys change.
func TestSignedFromMemory(t *testing.T) {
	key := zoneKey(t)
	h := startWith(t, func(o *Options) { o.Keys = []*ecdsa.PrivateKey{key} })
	h.clock.Store(time.Now().UnixNano())
	record, err := DNSKEY("demo.test", &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	m := newMemory(h.Server)
	ask := func(name string, qtype uint16) *dns.Msg {
		t.Helper()
		q := question(name, qtype, netip.Prefix{})
		q.SetEdns0(maxUDP, true)
		p, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if !h.same(t, m, p, peer) {
			t.Fatalf("%s is not answered from memory", name)
		}
		var got dns.Msg
		m.begin()
		if err := got.Unpack(m.answer(make([]byte, 0, maxUDP), p, peer)); err != nil {
			t.Fatal(err)
		}
		if n := len(signedSets(t, append(got.Answer, got.Ns...), []*dns.DNSKEY{record})); n == 0 {
			t.Errorf("%s", &got)
		}
		return &got
	}
	for _, name := range []string{"long.demo.test.", "LoNg.dEmO.test.", "v-90003.long.demo.test.", "V-90003.lONG.Demo.TEST.", "v-1.short.demo.test."} {
		ask(name, dns.TypeA)
		ask(name, dns.TypeAAAA)
	}
	if n := h.count(t, "homing_dns_memory_misses_total{}"); n != 6 {
		t.Errorf("%v misses for three names of two types", n)
	}
	first := ask("long.demo.test.", dns.TypeA).Answer[3].(*dns.RRSIG)
	h.clock.Add(int64(signEvery))
	if later := ask("long.demo.test.", dns.TypeA).Answer[3].(*dns.RRSIG); later.Expiration != first.Expiration+3600 {
		t.Errorf("%s after %s", later, first)
	}
	key = zoneKey(t)
	if record, err = DNSKEY("demo.test", &key.PublicKey); err != nil {
		t.Fatal(err)
	}
	if err := h.SetKeys([]*ecdsa.PrivateKey{key}, nil); err != nil {
		t.Fatal(err)
	}
	ask("long.demo.test.", dns.TypeA) // checks the signature with the new key
	q := question("u-1000001.long.demo.test.", dns.TypeA, netip.Prefix{})
	q.SetEdns0(maxUDP, true)
	if p, err := q.Pack(); err != nil || h.same(t, m, p, peer) {
		t.Error("a name with a UIN is answered from memory", err)
	}
}

// What is remembered costs no memory to answer with.
func TestNoAllocationOnAHit(t *testing.T) {
	h, _ := startSigned(t, 1)
	h.view.Store(region.NewView(classyWorld(), region.Hash{3}, overlay{}))
	m := newMemory(h.Server)
	out := make([]byte, 0, maxUDP)
	for _, p := range []string{
		headR + qA + "00 0029 04d0 00000000 000b 00080007 0001 18 00 df0505",
		headR + "09 752d31303030303031 07 762d3930303033" + qname + "001c 0001" + optOK,
		head + qA,
		headR + qA + "00 0029 04d0 00000000 000c 000a0008 6162636465666768",
		headR + qA + "00 0029 04d0 00008000 000b 00080007 0001 18 00 df0505",
		headR + qname + "001c 0001" + "00 0029 04d0 00008000 0000",
	} {
		raw := packet(t, p)
		if n := testing.AllocsPerRun(100, func() {
			m.begin()
			if m.answer(out, raw, peer) == nil {
				t.Fatal("not answered from memory")
			}
			m.end()
		}); n != 0 {
			t.Errorf("%v allocations for %s", n, p)
		}
	}
}

// FuzzFastAndLibrary runs both paths on any packet and compares, in a zone that is
// signed and in one that is not.
func FuzzFastAndLibrary(f *testing.F) {
	view := region.NewView(classyWorld(), region.Hash{3}, overlay{1_000_001: {Home: "ca", Moves: 1}})
	var servers []*harness
	var memories []*memory
	for _, keys := range [][]*ecdsa.PrivateKey{nil, {zoneKey(f)}} {
		h := startWith(f, func(o *Options) { o.CookieSecret, o.Keys = &testSecret, keys })
		h.view.Store(view)
		servers, memories = append(servers, h), append(memories, newMemory(h.Server))
	}
	r := rand.New(rand.NewPCG(1, 9))
	for range 200 {
		f.Add(randomPacket(f, r), r.Uint32())
	}
	f.Fuzz(func(t *testing.T, p []byte, from uint32) {
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], from)
		for i, h := range servers {
			h.same(t, memories[i], p, netip.AddrFrom4(raw))
		}
	})
}

// BenchmarkMemory is what an answer costs without the kernel, and one that is signed;
// what the same costs by the library's way.
func BenchmarkMemory(b *testing.B) {
	for _, c := range []struct{ name, do string }{{"plain", "0000"}, {"signed", "8000"}} {
		h, _ := startSigned(b, 1)
		m := newMemory(h.Server)
		p := packet(b, headR+qA+"00 0029 04d0 0000"+c.do+" 000b 00080007 0001 18 00 df0505")
		out := make([]byte, 0, maxUDP)
		m.begin()
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if m.answer(out, p, peer) == nil {
					b.Fatal("not answered from memory")
				}
			}
		})
		b.Run(c.name+" by the library", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if h.respond(p, peer, overUDP) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}
