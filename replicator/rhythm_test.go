package replicator

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// ocean is a broker that lies half a round trip away, with one log, in virtual time.
type ocean struct {
	trip    time.Duration
	jitter  func() time.Duration // of answers
	written []time.Time          // of every message
	under   []crossing
	asked   int // messages sent in answers
}

// fullFetch is how many of its messages are as much as is asked for at once.
const fullFetch = 1000

var value = make([]byte, fetchBytes/fullFetch)

// crossing is a question under way, and later its answer.
type crossing struct {
	number   int
	q        question
	arrives  time.Time // the question, then the answer
	answered bool
	got      Fetched
}

// step carries what is under way at a time, and returns what has arrived back.
func (o *ocean) step(now time.Time) (back []crossing) {
	left := o.under[:0]
	for _, c := range o.under {
		end := int64(len(o.written))
		switch {
		case now.Before(c.arrives):
		case c.answered:
			back = append(back, c)
			continue
		case c.q.offset > end:
			c.got, c.answered, c.arrives = Fetched{Err: ErrOffsetOutOfRange}, true, now.Add(o.trip/2+o.jitter())
		case c.q.offset < end:
			c.got.Bounds.End = end
			end = min(end, c.q.offset+fullFetch)
			for at := c.q.offset; at < end; at++ {
				c.got.Messages = append(c.got.Messages, Message{Offset: at, Value: value})
			}
			o.asked += len(c.got.Messages)
			c.answered, c.arrives = true, now.Add(o.trip/2+o.jitter())
		}
		left = append(left, c)
	}
	o.under = left
	return back
}

// TestRhythm plays writing and fetching in virtual time: everything comes once and in
// order, at most so late, and not too much of it twice.
func TestRhythm(t *testing.T) {
	const round = 150 * time.Millisecond
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name  string
		trip  time.Duration
		shake time.Duration              // answers take up to so much longer
		write func(at time.Duration) int // messages in this millisecond
		late  time.Duration              // 99 of 100 messages are no later
		twice float64                    // for each message
		under int                        // fetches at a time
	}{
		{"steady", round, 0, func(time.Duration) int { return 3 }, 120 * time.Millisecond, 0.5, 4},
		{"nearly all that a fetch may bring", round, 0, func(time.Duration) int { return 5 }, 300 * time.Millisecond, 1, 4},
		{"at random", round, 0, func(time.Duration) int { return random.IntN(5) }, 120 * time.Millisecond, 1.5, 4},
		{"in groups", round, 0, func(at time.Duration) int {
			if at%(5*time.Millisecond) == 0 {
				return random.IntN(10)
			}
			return 0
		}, 120 * time.Millisecond, 2, 4},
		{"now and then", round, 0, func(time.Duration) int { return max(0, random.IntN(400)-398) }, 230 * time.Millisecond, 1, 2},
		{"bursts", round, 0, func(at time.Duration) int {
			if at/(300*time.Millisecond)%2 == 0 {
				return 4
			}
			return 0
		}, 230 * time.Millisecond, 3, 4},
		{"a backlog", round, 0, func(at time.Duration) int {
			if at == 0 {
				return 200_000
			}
			return 0
		}, 9 * time.Second, 0.25, 4}, // one fetch at a time takes 30 seconds
		{"overtaking", round, 90 * time.Millisecond, func(time.Duration) int { return 3 }, 320 * time.Millisecond, 2, 4},
		{"near", 2 * time.Millisecond, 0, func(time.Duration) int { return 2 }, 4 * time.Millisecond, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Unix(1, 0)
			now := start
			cur := &cursor{wake: make(chan struct{}, 1), now: func() time.Time { return now }}
			f := &feed{cursor: cur}
			f.place(0)
			var r rhythm
			o := &ocean{trip: c.trip, jitter: func() time.Duration { return time.Duration(random.Int64N(int64(c.shake) + 1)) }}
			var late []time.Duration
			most, next := 0, int64(0)
			for ; now.Before(start.Add(20 * time.Second)); now = now.Add(time.Millisecond) {
				for range c.write(now.Sub(start)) {
					o.written = append(o.written, now)
				}
				for _, a := range o.step(now) {
					r.answered(polled{number: a.number, took: now.Sub(a.q.sent), news: len(a.got.Messages) > 0, answers: []answered{{a.q, a.got}}})
				}
				for _, m := range cur.inbox {
					if m.Offset != next {
						t.Fatalf("message %d where %d is next", m.Offset, next)
					}
					next++
					late = append(late, now.Sub(o.written[m.Offset]))
				}
				cur.inbox, cur.inboxBytes = nil, 0
				for {
					at, ok := r.next(now)
					if !ok || at.After(now) {
						break
					}
					number, before := r.send(now)
					q, ok, _ := f.want(now, before)
					if !ok {
						t.Fatal("the feed wants nothing")
					}
					o.under = append(o.under, crossing{number: number, q: q, arrives: now.Add(c.trip / 2)})
				}
				most = max(most, len(r.under))
			}
			if missing := len(o.written) - len(late); missing > len(o.written)/20 {
				t.Errorf("%d of %d messages have not come", missing, len(o.written))
			}
			late = late[len(late)/20:] // when a round trip is known
			slices.Sort(late)
			p99 := late[len(late)*99/100]
			twice := float64(o.asked)/float64(len(o.written)) - 1
			t.Logf("%d messages, 99 of 100 at most %s late, %.2f twice, %d fetches at a time", len(o.written), p99, twice, most)
			if p99 > c.late || twice > c.twice || most != c.under {
				t.Errorf("want at most %s late, %.2f twice, and %d fetches at a time", c.late, c.twice, c.under)
			}
		})
	}
}
