package health

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// Opinions of the others, then one's own: 'U' up, 'D' down, '?' unknown.
func TestAgree(t *testing.T) {
	for opinions, want := range map[string]bool{
		"?": false, "U": true, "D": false, // alone
		"??": false, "?U": true, "U?": true, "D?": false, "?D": false,
		"UD": true, "DU": true, "DD": false, // of two, one alone fails nobody
		"UUD": true, "DUU": true, "DDU": false, "UDD": false, // of three, one alone decides nothing
		"?UD": true, "??D": false, "?DD": false, "UUDD": true, "UDDD": false, "D????": false, "DU???": true,
	} {
		var all []Opinion
		for _, c := range opinions {
			all = append(all, map[rune]Opinion{'U': Up, 'D': Down, '?': Unknown}[c])
		}
		last := len(all) - 1
		if got := Agree(all[last], all[:last]...); got != want {
			t.Errorf("%s: %v", opinions, got)
		}
	}
}

func TestToldGolden(t *testing.T) {
	told := Told{Observer: "dns dns-1", World: 7, Hash: region.ShortHash{1, 2, 3, 4, 5, 6, 7, 8}, Order: 9, Opinions: []Opinion{Up, Down, Unknown, Up, Up}}
	const want = "01" + "0000000000000007" + "0102030405060708" + "0000000000000009" + "09646e7320646e732d31" + "0005" + "8602"
	if got := hex.EncodeToString(told.Encode()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []string{"", "02", want[:len(want)-2], want + "00", strings.Replace(want, "8602", "8703", 1), strings.Replace(want, "8602", "8606", 1)} {
		b, err := hex.DecodeString(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeTold(b); region.KindOf(err) != region.BadInput {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzDecodeTold(f *testing.F) {
	f.Add((&Told{Observer: "region sh", World: 1, Opinions: []Opinion{Up, Down, Unknown}}).Encode())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if told, err := DecodeTold(b); err == nil && !bytes.Equal(told.Encode(), b) {
			t.Errorf("%x reads back as %x", b, told.Encode())
		}
	})
}

// observers is a group that hears each other.
type observers struct {
	mu  sync.Mutex
	all []*Checker
}

func (o *observers) tell(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.all {
		if err := c.Hear(b); err != nil {
			panic(err)
		}
	}
}

// join starts one that checks by a function of its own.
func (o *observers) join(t *testing.T, name string, view func() *region.View, check CheckFunc) *Checker {
	t.Helper()
	c := New(Options{View: view, Interval: 20 * time.Millisecond, Rise: 1, Fall: 2, Check: check, Self: name, Tell: o.tell})
	t.Cleanup(c.Close)
	o.mu.Lock()
	o.all = append(o.all, c)
	o.mu.Unlock()
	return c
}

// One of three observers lies: it fails neither a POP nor a region, and keeps
// no dead one up. When it alone is left its word counts.
func TestOneObserverLies(t *testing.T) {
	at := func(i byte) region.Endpoints {
		return region.Endpoints{Long: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 1)}
	}
	view := viewOf(&region.World{Version: 3,
		POPs:    []region.POP{{ID: "pop-1", Serves: at(1)}, {ID: "pop-2", Serves: at(2)}},
		Regions: []region.Region{{ID: "sh", Serves: at(3)}},
		DNS:     []region.Node{{Name: "dns-1"}, {Name: "dns-2"}, {Name: "dns-3"}},
	})
	var dead sync.Map // Target's name -> true: what is really down
	honest := func(_ context.Context, target Target) error {
		if _, down := dead.Load(target.String()); down {
			return errors.New("really down")
		}
		return nil
	}
	liar := func(ctx context.Context, target Target) error {
		if honest(ctx, target) == nil {
			return errors.New("a lie")
		}
		return nil
	}
	var group observers
	honest1 := group.join(t, "dns dns-1", view, honest)
	honest2 := group.join(t, "dns dns-2", view, honest)
	lying := group.join(t, "dns dns-3", view, liar)
	all := []*Checker{honest1, honest2, lying}
	everywhere := func(what string, want func(*Snapshot) bool) {
		t.Helper()
		for _, c := range all {
			await(t, c, what, want)
		}
	}
	everywhere("all up", func(s *Snapshot) bool { return s.POP("pop-1") && s.POP("pop-2") && s.Region("sh") })
	dead.Store("pop pop-2", true)
	dead.Store("region sh", true)
	everywhere("pop-2 and sh down, pop-1 up", func(s *Snapshot) bool { return s.POP("pop-1") && !s.POP("pop-2") && !s.Region("sh") })
	for _, c := range all { // what the liar saw is shown, and what was agreed
		for _, s := range c.Report() {
			if s.Agreed != (s.Member == "pop pop-1") || c == lying && s.Up == s.Agreed || c != lying && s.Up != s.Agreed {
				t.Errorf("report of %s: %+v", c.o.Self, s)
			}
		}
	}
	honest1.Close()
	honest2.Close()
	await(t, lying, "the liar alone decides", func(s *Snapshot) bool { return !s.POP("pop-1") && s.POP("pop-2") })
}

// Views of other worlds, of who is no observer, and old ones do not count.
func TestCouncilIgnores(t *testing.T) {
	w := &region.World{Version: 3, DNS: []region.Node{{Name: "dns-1"}, {Name: "dns-2"}}, POPs: []region.POP{{ID: "pop-1"}}}
	view := region.NewView(w, region.Hash{9}, nil)
	at := time.Unix(100, 0)
	c := &council{self: "dns dns-1", now: func() time.Time { return at }, seats: map[string]seat{}}
	good := Told{Observer: "dns dns-2", World: 3, Hash: view.Hash.Short(), Order: 5, Opinions: []Opinion{Up}}
	for name, change := range map[string]func(*Told){
		"another world":     func(t *Told) { t.World = 4 },
		"a forked world":    func(t *Told) { t.Hash[0]++ },
		"itself":            func(t *Told) { t.Observer = "dns dns-1" },
		"a POP":             func(t *Told) { t.Observer = "pop pop-1" },
		"nobody of a world": func(t *Told) { t.Observer = "dns dns-3" },
	} {
		told := good
		change(&told)
		c.hear(view, told)
		if len(c.seats) != 0 || c.changed() {
			t.Errorf("%s counts", name)
		}
	}
	target := []Target{{POP: "pop-1"}}
	c.hear(view, good)
	older := good
	older.Order, older.Opinions = 4, []Opinion{Down}
	c.hear(view, older)
	if got := c.opinions(view, target)[target[0]]; !c.changed() || len(got) != 1 || got[0] != Up {
		t.Errorf("opinions %v", got)
	}
	at = at.Add(forgetAfter*tellEvery + time.Second)
	if !c.changed() || len(c.opinions(view, target)[target[0]]) != 0 {
		t.Error("a silent observer counts")
	}
}

// Each way to check finds a server of its kind, and tells another's kind from it.
func TestProbe(t *testing.T) {
	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "www.example.com" || r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	plain, secure := httptest.NewServer(site), httptest.NewTLSServer(site)
	defer plain.Close()
	defer secure.Close()
	trusts := secure.Client().Transport.(*http.Transport).TLSClientConfig
	long, longAddr := listen(t)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() { _ = long.Close() }()
	var hellos atomic.Int32
	serving.Go(func() { // answers a HELLO with an error, as a server does that wants a ticket
		for {
			conn, err := long.Accept()
			if err != nil {
				return
			}
			head := make([]byte, wire.HeaderSize)
			if n, _ := conn.Read(head); n == wire.HeaderSize {
				if h, err := wire.ParseHeader(head); err == nil && h.Method == wire.Hello {
					hellos.Add(1)
					_, _ = conn.Write(wire.Header{Method: wire.Hello, Flags: wire.FlagResponse | wire.FlagError, Sequence: h.Sequence}.Append(nil))
				}
			}
			_ = conn.Close()
		}
	})
	addr := func(s *httptest.Server) netip.AddrPort { return s.Listener.Addr().(*net.TCPAddr).AddrPort() }
	nobody, nobodyAddr := listen(t)
	_ = nobody.Close()
	for _, c := range []struct {
		check region.Check
		at    netip.AddrPort
		want  string // in the error; empty for success
	}{
		{region.Check{Via: region.ViaNone}, nobodyAddr, ""},
		{region.Check{Via: region.ViaTCP}, addr(plain), ""},
		{region.Check{Via: region.ViaTCP}, nobodyAddr, "refused"},
		{region.Check{Via: region.ViaTCP, Port: addr(plain).Port()}, nobodyAddr, ""},
		{region.Check{Via: region.ViaTLS, Host: "example.com"}, addr(secure), ""},
		{region.Check{Via: region.ViaTLS, Host: "example.org"}, addr(secure), "example.org"},
		{region.Check{Via: region.ViaTLS}, addr(plain), "tls"},
		{region.Check{Via: region.ViaHTTP, Host: "www.example.com", Path: "/healthz"}, addr(plain), ""},
		{region.Check{Via: region.ViaHTTP, Host: "www.example.com"}, addr(plain), "404"},
		{region.Check{Via: region.ViaHTTP, Path: "/healthz"}, addr(plain), "404"},
		{region.Check{Via: region.ViaHTTP}, longAddr, "127.0.0.1"},
		{region.Check{Via: region.ViaHTTPS, Host: "www.example.com", Path: "/healthz"}, addr(secure), ""},
		{region.Check{Via: region.ViaHTTPS, Host: "www.example.com", Path: "/x"}, addr(secure), "404"},
		{region.Check{Via: region.ViaHTTPS, Host: "www.example.com"}, addr(plain), "HTTP"},
		{region.Check{Via: region.ViaHello}, longAddr, ""},
		{region.Check{Via: region.ViaHello}, nobodyAddr, "refused"},
		{region.Check{Via: region.ViaHello}, addr(plain), "HELLO"},
		{region.Check{Via: "smoke"}, addr(plain), "no check via"},
	} {
		t.Run(fmt.Sprintf("%s %s", c.check.Via, c.want), func(t *testing.T) {
			limit := patience
			if c.want == "HELLO" {
				limit = 200 * time.Millisecond // an HTTP server waits for more
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			var base = trusts
			if c.check.Via == region.ViaHello {
				base = nil
			}
			err := Default(base, nil)(ctx, Target{POP: "p", Listen: c.at, Check: c.check})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v, want %q", c.check, err, c.want)
			}
		})
	}
	if hellos.Load() != 1 {
		t.Errorf("%d hellos", hellos.Load())
	}
}
