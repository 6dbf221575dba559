package replicator

import (
	"log/slog"
	"testing"
	"time"

	"github.com/homing-im/homing/region/journal"
)

// An origin that was restored from an older copy is noticed by its heads alone,
// wherever its new history ends.
func TestRestoredOriginIsNoticed(t *testing.T) {
	at := journal.StreamHead{Stream: journal.Shared, Last: 10, Chain: journal.Sum{1}}
	other, same := journal.Sum{2}, journal.Sum{1}
	for name, c := range map[string]struct {
		last   uint64
		chain  []byte
		before journal.StreamHead
		halts  bool
	}{
		"it has the same":                     {10, same[:], at, false},
		"it has more":                         {11, other[:], at, false}, // its next batch tells
		"it has less":                         {9, other[:], at, true},
		"it has as much, and something else":  {10, other[:], at, true},
		"it does not tell the chain":          {10, nil, at, false},
		"the replica does not know the chain": {10, other[:], journal.StreamHead{Stream: journal.Shared, Last: 10}, false},
	} {
		cur := &cursor{spot: spot{origin: "sh", stream: journal.Shared}, metrics: newMetrics(), logger: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1)}
		cur.progress.begin(c.before.Last)
		cur.progress.chain = c.before.Chain
		if cur.mark() != c.before {
			t.Errorf("%s: the mark is %+v", name, cur.mark())
		}
		cur.learn(time.Now(), cur.mark(), &Head{Incarnation: 2, First: 1, Next: 20, Streams: []StreamLast{
			{Stream: journal.Full, Last: 19, Chain: other[:]}, {Stream: journal.Shared, Last: c.last, Chain: c.chain},
		}})
		if cur.halted() != c.halts {
			t.Errorf("%s: halted is %v, state %s, %s", name, cur.halted(), cur.progress.state, cur.progress.reason)
		}
	}
	// What a successor tells of a region that is gone is a bound only.
	cur := &cursor{spot: spot{origin: "sh", stream: journal.Shared}, metrics: newMetrics(), logger: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1)}
	cur.learn(time.Now(), cur.mark(), &Head{Streams: []StreamLast{{Stream: journal.Full, Last: 3}}})
	if cur.halted() || cur.progress.known != 3 {
		t.Errorf("of a copy it learned %d, state %s", cur.progress.known, cur.progress.state)
	}
}
