package wan

import (
	"bytes"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// port is a site's end in memory.
type port struct {
	out  chan []byte // of the site, to the network
	in   chan []byte
	gone chan struct{}
	once sync.Once
}

func newPort() *port {
	return &port{out: make(chan []byte, 16), in: make(chan []byte, 16), gone: make(chan struct{})}
}

func (p *port) Read(b []byte) (int, error) {
	select {
	case packet := <-p.out:
		return copy(b, packet), nil
	case <-p.gone:
		return 0, io.EOF
	}
}

func (p *port) Write(b []byte) (int, error) {
	p.in <- bytes.Clone(b)
	return len(b), nil
}

func (p *port) Close() error {
	p.once.Do(func() { close(p.gone) })
	return nil
}

// packet is one of 21 bytes to an address.
func packet(to string, body byte) []byte {
	p := make([]byte, 21)
	p[0], p[3], p[20] = 0x45, byte(len(p)), body
	a := netip.MustParseAddr(to).As4()
	copy(p[16:], a[:])
	return p
}

func network(t *testing.T, delay time.Duration) (*WAN, map[Site]*port) {
	t.Helper()
	w := New(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = w.Close() })
	ports := map[Site]*port{}
	for i, s := range []Site{"a", "b", "c"} {
		ports[s] = newPort()
		address := netip.AddrFrom4([4]byte{127, 0, byte(i + 1), 1})
		if err := w.Add(s, ports[s], func(Site) Shape { return Shape{Delay: delay} }, address); err != nil {
			t.Fatal(err)
		}
	}
	return w, ports
}

func (p *port) takes(t *testing.T, body byte) {
	t.Helper()
	select {
	case got := <-p.in:
		if got[20] != body {
			t.Fatalf("packet %d arrives, want %d", got[20], body)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("packet %d does not arrive", body)
	}
}

func TestPacketsGoWhereTheyBelong(t *testing.T) {
	w, ports := network(t, time.Millisecond)
	ports["a"].out <- packet("127.0.2.1", 1)
	ports["b"].takes(t, 1)
	ports["a"].out <- packet("127.0.9.9", 2)      // nobody's
	ports["a"].out <- []byte{0x60, 0, 0, 0}       // IPv6, cut short
	ports["a"].out <- packet("127.0.3.1", 3)[:20] // shorter than it says
	ports["a"].out <- packet("127.0.3.1", 4)
	ports["c"].takes(t, 4)
	if sent, lost := w.Counts(); sent != 3 || lost != 1 {
		t.Errorf("%d sent, %d lost; want 3 and 1", sent, lost)
	}
	if len(ports["b"].in)+len(ports["c"].in) > 0 {
		t.Error("more arrived than was sent")
	}
}

// One way cut: what is under way is lost with the line, the other way goes on,
// and after mending everything passes again.
func TestOneWayCut(t *testing.T) {
	w, ports := network(t, 0)
	apply := func(words string) {
		t.Helper()
		c, err := Parse(strings.Fields(words))
		if err == nil {
			_, err = w.Apply(c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	apply("a > b delay=10s")
	ports["a"].out <- packet("127.0.2.1", 1)
	ports["a"].out <- packet("127.0.3.1", 2)
	ports["c"].takes(t, 2) // so 1 is under way
	apply("a > b cut")
	ports["b"].out <- packet("127.0.1.1", 3)
	ports["a"].takes(t, 3)
	apply("a > b mend delay=0s")
	ports["a"].out <- packet("127.0.2.1", 4)
	ports["b"].takes(t, 4)
	if len(ports["b"].in) > 0 {
		t.Error("what was under way when the line was cut arrives")
	}
}

func TestApply(t *testing.T) {
	w, _ := network(t, 0)
	for _, c := range []struct {
		words string
		want  int
	}{{"a b loss=1%", 2}, {"a > b,c loss=1%", 2}, {"* * loss=1%", 6}, {"a * rate=1mbit", 4}, {"a x cut", -1}, {"a a cut", 0}} {
		change, err := Parse(strings.Fields(c.words))
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.Apply(change)
		if err != nil {
			got = -1
		}
		if got != c.want {
			t.Errorf("%s changes %d directions (%v), want %d", c.words, got, err, c.want)
		}
	}
}

func TestControl(t *testing.T) {
	w, _ := network(t, 0)
	socket := filepath.Join(t.TempDir(), "wan.sock")
	c, err := w.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if answer, err := Ask(socket, "a > b delay=80ms loss=5% rate=512kbit"); err != nil || answer != "1 directions changed" {
		t.Errorf("%q, %v", answer, err)
	}
	if s, _ := w.Shape("a", "b"); s != (Shape{Delay: 80 * time.Millisecond, Loss: 0.05, Rate: 512e3}) {
		t.Errorf("the line is %s", s)
	}
	if answer, err := Ask(socket, "show"); err != nil || !strings.Contains(answer, "a > b delay=80ms loss=5% rate=512kbit\na > c delay=0s\n") {
		t.Errorf("%q, %v", answer, err)
	}
	for command, want := range map[string]string{"a x cut": "there is no site x", "nonsense": "want two sites"} {
		if _, err := Ask(socket, command); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", command, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for words, want := range map[string]string{
		"":                      "want two sites",
		"a":                     "want two sites",
		"a >":                   "second site",
		"a b":                   "say what the line does",
		"a B cut":               `"B" is no site`,
		"a b, cut":              `"" is no site`,
		"a b delay=1":           "want a duration",
		"a b delay=-1s":         "want a duration",
		"a b jitter=1h":         "want a duration",
		"a b loss=5":            "want a percentage",
		"a b loss=101%":         "want a percentage",
		"a b loss=NaN%":         "want a percentage",
		"a b rate=10":           "bits per second",
		"a b rate=0mbit":        "bits per second",
		"a b rate=99999999mbit": "bits per second",
		"a b cut=yes":           "want cut alone",
		"a b lose=5%":           `no setting "lose"`,
	} {
		if _, err := Parse(strings.Fields(words)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", words, err, want)
		}
	}
}
