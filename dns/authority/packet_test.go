package authority

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

var peer = netip.MustParseAddr("223.5.5.5")

// head is a query's header: an ID, RD, and the four counts.
const (
	head  = "abcd 0100 0001 0000 0000 0000"
	headR = "abcd 0100 0001 0000 0000 0001"
	qname = "04 6c6f6e67 04 64656d6f 04 74657374 00" // long.demo.test
	qA    = qname + "0001 0001"
	optOK = "00 0029 04d0 00000000 0000"
)

func packet(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Packets that real clients do not send, byte by byte.
func TestPackets(t *testing.T) {
	h := start(t)
	const none = -1
	for _, c := range []struct {
		name, packet string
		rcode        int
		opt          bool // the answer has an OPT
	}{
		{"a good one", head + qA, dns.RcodeSuccess, false},
		{"with EDNS", headR + qA + optOK, dns.RcodeSuccess, true},
		{"nothing", "", none, false},
		{"less than a header", "abcd 0100 0001 0000 0000 00", none, false},
		{"a response", "abcd 8100 0001 0000 0000 0000" + qA, none, false},
		{"a response with an opcode", "abcd f900 0001 0000 0000 0000", none, false},
		{"NOTIFY", "abcd 2000 0001 0000 0000 0000" + qA, dns.RcodeNotImplemented, false},
		{"header alone says one question", head, dns.RcodeFormatError, false},
		{"no question", "abcd 0100 0000 0000 0000 0000", dns.RcodeFormatError, false},
		{"no question but EDNS", "abcd 0100 0000 0000 0000 0001" + optOK, dns.RcodeFormatError, true},
		{"two questions", "abcd 0100 0002 0000 0000 0000" + qA + qA, dns.RcodeFormatError, false},
		{"question cut in its name", head + "04 6c6f", dns.RcodeFormatError, false},
		{"question cut in its type", head + qname + "00", dns.RcodeFormatError, false},
		{"pointer in the question", head + "c00c 0001 0001", dns.RcodeFormatError, false},
		{"label type 01", head + "41 00 0001 0001", dns.RcodeFormatError, false},
		{"name of 256 bytes", head + strings.Repeat("3f"+strings.Repeat("61", 63), 4) + "00 0001 0001", dns.RcodeFormatError, false},
		{"name of 255 bytes", head + strings.Repeat("3f"+strings.Repeat("61", 63), 3) + "3d" + strings.Repeat("61", 61) + "00 0001 0001", dns.RcodeRefused, false},
		{"root", head + "00 0001 0001", dns.RcodeRefused, false},
		{"trailing bytes", head + qA + "00", dns.RcodeFormatError, false},
		{"fewer records than said", headR + qA, dns.RcodeFormatError, false},
		{"more records than anybody sends", "abcd 0100 0001 ffff ffff ffff" + qA, dns.RcodeFormatError, false},
		{"record longer than the packet", headR + qA + "00 0010 0001 00000000 ffff", dns.RcodeFormatError, false},
		{"an unknown record is passed over", "abcd 0100 0001 0000 0000 0002" + qA + "c00c ff00 0001 00000000 0002 0102" + optOK, dns.RcodeSuccess, true},
		{"two OPT", "abcd 0100 0001 0000 0000 0002" + qA + optOK + optOK, dns.RcodeFormatError, true},
		{"OPT with a name", headR + qA + "01 61" + optOK, dns.RcodeFormatError, false},
		{"OPT among the answers", "abcd 0100 0001 0001 0000 0000" + qA + optOK, dns.RcodeFormatError, false},
		{"EDNS version 1", headR + qA + "00 0029 04d0 00010000 0000", dns.RcodeBadVers, true},
		{"EDNS version 1 with options of another form", headR + qA + "00 0029 04d0 00ff0000 0001 ff", dns.RcodeBadVers, true},
		{"option cut in its head", headR + qA + "00 0029 04d0 00000000 0003 000800", dns.RcodeFormatError, true},
		{"option longer than the OPT", headR + qA + "00 0029 04d0 00000000 0004 00080001", dns.RcodeFormatError, true},
		{"subnet of 3 bytes", headR + qA + "00 0029 04d0 00000000 0007 00080003 000100", dns.RcodeFormatError, true},
		{"no family with octets", headR + qA + "00 0029 04d0 00000000 0009 00080005 0000 00 00 01", dns.RcodeFormatError, true},
		{"no family with a length", headR + qA + "00 0029 04d0 00000000 0008 00080004 0000 08 00", dns.RcodeFormatError, true},
		{"IPv6 of 129 bits", headR + qA + "00 0029 04d0 00000000 0019 00080015 0002 81 00" + strings.Repeat("00", 17), dns.RcodeFormatError, true},
		{"class ANY", head + qname + "0001 00ff", dns.RcodeRefused, false},
		{"type OPT", head + qname + "0029 0001", dns.RcodeNotImplemented, false},
		{"type TSIG", head + qname + "00fa 0001", dns.RcodeNotImplemented, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := h.respond(packet(t, c.packet), peer, overUDP)
			if (out == nil) != (c.rcode == none) {
				t.Fatalf("answer %x, want rcode %d", out, c.rcode)
			}
			if out == nil {
				return
			}
			var m dns.Msg
			if err := m.Unpack(out); err != nil {
				t.Fatal(err)
			}
			if m.Rcode != c.rcode || m.Id != 0xabcd || !m.Response || (m.IsEdns0() != nil) != c.opt {
				t.Errorf("want rcode %d, OPT %v, got\n%s", c.rcode, c.opt, &m)
			}
		})
	}
}

