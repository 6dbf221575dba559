package succession

import (
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

func term(n uint64) region.Term { return region.Term{Counter: n, Raised: region.ShortHash{byte(n)}} }

// TestDecide tells what each region does about home sh in one partition, line by
// line of a timeline.
func TestDecide(t *testing.T) {
	change := func(before, acting region.ID, n uint64, forced bool) region.Change {
		return region.Change{Home: "sh", Before: before, Acting: acting, Term: term(n), Forced: forced}
	}
	type line struct {
		what    string
		self    region.ID
		change  region.Change
		turn    store.Turn
		drained bool
		want    Act
		admits  bool
	}
	first := change("", "sh", 1, false)
	planned := change("sh", "hk", 2, false)
	forced := change("sh", "hk", 2, true)
	back := change("hk", "sh", 3, false)
	for _, l := range []line{
		{"from the beginning", "sh", first, store.Turn{}, false, Rest, true},
		{"a bystander", "ca", planned, store.Turn{}, false, Rest, false},

		{"planned: the home ends its term", "sh", planned, store.Turn{}, false, End, false},
		{"planned: once", "sh", planned, store.Turn{Handed: term(2), Until: 9}, false, Rest, false},
		{"planned: the successor waits", "hk", planned, store.Turn{}, true, Wait, false},
		{"planned: for this term's end", "hk", planned, store.Turn{Ended: term(1)}, true, Wait, false},
		{"planned: and takes over", "hk", planned, store.Turn{Ended: term(2)}, false, Take, false},
		{"planned: and serves", "hk", planned, store.Turn{Ended: term(2), Opened: term(2)}, false, Rest, true},

		{"back: the successor ends its term", "hk", back, store.Turn{Ended: term(2), Opened: term(2)}, false, End, false},
		{"back: the home waits", "sh", back, store.Turn{Handed: term(2)}, false, Wait, false},
		{"back: the home takes over", "sh", back, store.Turn{Handed: term(2), Ended: term(3)}, false, Take, false},
		{"back: and serves", "sh", back, store.Turn{Handed: term(2), Ended: term(3), Opened: term(3)}, false, Rest, true},

		{"forced: not before it is drained", "hk", forced, store.Turn{}, false, Wait, false},
		{"forced: then without the end", "hk", forced, store.Turn{}, true, Take, false},
		{"forced: the home returns", "sh", forced, store.Turn{}, false, End, false},
		{"forced: the end comes late, and changes nothing here", "hk", forced, store.Turn{Opened: term(2), Ended: term(2)}, false, Rest, true},

		{"called off before it happened: the home", "sh", back, store.Turn{Handed: term(2)}, false, Wait, false},
		{"called off: who was named never wrote, and says so", "hk", back, store.Turn{}, false, End, false},
		{"forced again at the one that waits", "hk", change("sh", "hk", 3, true), store.Turn{}, true, Take, false},
		{"a fork's end raises the counter of who acts", "hk", change("sh", "hk", 3, false), store.Turn{Opened: term(2)}, false, Take, false},
		{"the same at home", "sh", change("", "sh", 2, false), store.Turn{}, false, Take, false},
		{"a sibling of the same counter", "hk", planned, store.Turn{Opened: region.Term{Counter: 2}}, false, Take, false},
	} {
		if got := Decide(Facts{Self: l.self, Change: l.change, Turn: l.turn, Drained: l.drained}); got != l.want {
			t.Errorf("%s: %s does %s, want %s", l.what, l.self, got, l.want)
		}
		if got := l.change.Acting == l.self && Admits(l.turn, l.change.Term); got != l.admits {
			t.Errorf("%s: %s admits %v, want %v", l.what, l.self, got, l.admits)
		}
	}
}

// TestDrain: a forced takeover waits until nothing comes any more, but not for
// ever.
func TestDrain(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	d := &drain{began: at(0), moved: at(0), seq: 5}
	for _, l := range []struct {
		ms   int
		seq  uint64
		want bool
	}{{0, 5, false}, {300, 5, false}, {399, 6, false}, {700, 6, false}, {799, 6, true}, {800, 7, false}} {
		if got := d.quiet(l.seq, at(l.ms)); got != l.want {
			t.Errorf("at %d ms, sequence %d: quiet %v, want %v", l.ms, l.seq, got, l.want)
		}
	}
	for ms := 900; ms < 2000; ms += 100 {
		if d.quiet(uint64(ms), at(ms)) {
			t.Fatalf("quiet at %d ms, with a record every 100 ms", ms)
		}
	}
	if !d.quiet(9999, at(2000)) {
		t.Error("a region that goes on writing holds the takeover up")
	}
}
