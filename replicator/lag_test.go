package replicator

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

var testTime = time.Unix(1_000_000, 0)

func seconds(n float64) time.Time { return testTime.Add(time.Duration(n * float64(time.Second))) }

// TestLagNeverSaysTooLittle plays answers and progress, and looks at what is
// shown.
func TestLagNeverSaysTooLittle(t *testing.T) {
	type show struct {
		records uint64
		seconds float64
		state   State
	}
	for name, c := range map[string]struct {
		play func(*progress)
		at   float64
		want show
	}{
		"nothing is known yet": {func(*progress) {}, 2, show{0, 2, StateLive}},
		"the origin never answered": {
			func(*progress) {}, 9, show{0, 9, StateUnknown}},
		"all applied when asked": {func(p *progress) {
			p.reach(10, false)
			p.learn(seconds(3), 10, 10)
		}, 3.5, show{0, 0.5, StateLive}},
		"records count from before the question": {func(p *progress) {
			p.learn(seconds(3), 4, 10)
			p.reach(7, false)
		}, 3.5, show{6, 3.5, StateLive}},
		"reaching the answer counts from its question": {func(p *progress) {
			p.learn(seconds(3), 4, 10)
			p.reach(10, false)
		}, 3.5, show{6, 0.5, StateLive}},
		"a backlog counts from the youngest question reached": {func(p *progress) {
			p.learn(seconds(1), 0, 10)
			p.learn(seconds(2), 0, 20)
			p.learn(seconds(3), 0, 30)
			p.reach(25, false)
		}, 4, show{30, 2, StateLive}},
		"late": {func(p *progress) {
			p.learn(seconds(1), 0, 10)
			p.reach(10, false)
			p.learn(seconds(7), 10, 20)
		}, 7.5, show{10, 6.5, StateBehind}},
		"a dead origin makes it grow": {func(p *progress) {
			p.reach(10, false)
			p.learn(seconds(1), 10, 10)
		}, 101, show{0, 100, StateUnknown}},
		"more answers than are kept": {func(p *progress) {
			for i := range 100 {
				p.learn(seconds(float64(i)), 0, uint64(i+1))
			}
			p.reach(70, false)
		}, 100, show{100, 31, StateBehind}},
	} {
		t.Run(name, func(t *testing.T) {
			var p progress
			p.begin(0)
			c.play(&p)
			l := p.show(0, seconds(c.at), testTime, false)
			if got := (show{l.Records, l.Seconds, l.State}); got != c.want {
				t.Errorf("shown %+v, want %+v", got, c.want)
			}
		})
	}
}

// A replica that never heard from its origin says so, and one empty partition
// beside others is nothing to worry about.
func TestUnheard(t *testing.T) {
	for name, c := range map[string]struct {
		play []func(*progress)
		want bool
	}{
		"nothing at all":      {[]func(*progress){func(*progress) {}, func(*progress) {}}, true},
		"one has records":     {[]func(*progress){func(p *progress) { p.begin(3) }, func(*progress) {}}, false},
		"it said it is empty": {[]func(*progress){func(p *progress) { p.learn(seconds(1), 0, 0) }, func(*progress) {}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := Lag{Unheard: true}
			for i, play := range c.play {
				var p progress
				p.begin(0)
				play(&p)
				l.add(p.show(region.Partition(i), seconds(2), testTime, false))
			}
			if l.Unheard != c.want {
				t.Errorf("unheard %t, want %t", l.Unheard, c.want)
			}
		})
	}
}

func world(acting map[region.ID]region.ID) *region.View {
	w := &region.World{Version: 1, Partitions: 4}
	for _, r := range []region.Region{
		{ID: "sh", Backups: []region.ID{"hk", "ca"}}, {ID: "hk", Backups: []region.ID{"sh", "ca"}}, {ID: "ca", Backups: []region.ID{"hk", "sh"}},
	} {
		r.Acting.Region = r.ID
		if a, ok := acting[r.ID]; ok {
			r.Acting.Region = a
		}
		w.Regions = append(w.Regions, r)
	}
	return region.NewView(w, region.Hash{1}, nil)
}

func TestNeedsFollowTheWorld(t *testing.T) {
	for _, c := range []struct {
		self   region.ID
		acting map[region.ID]region.ID
		want   map[region.ID][]journal.Stream
		ships  []journal.Stream
	}{
		{"hk", nil, map[region.ID][]journal.Stream{"sh": {"full", "to-hk"}, "ca": {"full", "to-hk"}}, []journal.Stream{"full", "shared", "to-sh", "to-ca"}},
		{"ca", nil, map[region.ID][]journal.Stream{"sh": {"shared", "to-ca"}, "hk": {"shared", "to-ca"}}, []journal.Stream{"full", "shared", "to-sh", "to-hk"}},
		{"hk", map[region.ID]region.ID{"sh": "hk"}, map[region.ID][]journal.Stream{"sh": {"full", "to-sh", "to-hk"}, "ca": {"full", "to-sh", "to-hk"}}, []journal.Stream{"full", "shared", "to-ca"}},
		{"sh", map[region.ID]region.ID{"sh": "hk"}, map[region.ID][]journal.Stream{"hk": {"full"}, "ca": {"shared"}}, []journal.Stream{"full", "shared", "to-sh", "to-hk", "to-ca"}},
		{"zz", nil, map[region.ID][]journal.Stream{}, []journal.Stream{"full", "shared", "to-sh", "to-hk", "to-ca"}},
	} {
		v := world(c.acting)
		got := needs(v, c.self)
		if len(got) != len(c.want) {
			t.Errorf("%s with %v replays %v", c.self, c.acting, got)
		}
		for id, streams := range c.want {
			if !got[id].equal(need{nil, streams}) {
				t.Errorf("%s with %v replays %v of %s, want %v", c.self, c.acting, got[id].streams, id, streams)
			}
		}
		if ships := shippedStreams(v, c.self); !(need{nil, ships}).equal(need{nil, c.ships}) {
			t.Errorf("%s with %v ships %v, want %v", c.self, c.acting, ships, c.ships)
		}
	}
}