// What is wrong is counted by what it is, and disturbs nobody.
func TestMalformedIsCounted(t *testing.T) {
	h := start(t)
	for what, p := range map[string]string{
		"short": "abcd", "response": "abcd 8100 0000 0000 0000 0000", "opcode": "abcd 2000 0000 0000 0000 0000", "questions": "abcd 0100 0002 0000 0000 0000",
		"records": "abcd 0100 0001 0000 0000 00ff" + qA, "question": head, "record": headR + qA, "trailing": head + qA + "00",
		"opt": headR + qA + "01 61" + optOK, "option": headR + qA + "00 0029 04d0 00000000 0001 00", "edns-version": headR + qA + "00 0029 04d0 00010000 0000",
		"subnet": headR + qA + "00 0029 04d0 00000000 0004 00080000",
	} {
		h.respond(packet(t, p), peer, overTCP)
		if got := h.count(t, "homing_dns_malformed_total{tcp,"+what+"}"); got != 1 {
			t.Errorf("%s: %v counted", what, got)
		}
		m := h.exchange(t, "udp", question("long.demo.test.", dns.TypeA, netip.Prefix{}))
		if len(m.Answer) != 3 {
			t.Errorf("after %s: %s", what, m)
		}
	}
	if got := h.count(t, "homing_dns_responses_total{NOERROR,udp}"); got != 12 {
		t.Errorf("%v answers counted", got)
	}
	if got := h.count(t, "homing_dns_steered_total{built-in}"); got != 12 {
		t.Errorf("%v steered answers counted", got)
	}
}

