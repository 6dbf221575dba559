package replicator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/homing-im/homing/region/journal"
)

// history makes n batches of a stream that follow each other; batch i (from 1)
// holds the records 2i-1 and 2i, of the full stream.
func history(n int) []*journal.Batch {
	head := journal.StreamHead{Stream: journal.Full}
	var out []*journal.Batch
	for i := range n {
		b := &journal.Batch{Origin: "sh", Incarnation: 1, Owner: 10001, Home: "sh", UnixMilli: int64(i)}
		for k := range 2 {
			seq := uint64(2*i + k + 1)
			b.Records = append(b.Records, journal.Record{Seq: seq, Kind: journal.KindRow, Row: &journal.RowRecord{
				Table: 101, Row: fmt.Append(nil, "row-", seq), Version: 1, Value: []byte{7}}})
		}
		link, next := journal.Next(head, b)
		b.Links, head = []journal.Link{link}, next
		out = append(out, b)
	}
	return out
}

// altered is the batch with other content under the same link.
func altered(b *journal.Batch) *journal.Batch {
	c := *b
	c.UnixMilli++
	return &c
}

func newTestOrder(limit int) *order {
	return newOrder(journal.StreamHead{Stream: journal.Full}, limit)
}

// lasts shows what was taken.
func lasts(run []*journal.Batch) string {
	var s []string
	for _, b := range run {
		s = append(s, fmt.Sprint(b.Last()/2))
	}
	return strings.Join(s, " ")
}

// TestOrderTimelines reads as the specification of order. A step offers the
// batch of that number ("x3": an altered one), learns a head ("h5": the origin
// has five batches), or finds the origin's journal empty ("none"), at a time in
// milliseconds; then follow the verdict, what can be applied, and when the
// origin's journal has to be asked.
func TestOrderTimelines(t *testing.T) {
	never := -1
	type step struct {
		at    int
		what  string
		want  verdict
		taken string
		due   int
	}
	for name, steps := range map[string][]step{
		"in order": {
			{0, "1", taken, "1", never}, {1, "2", taken, "2", never}, {2, "3", taken, "3", never},
		},
		"repeated": {
			{0, "1", taken, "1", never}, {1, "1", duplicate, "", never}, {2, "2", taken, "2", never}, {3, "1", duplicate, "", never},
		},
		"reordered": {
			{0, "2", waits, "", 250}, {1, "3", waits, "", 250}, {2, "1", taken, "1 2 3", never},
		},
		"a repeated early one is kept once": {
			{0, "2", waits, "", 250}, {1, "2", duplicate, "", 250}, {2, "1", taken, "1 2", never},
		},
		"the patience counts from the first sign, not from the last": {
			{0, "1", taken, "1", never}, {10, "3", waits, "", 260}, {200, "5", waits, "", 260},
		},
		"progress starts the patience anew": {
			{0, "3", waits, "", 250}, {100, "1", taken, "1", 350}, {120, "2", taken, "2 3", never},
		},
		"a lost end shows by the head": {
			{0, "1", taken, "1", never}, {10, "h1", 0, "", never}, {20, "h2", 0, "", 1020}, {100, "2", taken, "2", never},
		},
		"a gap with something behind it is no lost end": {
			{0, "1", taken, "1", never}, {10, "h3", 0, "", 1010}, {20, "3", waits, "", 260}, {30, "2", taken, "2 3", never},
		},
		"an altered batch is dropped and asked for at once": {
			{0, "1", taken, "1", never}, {10, "x2", broken, "", 10}, {11, "2", taken, "2", never},
		},
		"an altered early one is found out when its turn comes": {
			{0, "x2", waits, "", 250}, {10, "1", taken, "1", 10}, {11, "2", taken, "2", never},
		},
		"what waits for nothing the origin has is dropped": {
			{0, "1", taken, "1", never}, {10, "x9", waits, "", 260}, {300, "none", 0, "", never}, {310, "2", taken, "2", never},
		},
		"a full buffer is dropped and read again": {
			{0, "2", waits, "", 250}, {1, "3", waits, "", 250}, {2, "4", overflow, "", 0}, {3, "2", waits, "", 0}, {4, "1", taken, "1 2", never},
		},
	} {
		t.Run(name, func(t *testing.T) {
			truth := history(10)
			o := newTestOrder(2)
			start := time.Unix(1000, 0)
			for i, s := range steps {
				now := start.Add(time.Duration(s.at) * time.Millisecond)
				var n int
				var got verdict
				switch {
				case s.what == "none":
					o.nothing()
				case scan(s.what, "h%d", &n):
					o.learn(truth[n-1].Last(), now)
				case scan(s.what, "x%d", &n):
					got = o.offer(altered(truth[n-1]), 1, now)
				default:
					scan(s.what, "%d", &n)
					got = o.offer(truth[n-1], 1, now)
				}
				due := never
				if at, ok := o.due(); ok {
					due = int(at.Sub(start).Milliseconds())
				}
				if run := lasts(o.take()); got != s.want || run != s.taken || due != s.due {
					t.Errorf("step %d, %s at %d ms: verdict %d, taken %q, due %d; want %d, %q, %d", i, s.what, s.at, got, run, due, s.want, s.taken, s.due)
				}
			}
		})
	}
}

func scan(s, format string, n *int) bool {
	_, err := fmt.Sscanf(s, format, n)
	return err == nil
}

// TestOrderAppliesOnceInOrder: whatever the queue does to the messages, and
// with gaps filled from the origin's journal, exactly the origin's batches come
// out, in order, once (invariant 1), and what waits stays bounded (2).
func TestOrderAppliesOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "batches")
		truth := history(n)
		longer := history(n + 5)
		limit := rapid.IntRange(1, 10).Draw(t, "limit")
		o := newTestOrder(limit)
		now := time.Unix(0, 0)
		var applied []*journal.Batch
		fill := func() {
			next := len(applied) // the journal answers with what follows the position
			if next == n {
				o.nothing()
				return
			}
			for _, b := range truth[next:min(n, next+rapid.IntRange(1, 3).Draw(t, "answer"))] {
				if v := o.offer(b, 1, now); v == broken || v == overflow {
					t.Fatalf("the origin's own batch %d got verdict %d", b.Last()/2, v)
				}
				applied = append(applied, o.take()...)
			}
		}
		for range rapid.IntRange(0, 100).Draw(t, "messages") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "ms")) * time.Millisecond)
			i := rapid.IntRange(0, n-1).Draw(t, "message") // any one: lost, repeated and reordered at will
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				o.offer(altered(longer[rapid.IntRange(0, n+4).Draw(t, "altered")]), 1, now)
			case 1:
				o.learn(truth[i].Last(), now)
			default:
				o.offer(truth[i], 1, now)
			}
			applied = append(applied, o.take()...)
			if at, ok := o.due(); ok && !now.Before(at) {
				fill()
			}
			if o.bytes > limit || o.bytes != len(o.waiting) {
				t.Fatalf("%d bytes wait in %d batches, limit %d", o.bytes, len(o.waiting), limit)
			}
			for prev := range o.waiting {
				if prev <= o.head.Last {
					t.Fatalf("a batch waits for %d, which was taken", prev)
				}
			}
		}
		o.learn(truth[n-1].Last(), now)
		for len(applied) < n {
			if _, ok := o.due(); !ok {
				t.Fatalf("%d of %d applied and nothing is due", len(applied), n)
			}
			fill()
		}
		if !slices.EqualFunc(applied, truth, func(a, b *journal.Batch) bool { return a == b }) {
			t.Fatalf("applied %s", lasts(applied))
		}
	})
}