func TestTrimBound(t *testing.T) {
	v := world(nil)
	self, _ := v.World.Region("sh")
	at := func(of region.ID, s journal.Stream, seq uint64) PositionEntry {
		return PositionEntry{Origin: "sh", Stream: s, Partition: 0, Seq: seq}
	}
	// Each reader's backup knows what the reader has executed: hk of ca and sh, sh
	// of hk.
	all := func(full, shared, hk, ca, own uint64) map[region.ID]*Positions {
		return map[region.ID]*Positions{
			"hk": {Positions: []PositionEntry{at("hk", "full", full), at("hk", "to-hk", hk), at("hk", "to-ca", ca), at("hk", "to-sh", own)}},
			"ca": {Positions: []PositionEntry{at("ca", "shared", shared), at("ca", "to-ca", ca)}},
			"sh": {Positions: []PositionEntry{at("sh", "to-sh", own), at("sh", "to-hk", hk)}},
		}
	}
	unaware := all(100, 90, 50, 40, 30)
	unaware["hk"].Positions[2].Seq = 20
	anew := all(40, 90, 50, 40, 30)
	anew["hk"].Positions[2].Seq = 20
	head := &Head{First: 1, Next: 101, Streams: []StreamLast{{Stream: "full", Last: 100}, {Stream: "shared", Last: 90}, {Stream: "to-hk", Last: 50}, {Stream: "to-ca", Last: 40}, {Stream: "to-sh", Last: 30}}}
	for name, c := range map[string]struct {
		applied map[region.ID]*Positions
		want    uint64
	}{
		"everybody has everything":        {all(100, 90, 50, 40, 30), 101},
		"the backup lags":                 {all(70, 90, 50, 40, 30), 71},
		"a command is not applied":        {all(100, 90, 50, 39, 30), 40},
		"an own command has not run":      {all(100, 90, 50, 40, 29), 30},
		"a reader's backup is unaware":    {unaware, 21},
		"somebody has not begun":          {all(100, 0, 50, 40, 30), 1},
		"another partition says nothing":  {map[region.ID]*Positions{"hk": {Positions: []PositionEntry{{Origin: "sh", Stream: "full", Partition: 1, Seq: 100}}}}, 1},
		"another origin's says nothing":   {map[region.ID]*Positions{"hk": {Positions: []PositionEntry{{Origin: "ca", Stream: "full", Seq: 100}}}}, 1},
		"positions younger than the head": {all(120, 110, 110, 110, 110), 101},
	} {
		b := bound{view: v, self: self, head: head, applied: c.applied}
		b.find()
		if b.before != c.want {
			t.Errorf("%s: trims before %d, want %d", name, b.before, c.want)
		}
	}
	// A budget: rows from before sequence 75 wait for nobody, commands do.
	for name, c := range map[string]struct {
		applied map[region.ID]*Positions
		want    uint64
		over    string
		full    string
	}{
		"the backup is past its budget":     {all(40, 90, 50, 40, 30), 75, "hk", ""},
		"two are":                           {all(40, 50, 50, 40, 30), 75, "ca hk", ""},
		"nobody is":                         {all(80, 90, 50, 40, 30), 81, "", ""},
		"a command from before has not run": {all(40, 90, 50, 39, 30), 40, "hk", "ca"},
		"a reader's backup is unaware":      {unaware, 21, "", "ca"},
		"one that begins anew is not asked": {anew, 75, "hk", ""},
	} {
		b := bound{view: v, self: self, head: head, applied: c.applied, cut: 75}
		b.find()
		if got := keysOf(b.over); b.before != c.want || got != c.over || keysOf(b.full) != c.full {
			t.Errorf("%s: trims before %d, over %q, full %q, want %d, %q, %q", name, b.before, got, keysOf(b.full), c.want, c.over, c.full)
		}
	}
	b := bound{view: v, self: self, head: head, applied: all(70, 80, 50, 40, 30)}
	b.find()
	if needed := b.needed; needed["full"] != 71 || needed["shared"] != 81 || needed["to-sh"] != 31 {
		t.Errorf("oldest needed: %v", b.needed)
	}
}

func keysOf(m map[region.ID]bool) string {
	var out []string
	for id := range m {
		out = append(out, string(id))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
