package replicator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/storetest"
)

// large commits rows of ten thousand bytes, and a command to ca before them.
func large(t *testing.T, command bool, commits int) store.Store {
	t.Helper()
	s := storetest.NewMemory(storetest.Config{Region: "sh", Partitions: 1, Now: time.Now})
	for i := range commits {
		b := &store.Batch{Owner: 1000001, Home: "sh", Writes: []store.Write{{Table: 101, Row: fmt.Append(nil, i), Value: make([]byte, 10_000)}}}
		if command && i == 0 {
			b.Commands = []journal.Command{{ID: journal.CommandID{1}, To: "ca", Target: 3000001, Method: 1}}
		}
		if _, err := s.Commit(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestMeter: what is within a number of bytes, by adding up the journal itself.
func TestMeter(t *testing.T) {
	ctx := context.Background()
	s := large(t, false, 60)
	var m meter
	if got := m.newest(1 << 20); got != 0 {
		t.Errorf("nothing is counted, and %d is within a MiB", got)
	}
	if err := m.read(ctx, s, 0); err != nil {
		t.Fatal(err)
	}
	for _, bytes := range []uint64{100_000, 200_000, 500_000} {
		at := m.newest(bytes)
		var have uint64
		for from := at; ; {
			batches, err := s.Journal(ctx, 0, journal.Full, from, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if len(batches) == 0 {
				break
			}
			for _, b := range batches {
				have += uint64(len(journal.Encode(b)))
				from = b.Last() + 1
			}
		}
		if have > bytes || have+meterGrain+11_000 < bytes {
			t.Errorf("from %d on there are %d bytes, want at most %d and not much less", at, have, bytes)
		}
	}
	if got := m.newest(1 << 30); got != 1 {
		t.Errorf("all is within a GiB, but for what is before %d", got)
	}
	if err := s.Trim(ctx, 0, 40); err != nil {
		t.Fatal(err)
	}
	if err := m.read(ctx, s, 0); err != nil || len(m.marks) > 6 {
		t.Errorf("after a trim %d marks are kept, %v", len(m.marks), err)
	}
}

// TestTrimBudget: who does not come for the journal does not hold it for ever; what
// it was asked to do is kept, and more of it is refused.
func TestTrimBudget(t *testing.T) {
	have := func(of region.ID, s journal.Stream, seq uint64) *Positions {
		return &Positions{Region: of, Positions: []PositionEntry{{Origin: "sh", Stream: s, Seq: seq}}}
	}
	for name, c := range map[string]struct {
		peers   map[region.ID]*Positions
		command bool
		budget  uint64
		away    region.ID
		trims   bool
		refuses bool
	}{
		"without a budget, one unknown":       {peers: map[region.ID]*Positions{"ca": {}}},
		"without a budget, one behind":        {peers: map[region.ID]*Positions{"hk": {}, "ca": {}}},
		"one that never answered":             {peers: map[region.ID]*Positions{"ca": {}}, budget: 200_000, trims: true},
		"one that is behind":                  {peers: map[region.ID]*Positions{"hk": have("hk", journal.Full, 3), "ca": {}}, budget: 200_000, trims: true},
		"within the budget":                   {peers: map[region.ID]*Positions{"hk": {}, "ca": {}}, budget: 1 << 30},
		"a command that has not run":          {peers: map[region.ID]*Positions{"hk": have("hk", journal.Full, 61), "ca": {}}, command: true, budget: 200_000, refuses: true},
		"a command of one that is not heard":  {peers: map[region.ID]*Positions{"hk": have("hk", journal.Full, 61)}, command: true, budget: 200_000, refuses: true},
		"a command that has run":              {peers: map[region.ID]*Positions{"hk": have("hk", journal.Full, 3), "ca": have("ca", "to-ca", 2)}, command: true, budget: 200_000, trims: true},
		"one that nobody waits for, unheard":  {peers: map[region.ID]*Positions{"ca": {}}, away: "hk", trims: true},
		"another that nobody waits for, late": {peers: map[region.ID]*Positions{"hk": {}}, away: "ca"},
	} {
		s := large(t, c.command, 60)
		k := testKeeper(s, fakePeers{positions: c.peers})
		k.options.Budget = c.budget
		w := *world(nil).World
		for i := range w.Regions {
			w.Regions[i].Away = w.Regions[i].ID == c.away
		}
		k.options.View = func() *region.View { return region.NewView(&w, region.Hash{1}, nil) }
		k.trim(context.Background())
		if first := s.Head(0).First; (first > 1) != c.trims {
			t.Errorf("%s: the journal begins at %d, want trimmed: %t", name, first, c.trims)
		}
		r := &Replicator{keeper: k}
		if err := r.Budgeted("ca"); region.KindOf(err) == region.Overloaded != c.refuses {
			t.Errorf("%s: more for ca: %v, want refused: %t", name, err, c.refuses)
		}
		if err := r.Budgeted("hk"); err != nil {
			t.Errorf("%s: more for hk: %v", name, err)
		}
	}
}
