package replicator

import (
	"log/slog"
	"testing"
	"time"

	"github.com/homing-im/homing/region/journal"
)

// TestInboxIsBounded has a queue bring messages faster than they are looked at:
// what waits is bounded, however many queue groups bring it, and the log is asked
// again once it was looked at.
func TestInboxIsBounded(t *testing.T) {
	c := &cursor{spot: spot{origin: "sh", stream: journal.Full}, now: func() time.Time { return testTime }, wake: make(chan struct{}, 1), metrics: newMetrics(), logger: slog.New(slog.DiscardHandler)}
	feeds := []*feed{{cursor: c}, {cursor: c}}
	most := 0
	for round := range 3 {
		fetched := 0
		for range 100 {
			for _, f := range feeds {
				q, ok, soon := f.want(testTime, time.Time{})
				if !ok {
					if !soon {
						t.Fatal("a full inbox is given up")
					}
					continue
				}
				f.hand(q, Fetched{Messages: []Message{{Offset: q.offset, Value: make([]byte, fetchBytes)}}}, false)
				fetched++
			}
			most = max(most, c.inboxBytes)
		}
		if fetched == 0 || fetched > 4 {
			t.Fatalf("round %d: %d fetches of %d bytes, the bound is %d", round, fetched, fetchBytes, inboxBytes)
		}
		c.mu.Lock()
		c.inbox, c.inboxBytes = nil, 0 // as read does
		c.mu.Unlock()
	}
	if limit := inboxBytes + len(feeds)*fetchBytes; most > limit {
		t.Fatalf("%d bytes waited, the bound is %d", most, limit)
	}
}