// The bytes of an answer, pinned.
func TestGoldenAnswer(t *testing.T) {
	h := start(t)
	got := hex.EncodeToString(h.respond(packet(t, headR+"04 6c6f4e47 04 64454d6f 04 54457374 00 0001 0001"+
		"00 0029 1000 00008000 000b 00080007 0001 18 00 df0505"), peer, overUDP))
	want := strings.ReplaceAll("abcd 8500 0001 0003 0000 0001 046c6f4e47 0464454d6f 0454457374 00 0001 0001"+
		"c00c 0001 0001 00000014 0004 7f020001"+
		"c00c 0001 0001 00000014 0004 7f020003"+
		"c00c 0001 0001 00000014 0004 7f020002"+
		"00 0029 04d0 00008000 000b 0008 0007 0001 18 18 df0505", " ", "")
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Without a world nothing is claimed.
func TestNoWorldYet(t *testing.T) {
	h := start(t)
	h.view.Store(nil)
	var m dns.Msg
	if err := m.Unpack(h.respond(packet(t, head+qA), peer, overUDP)); err != nil || m.Rcode != dns.RcodeServerFailure || m.Authoritative {
		t.Errorf("%v\n%s", err, &m)
	}
	var p problem
	if status := h.get(t, "/d", nil, &p); status != 503 || p.Hint == "" {
		t.Errorf("%d %+v", status, p)
	}
}

// The policy "nothing" is an answer without records, not an error.
func TestAllDownNothing(t *testing.T) {
	h := start(t)
	w := testWorld()
	w.Steering.AllDown = "nothing"
	h.view.Store(region.NewView(w, region.Hash{}, nil))
	h.setHealth(nobody{})
	m := h.exchange(t, "udp", question("long.demo.test.", dns.TypeA, netip.MustParsePrefix("223.5.5.0/24")))
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 || len(m.Ns) != 1 || scopeOf(m) != 0 {
		t.Error(m)
	}
	h.view.Store(region.NewView(testWorld(), region.Hash{}, nil)) // "everything"
	if m = h.exchange(t, "udp", question("long.demo.test.", dns.TypeA, netip.MustParsePrefix("223.5.5.0/24"))); len(m.Answer) != 3 {
		t.Error(m)
	}
}

type nobody struct{}

func (nobody) POP(region.POPID) bool { return false }
func (nobody) Region(region.ID) bool { return false }

// What does not fit is cut: first what may go silently, then all, marked so.
func TestTruncation(t *testing.T) {
	h := start(t)
	w := testWorld()
	w.Steering.Answers, w.Rules = 40, nil
	for i := range 40 {
		pop := w.POPs[0]
		pop.ID = region.POPID("pop-with-a-long-name-" + string(rune('a'+i%26)) + string(rune('a'+i/26)))
		w.POPs = append(w.POPs, pop)
	}
	h.view.Store(region.NewView(w, region.Hash{}, nil))
	ask := question("long.demo.test.", dns.TypeSRV, netip.Prefix{})
	for _, c := range []struct {
		name    string
		size    uint16 // of EDNS; 0 without
		answers int
		most    int
	}{{"without EDNS", 0, 40, 512}, {"small", 100, 40, 512}, {"large is capped", 65535, 40, maxUDP}, {"fits without additional", 1232, 20, maxUDP}} {
		w.Steering.Answers = c.answers
		if c.size > 0 {
			ask.Extra = nil
			ask.SetEdns0(c.size, false)
		}
		raw, err := ask.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out := h.respond(raw, peer, overUDP)
		var m dns.Msg
		if err := m.Unpack(out); err != nil || len(out) > c.most {
			t.Fatalf("%s: %v, %d bytes", c.name, err, len(out))
		}
		if full := c.answers == 20; m.Truncated == full || (len(m.Answer) == c.answers) != full || (full && len(m.Extra) != 1) {
			t.Errorf("%s: %d bytes\n%s", c.name, len(out), &m)
		}
	}
	w.Steering.Answers = 40
	if m := h.exchange(t, "tcp", ask); m.Truncated || len(m.Answer) != 40 || len(m.Extra) != 41 {
		t.Errorf("over TCP\n%s", m)
	}
}

// Several questions on one connection, sent at once, are answered in order;
// something that is no question ends it.
func TestTCPPipeline(t *testing.T) {
	h := start(t)
	conn, err := net.Dial("tcp", h.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var sent []byte
	for id := range uint16(50) {
		p := packet(t, head+qA)
		binary.BigEndian.PutUint16(p, id)
		sent = append(binary.BigEndian.AppendUint16(sent, uint16(len(p))), p...)
	}
	sent = append(sent, 0, 1, 0xff)
	if _, err := conn.Write(sent); err != nil {
		t.Fatal(err)
	}
	for id := range uint16(50) {
		var length uint16
		if err := binary.Read(conn, binary.BigEndian, &length); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, length)
		if _, err := io.ReadFull(conn, p); err != nil || binary.BigEndian.Uint16(p) != id {
			t.Fatalf("answer %d: %x, %v", id, p, err)
		}
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after nonsense: %d bytes, %v, want the end", n, err)
	}
}

// Close ends idle connections, and a taken port is an error with a hint.
func TestCloseAndTakenPort(t *testing.T) {
	h := start(t)
	conn, err := net.Dial("tcp", h.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = New(Options{View: h.view.Load, Health: h.o.Health, Geo: h.geo, Listen: []string{h.Addrs()[0].String()}})
	if region.KindOf(err) != region.Unavailable || !strings.Contains(err.Error(), "free port") {
		t.Errorf("taken port: %v", err)
	}
	if _, err := New(Options{}); region.KindOf(err) != region.BadInput {
		t.Errorf("no options: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}

// Any packet is dropped or answered with something valid that is no larger than
// allowed, belongs to the question, and is itself never answered.
func FuzzRespond(f *testing.F) {
	h := start(f)
	for _, s := range []string{
		head + qA, headR + qA + optOK, headR + qname + "0021 0001" + optOK, headR + qname + "00ff 0001" + "00 0029 04d0 00008000 000b 00080007 0001 18 00 df0505",
		head + "04 64656d6f 04 74657374 00 0002 0001", head + "03 6e7331 04 64656d6f 04 74657374 00 0001 0001", "abcd 2000 0001 0000 0000 0000",
		head + "09 752d31303030303031 07 762d3930303033" + qname + "001c 0001", head + "05 706f702d36 03 706f70 04 64656d6f 04 74657374 00 001c 0001",
	} {
		f.Add(packet(f, s), true)
		f.Add(packet(f, s), false)
	}
	f.Fuzz(func(t *testing.T, p []byte, udp bool) {
		via, limit := overTCP, maxMessage
		if udp {
			via, limit = overUDP, maxUDP
		}
		out := h.respond(p, peer, via)
		if out == nil {
			if len(p) >= headerLen && p[2]&0x80 == 0 {
				t.Fatalf("no answer to %x", p)
			}
			return
		}
		var m dns.Msg
		if err := m.Unpack(out); err != nil {
			t.Fatalf("%x: answer %x: %v", p, out, err)
		}
		if len(out) > limit || !m.Response || m.Id != binary.BigEndian.Uint16(p) {
			t.Fatalf("%x: answer of %d bytes\n%s", p, len(out), &m)
		}
		if h.respond(out, peer, via) != nil {
			t.Fatalf("the answer to %x is answered", p)
		}
		// The library reads less strictly: what we serve, it can read too.
		var q dns.Msg
		if m.Rcode == dns.RcodeSuccess {
			if err := q.Unpack(p); err != nil {
				t.Logf("library: %v", err)
			} else if len(m.Question) != 1 || m.Question[0] != q.Question[0] {
				t.Fatalf("%x: asked %v, answered %v", p, q.Question, m.Question)
			}
		}
	})
}

func BenchmarkRespond(b *testing.B) {
	h := start(b)
	for _, c := range []struct{ name, packet string }{
		{"A", headR + qA + "00 0029 04d0 00000000 000b 00080007 0001 18 00 df0505"},
		{"SRV", headR + qname + "0021 0001" + "00 0029 04d0 00000000 000b 00080007 0001 18 00 df0505"},
	} {
		p := packet(b, c.packet)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.respond(p, peer, overUDP)
			}
		})
	}
}

// BenchmarkUDP is the whole way through the kernel, with as many clients as
// processors, each with a window of questions. Half of the time is the clients'.
func BenchmarkUDP(b *testing.B) {
	h := start(b)
	question := packet(b, headR+qA+"00 0029 04d0 00000000 000b 00080007 0001 18 00 df0505")
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("udp", h.Addrs()[0].String())
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		const window = 16
		answer := make([]byte, maxUDP)
		flying := 0
		receive := func() {
			if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				b.Error(err)
			}
			if _, err := conn.Read(answer); err != nil {
				b.Error(err)
			}
			flying--
		}
		for pb.Next() {
			if flying == window {
				receive()
			}
			if _, err := conn.Write(question); err != nil {
				b.Error(err)
				return
			}
			flying++
		}
		for flying > 0 {
			receive()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "q/s")
}
