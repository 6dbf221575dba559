package replicator

import (
	"context"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

func TestHeld(t *testing.T) {
	s := testStore(t, 4)
	head := s.Head(0)
	newest := Mark{head.Incarnation, head.Next - 1}
	var full uint64
	for _, l := range head.Streams {
		if l.Stream == journal.Full {
			full = l.Last
		}
	}
	at := func(incarnation, seq uint64) *Positions {
		return &Positions{Positions: []PositionEntry{
			{Origin: "ca", Stream: journal.Full, Seq: 99, Incarnation: incarnation},
			{Origin: "sh", Stream: journal.Shared, Seq: 99, Incarnation: incarnation},
			{Origin: "sh", Stream: journal.Full, Seq: seq, Incarnation: incarnation}}}
	}
	for name, c := range map[string]struct {
		backup *Positions
		want   Mark
		known  bool
	}{
		"the backup is down":          {nil, Mark{}, false},
		"it has nothing":              {&Positions{}, Mark{}, false},
		"it is behind":                {at(head.Incarnation, full-1), Mark{head.Incarnation, full - 1}, true},
		"it has everything":           {at(head.Incarnation, full), newest, true},
		"it has another incarnation":  {at(head.Incarnation+1, full), Mark{head.Incarnation, 0}, true},
		"it does not tell of which":   {at(0, full), Mark{head.Incarnation, 0}, true},
		"it has more than there ever": {at(head.Incarnation, full+7), Mark{head.Incarnation, full + 7}, true},
	} {
		k := testKeeper(s, fakePeers{positions: map[region.ID]*Positions{"hk": c.backup, "ca": at(head.Incarnation, full)}})
		k.hold(context.Background())
		got, known := (&Replicator{keeper: k}).Held("sh", 0)
		if got != c.want || known != c.known {
			t.Errorf("%s: %v %v, want %v %v", name, got, known, c.want, c.known)
		}
	}

	// With nobody to wait for, what is durable is held.
	k := testKeeper(s, fakePeers{})
	alone := *world(nil)
	alone.World.Regions[0].Backups = nil
	k.options.View = func() *region.View { return &alone }
	k.hold(context.Background())
	if got, known := (&Replicator{keeper: k}).Held("sh", 0); got != newest || !known {
		t.Errorf("without a backup: %v %v, want %v", got, known, newest)
	}
}
