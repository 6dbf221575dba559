package gossip

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/region"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One per process, of go-metrics' default in-memory sink; it has no stop.
		goleak.IgnoreTopFunction("github.com/hashicorp/go-metrics.(*Metrics).collectStats"))
}

type heard struct {
	version uint64
	hash    region.ShortHash
}

func open(t *testing.T, name string, join ...string) (*Gossip, chan heard) {
	t.Helper()
	worlds := make(chan heard, 64)
	g, err := Open(Options{Name: name, Bind: "127.0.0.1:0", Join: join, Timing: Fast, AnnounceInterval: 200 * time.Millisecond,
		Key:  []byte("0123456789abcdef0123456789abcdef"),
		Tags: map[string]string{TagKind: "region", TagRegion: name, TagAdmin: "http://" + name},
		OnWorld: func(v uint64, h region.ShortHash) {
			select {
			case worlds <- heard{v, h}:
			default:
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, worlds
}

// until polls a condition of another component's making.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func status(g *Gossip, name string) Status {
	for _, m := range g.Members() {
		if m.Name == name {
			return m.Status
		}
	}
	return ""
}

func TestAnnouncementsReachLateJoiners(t *testing.T) {
	a, _ := open(t, "a")
	b, worlds := open(t, "b", a.Addr())
	hash := region.ShortHash{1, 2, 3}
	a.Announce(7, hash)
	if w := <-worlds; w != (heard{7, hash}) {
		t.Fatalf("heard %v", w)
	}
	_, late := open(t, "c", "127.0.0.1:1", b.Addr())
	if w := <-late; w != (heard{7, hash}) {
		t.Fatalf("the late joiner heard %v", w)
	}
	until(t, "three alive members with tags", func() bool {
		n := 0
		for _, m := range a.Members() {
			if m.Status == Alive && m.Tags[TagKind] == "region" && m.Tags[TagAdmin] == "http://"+m.Name {
				n++
			}
		}
		return n == 3
	})
	until(t, "a distance between two others", func() bool {
		d, ok := a.RTT("b", "c")
		return ok && d > 0 && d < time.Second
	})
}

func TestLeavingIsNotFailing(t *testing.T) {
	a, _ := open(t, "a")
	b, err := Open(Options{Name: "b", Bind: "127.0.0.1:0", Join: []string{a.Addr()}, Timing: Fast, Key: []byte("0123456789abcdef0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	<-b.Joined()
	until(t, "b is alive at a", func() bool { return status(a, "b") == Alive })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "b left", func() bool { return status(a, "b") == Left })
}

func TestStrangersWithoutTheKeyStayOut(t *testing.T) {
	a, worlds := open(t, "a")
	x, err := Open(Options{Name: "x", Bind: "127.0.0.1:0", Timing: Fast, Key: []byte("another key, of thirty-two bytes")})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := x.serf.Join([]string{a.Addr()}, false); n != 0 || err == nil {
		t.Fatalf("joined %d, %v", n, err)
	}
	x.Announce(1<<60, region.ShortHash{})
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if len(a.Members()) != 1 || len(worlds) != 0 {
		t.Fatalf("members %v, worlds %d", a.Members(), len(worlds))
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{Name: "a", Bind: "nowhere"}, {Name: "a", Bind: "127.0.0.1:0", Key: []byte("short")}} {
		if _, err := Open(o); region.KindOf(err) != region.BadInput {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// A tag that a member changes reaches the others, and so does its removal.
func TestTagsChange(t *testing.T) {
	a, _ := open(t, "a")
	b, _ := open(t, "b", a.Addr())
	<-b.Joined()
	load := func() string {
		for _, m := range a.Members() {
			if m.Name == "b" {
				return m.Tags[TagKind] + " " + m.Tags[TagLoad]
			}
		}
		return ""
	}
	for _, value := range []string{"8500", "9000", ""} {
		if err := b.SetTag(TagLoad, value); err != nil {
			t.Log(err) // it is said late on a busy machine, and yet said
		}
		until(t, "load "+value, func() bool { return load() == "region "+value })
	}
}
