package ids_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/region"
)

func TestParseHandle(t *testing.T) {
	for _, c := range []struct {
		in   string
		want ids.Handle // "" is refused
	}{
		{"alice", "alice"}, {"Alice", "alice"}, {"a.b_9", "a.b_9"}, {"abc", "abc"}, {strings.Repeat("a", 32), ids.Handle(strings.Repeat("a", 32))},
		{"", ""}, {"ab", ""}, {strings.Repeat("a", 33), ""}, {"1abc", ""}, {"_abc", ""}, {".abc", ""}, {"a b", ""}, {"al-ice", ""}, {"@alice", ""},
		{"алиса", ""}, {"alice\x00", ""}, {"K\u0131rk", ""}, {"\u212Aelvin", ""}, // a Kelvin sign is no k
	} {
		got, err := ids.ParseHandle(c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("ParseHandle(%q) = %q, %v; want %q", c.in, got, err, c.want)
		}
		if err != nil && region.KindOf(err) != region.BadInput {
			t.Errorf("ParseHandle(%q): kind of %v", c.in, err)
		}
	}
}

func TestReservedHandles(t *testing.T) {
	for _, s := range []ids.Handle{"admin", "root", "system", "homing", "support", "a.d.m.i.n", "_root"} {
		if region.KindOf(s.Claimable()) != region.BadInput {
			t.Errorf("%s may be claimed", s)
		}
	}
	for _, s := range []ids.Handle{"alice", "admins", "rooted"} {
		if err := s.Claimable(); err != nil {
			t.Errorf("%s may not be claimed: %v", s, err)
		}
	}
}

func FuzzParseHandle(f *testing.F) {
	f.Add("Alice")
	f.Add("a..b")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ids.ParseHandle(s)
		if err != nil {
			return
		}
		if again, err := ids.ParseHandle(string(h)); err != nil || again != h {
			t.Fatalf("the normal form %q of %q parses to %q, %v", h, s, again, err)
		}
		if !strings.EqualFold(string(h), s) {
			t.Fatalf("%q became %q", s, h)
		}
	})
}

// TestNext: ranges never overlap what was given out and never leave the segment.
func TestNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uin := rapid.OneOf(rapid.Uint64Range(0, 50), rapid.Uint64Range(^uint64(0)-50, ^uint64(0)))
		a, b := region.UIN(uin.Draw(t, "a")), region.UIN(uin.Draw(t, "b"))
		s := region.Segment{First: min(a, b), Last: max(a, b), Home: "sh"}
		var newest *ids.Range
		if rapid.Bool().Draw(t, "used") {
			x, y := region.UIN(uin.Draw(t, "x")), region.UIN(uin.Draw(t, "y"))
			newest = &ids.Range{First: min(x, y), Last: max(x, y)}
		}
		n := rapid.IntRange(1, 60).Draw(t, "n")
		r, ok := ids.Next(s, newest, n)
		if !ok {
			return
		}
		if r.Last-r.First != region.UIN(n-1) || r.First <= s.First || r.Last > s.Last || r.Last < r.First {
			t.Fatalf("%d of %+v gave %+v", n, s, r)
		}
		if newest != nil && r.First <= newest.Last && newest.First <= r.Last {
			t.Fatalf("%+v overlaps %+v", r, newest)
		}
	})
}
