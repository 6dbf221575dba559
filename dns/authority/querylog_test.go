package authority

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// lines is what was written, to be read while it is.
type lines struct {
	mu    sync.Mutex
	b     bytes.Buffer
	block chan struct{} // nil does not
	err   error
}

func (l *lines) Write(b []byte) (int, error) {
	if l.block != nil {
		<-l.block
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.err
	}
	return l.b.Write(b)
}

func (l *lines) read(t *testing.T) (out []LogLine) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	d := json.NewDecoder(bytes.NewReader(l.b.Bytes()))
	for d.More() {
		var line LogLine
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		out = append(out, line)
	}
	return out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

// Every question is in the log, over any transport, from memory or not, with the
// rule that answered; and the top talkers have it too.
func TestQueryLog(t *testing.T) {
	log := new(lines)
	h := startWith(t, func(o *Options) { o.QueryLog, o.Workers = NewJSONLog(log), 1 })
	mobile := netip.MustParsePrefix("117.184.0.0/24")
	for range 3 { // the second comes from memory
		h.exchange(t, "udp", question("Long.demo.test.", dns.TypeA, mobile))
	}
	h.exchange(t, "tcp", question("long.demo.test.", dns.TypeSRV, mobile))
	h.exchange(t, "udp", question("nobody.demo.test.", dns.TypeA, netip.Prefix{}))
	var d Reply
	h.get(t, "/d", url.Values{"host": {"long.demo.test"}, "ip": {"117.184.0.9"}}, &d)
	eventually(t, "six lines", func() bool { return len(log.read(t)) == 6 })
	for i, want := range []LogLine{
		{Via: "udp", Name: "long.demo.test.", Type: "A", Rcode: "NOERROR", Rule: "mobile", Answers: 2, Client: mobile.String()},
		{Via: "udp", Name: "long.demo.test.", Type: "A", Rcode: "NOERROR", Rule: "mobile", Answers: 2, Client: mobile.String()},
		{Via: "udp", Name: "long.demo.test.", Type: "A", Rcode: "NOERROR", Rule: "mobile", Answers: 2, Client: mobile.String()},
		{Via: "tcp", Name: "long.demo.test.", Type: "SRV", Rcode: "NOERROR", Rule: "mobile", Answers: 2, Client: mobile.String()},
		{Via: "udp", Name: "nobody.demo.test.", Type: "A", Rcode: "NXDOMAIN"},
		{Via: "http", Name: "long.demo.test.", Rcode: "NOERROR", Rule: "mobile", Answers: 2, Client: "117.184.0.9/32"},
	} {
		got := log.read(t)[i]
		if got.At.IsZero() || !got.Peer.IsValid() || got.Every != 1 || (want.Via != "http" && got.Bytes < headerLen) {
			t.Errorf("%+v", got)
		}
		got.At, got.Peer, got.Bytes, got.Every = time.Time{}, netip.Addr{}, 0, 0
		if got != want {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
	}
	top := h.Top(2)
	if top.Questions != 6 || top.Names[0] != (Talker{What: "long.demo.test.", Count: 5}) || top.Clients[0] != (Talker{What: mobile.String(), Count: 5}) ||
		top.Peers[0] != (Talker{What: "127.0.0.1", Count: 5}) {
		t.Errorf("%+v", top)
	}
	if n := h.count(t, "homing_dns_first_choice_total{pop-2}"); n != 5 {
		t.Errorf("first choice counted %v times", n)
	}
	if n := h.count(t, "homing_dns_pool_total{sh,mobile}"); n != 5 { // second in each of the answers; labels in the order of their names
		t.Errorf("the pool's second choice counted %v times", n)
	}
	h.clock.Add(int64(2*TopWindow + time.Second))
	if top := h.Top(2); top.Questions != 0 || len(top.Names) != 0 {
		t.Errorf("after two windows: %+v", top)
	}
}

// A writer that hangs or fails costs lines, which are counted, and no answers.
func TestQueryLogNeverHoldsUp(t *testing.T) {
	for _, log := range []*lines{{block: make(chan struct{})}, {err: errors.New("no room")}} {
		h := startWith(t, func(o *Options) { o.QueryLog = NewJSONLog(log) })
		packet, _ := question("long.demo.test.", dns.TypeA, netip.Prefix{}).Pack()
		for range logQueue + 2000 { // more than the queue and the writer's buffer take
			if h.respond(packet, netip.MustParseAddr("127.0.0.1"), overTCP) == nil {
				t.Fatal("no answer")
			}
		}
		eventually(t, "lines dropped", func() bool { return h.count(t, "homing_dns_query_log_dropped_total{}") > 0 })
		if log.block != nil {
			close(log.block)
		}
	}
}

// One in so many lines is written, and counted for that many.
func TestSampler(t *testing.T) {
	s := sampler{every: 10}
	logged, weight := 0, uint64(0)
	const n = countedAll + 100*countedOne
	for range n {
		w, log := s.due(7)
		if weight += w; log {
			logged++
		}
	}
	if logged != n/10 || weight != n {
		t.Errorf("%d logged, weight %d of %d", logged, weight, n)
	}
	if w, _ := s.due(8); w != 1 {
		t.Error("a new second is counted one by one")
	}
}

// The sketch holds against exact counting: nobody is counted too low, too high by
// at most the stated error, and who has more than a share of 1/maxTalkers is there.
func TestSketch(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	zipf := rand.NewZipf(r, 1.2, 1, 1<<20)
	var s sketch[string]
	exact, total := map[string]uint64{}, uint64(0)
	for range 200_000 {
		key, n := fmt.Sprint(zipf.Uint64()), r.Uint64N(3)+1
		s.add(key, n)
		exact[key] += n
		total += n
	}
	if len(s.heap) != maxTalkers || len(s.at) != maxTalkers {
		t.Fatalf("%d in the heap, %d in the index", len(s.heap), len(s.at))
	}
	for i, c := range s.heap {
		if c.place != i || s.at[c.key] != c || c.count < exact[c.key] || c.count-c.error > exact[c.key] {
			t.Fatalf("%+v, in truth %d", c, exact[c.key])
		}
	}
	for key, n := range exact {
		if n > total/maxTalkers && s.at[key] == nil {
			t.Errorf("%s with %d of %d is missing", key, n, total)
		}
	}
}
