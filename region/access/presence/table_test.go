package presence

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
)

func entry(u region.UIN, process string, incarnation, id uint64) Entry {
	return Entry{Connection: Connection{Process{process, incarnation}, id}, UIN: u, Front: "long", Platform: "test", Since: time.UnixMilli(int64(id))}
}

func gone(e Entry) Entry { e.Gone = true; return e }

var start = time.Unix(1000, 0)

// The life of some connections, as a table of what is heard and who is online
// afterwards.
func TestTable(t *testing.T) {
	a1, a2, b1 := entry(7, "a", 1, 1), entry(7, "a", 1, 2), entry(7, "b", 1, 1)
	table := NewTable()
	for i, s := range []struct {
		at     int // seconds
		what   func(now time.Time)
		online []Entry // of user 7
	}{
		{0, func(now time.Time) { table.Apply(a1, now) }, []Entry{a1}},
		{0, func(now time.Time) { table.Apply(a1, now) }, []Entry{a1}}, // twice is once
		{1, func(now time.Time) { table.Apply(b1, now) }, []Entry{a1, b1}},
		{1, func(now time.Time) { table.Apply(gone(a2), now) }, []Entry{a1, b1}}, // the end comes before the beginning
		{2, func(now time.Time) { table.Apply(a2, now) }, []Entry{a1, b1}},
		{2, func(now time.Time) { table.Apply(gone(a1), now) }, []Entry{b1}},
		{2, func(now time.Time) { table.Apply(a1, now) }, []Entry{b1}}, // it does not come back
		{3, func(now time.Time) { table.Apply(entry(7, "a", 2, 1), now) }, []Entry{b1, entry(7, "a", 2, 1)}},
		{3, func(now time.Time) { table.Apply(entry(7, "a", 1, 9), now) }, []Entry{b1, entry(7, "a", 2, 1)}}, // of an older life
		{9, func(now time.Time) { table.Heard(Process{"a", 2}, now) }, []Entry{b1, entry(7, "a", 2, 1)}},
		{11, func(now time.Time) { table.Expire(now) }, []Entry{b1, entry(7, "a", 2, 1)}},
		{12, func(now time.Time) { table.Expire(now) }, []Entry{entry(7, "a", 2, 1)}}, // b was heard of at 1
		{13, func(now time.Time) { table.Heard(Process{"a", 3}, now) }, nil},          // a newer life ends the older one
		{14, func(now time.Time) { table.Apply(entry(7, "a", 2, 1), now) }, nil},
		{15, func(now time.Time) { table.Apply(b1, now) }, []Entry{b1}}, // b is back
	} {
		s.what(start.Add(time.Duration(s.at) * time.Second))
		if got := table.Lookup(7); len(got)+len(s.online) > 0 && !reflect.DeepEqual(got, s.online) {
			t.Fatalf("step %d, %ds: %v, want %v", i, s.at, got, s.online)
		}
		if u, c := table.Size(); c != len(s.online) || u != min(c, 1) {
			t.Fatalf("step %d: %d users, %d connections", i, u, c)
		}
	}
}

// Two tables that heard the same, in any order and any number of times, are
// equal; and so are their sums.
func TestTablesConverge(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var heard []Entry
		for id := range uint64(40) {
			e := entry(region.UIN(1+r.IntN(5)), string(rune('a'+r.IntN(3))), 1+uint64(r.IntN(2)), id)
			heard = append(heard, e)
			if r.IntN(2) == 0 {
				heard = append(heard, gone(e))
			}
		}
		var tables [2]*Table
		for i := range tables {
			tables[i] = NewTable()
			mine := append(slices.Clone(heard), heard[:r.IntN(len(heard))]...)
			r.Shuffle(len(mine), func(a, b int) { mine[a], mine[b] = mine[b], mine[a] })
			for _, e := range mine {
				tables[i].Apply(e, start)
			}
		}
		all := func(region.UIN) bool { return true }
		if a, b := tables[0].Entries(all), tables[1].Entries(all); !reflect.DeepEqual(a, b) {
			t.Fatalf("seed %d:\n%v\n%v", seed, a, b)
		}
		for p := range tables[0].Alive() {
			var want uint64
			for _, e := range tables[0].Entries(all) {
				if e.Process == p {
					want ^= mix(e.ID)
				}
			}
			if a, b := tables[0].Sum(p), tables[1].Sum(p); a != b || a != want {
				t.Fatalf("seed %d: sums of %v are %x, %x, want %x", seed, p, a, b, want)
			}
		}
	}
}

// Segments have two nodes each, are spread over all, and a node more or less
// moves only its own.
func TestLayout(t *testing.T) {
	nodes := []NodeAddress{{"p1", ""}, {"p2", ""}, {"p3", ""}}
	three, err := newLayout(nodes)
	if err != nil {
		t.Fatal(err)
	}
	two, _ := newLayout(nodes[:2])
	one, _ := newLayout(nodes[:1])
	count := map[int]int{}
	for s := range region.UIN(3000) {
		u := 1_000_000 + s*SegmentSize
		p, b := three.pair(u)
		if p == b {
			t.Fatal("the backup is the primary")
		}
		if q, c := three.pair(u + SegmentSize - 1); q != p || c != b {
			t.Fatalf("segment of %d is divided", u)
		}
		count[p]++
		if q, _ := two.pair(u); p != 2 && q != p {
			t.Fatalf("segment of %d moves from %d to %d though that stays", u, p, q)
		}
		if p, b := one.pair(u); p != 0 || b != 0 {
			t.Fatal("one node")
		}
	}
	for n, k := range count {
		if k < 800 || k > 1200 {
			t.Errorf("node %d is the primary of %d of 3000 segments", n, k)
		}
	}
	for _, bad := range [][]NodeAddress{nil, {{"", "x"}}, {{"a", "x"}, {"a", "y"}}} {
		if _, err := newLayout(bad); region.KindOf(err) != region.BadInput {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func FuzzEntries(f *testing.F) {
	e := entry(7, "a", 1, 1)
	b, _ := encode(entryToProto(&e))
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newEntry(b)
		if p == nil {
			return
		}
		e, err := entryFromProto(p)
		if err != nil {
			return
		}
		again, err := entryFromProto(entryToProto(&e))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(e) {
			t.Fatalf("%v became %v, %v", e, again, err)
		}
	})
}
