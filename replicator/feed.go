package replicator

import (
	"context"
	"errors"
	"math"
	"time"
)

// strays is how many times as far off as on the average the end of a log may be
// without an answer that is of no use. Fewer save bytes over the ocean.
const strays = 4

// feed brings a cursor what one of the origin's queue groups has of its stream.
// The groups repeat each other, and none has all: the cursor's order puts their
// messages together by sequence.
type feed struct {
	cursor  *cursor
	queue   Queue
	finding backOff   // of the place in the log
	findAt  time.Time // not before

	// Under the cursor's mu:
	offset  int64     // behind the last message handed over; unfound
	places  int       // how often the place was found or given up: answers to questions of before do not count
	lost    bool      // it is unfound, and will be for a while
	blocked time.Time // the log is in error: do not fetch before
	through time.Time // when the fetch was sent that brought the last message
	asked   int64     // from where on the newest fetch was
	rate    float64   // messages a second, lately; 0 when unknown
	stray   float64   // messages that the log's end was off from where it was expected, on the average of late
	full    int64     // messages of the last answer, when the log had more; 0 when that was all
	end     int64     // of the log, in the last answer
}

// question is what was asked of a feed's log.
type question struct {
	feed    *feed
	offset  int64
	guessed bool  // there may be nothing at the offset yet
	end     int64 // where the log was expected to end; 0 when nothing was
	places  int
	sent    time.Time
}

// find searches the log for the first message that ends after the position. The
// log may have been reset since an offset was known, so none is ever kept.
func (f *feed) find(ctx context.Context) {
	c := f.cursor
	select {
	case c.finders <- struct{}{}:
		defer func() { <-c.finders }()
	case <-ctx.Done():
		return
	}
	at, err := findOffset(ctx, f.queue, c.log(), c.order.head.Last)
	if err != nil {
		again := f.finding.next()
		f.findAt = c.now().Add(again)
		c.mu.Lock()
		f.lost = again > time.Second
		c.mu.Unlock()
		if ctx.Err() == nil && !errors.Is(err, ErrNoTopic) {
			c.logger.Debug("place in the queue not found", "error", err)
		}
		return
	}
	f.finding.reset()
	c.mu.Lock()
	f.place(at)
	f.lost = false
	c.mu.Unlock()
}

// seek has the place in the log searched again.
func (f *feed) seek() {
	f.cursor.mu.Lock()
	f.place(unfound)
	f.cursor.mu.Unlock()
	f.cursor.signal()
}

// place makes an offset the one to go on from. The cursor's mu is held.
func (f *feed) place(at int64) {
	f.offset, f.rate, f.stray, f.full, f.through = at, 0, 0, 0, time.Time{}
	f.places++
}

func (f *feed) unfound() bool {
	f.cursor.mu.Lock()
	defer f.cursor.mu.Unlock()
	return f.offset == unfound
}

// want returns what to fetch next, at a time. When it wants nothing, soon says
// whether that will change shortly. Before is when the fetch was sent that is
// under way, zero when there is none: it begins behind what that will probably
// bring.
func (f *feed) want(now, before time.Time) (q question, ok, soon bool) {
	c := f.cursor
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.progress.state == StateDiverged, c.progress.state == StateUnreadable:
		return question{}, false, false
	case f.offset == unfound && f.lost:
		return question{}, false, false
	case f.offset == unfound, c.inboxBytes >= inboxBytes, now.Before(f.blocked):
		return question{}, false, true
	}
	q = question{feed: f, offset: f.offset, places: f.places, sent: now}
	if f.rate > 0 {
		q.end = f.expected(now)
	}
	if !before.IsZero() {
		q.offset = f.behind(before)
		q.guessed = q.offset > f.offset
	}
	f.asked = q.offset
	return q, true, false
}

// expected returns where the log will probably end when a fetch arrives there that
// was sent at a time.
func (f *feed) expected(sent time.Time) int64 {
	return f.offset + int64(f.rate*sent.Sub(f.through).Seconds())
}

// behind returns the offset behind what a fetch that was sent at a time will bring
// at least: where the log is expected to end, less strays of how far that is off
// on the average, which is how TCP keeps its timeout from being too short (RFC
// 6298), and a sixteenth; or, where there is more than one fetch brings, less an eighth. One too
// many, and the answer from there on is of no use.
func (f *feed) behind(sent time.Time) int64 {
	if f.full > 0 {
		return max(f.offset, min(f.end, f.asked+f.full-f.full/8))
	}
	if f.rate == 0 {
		return f.offset
	}
	n := float64(f.expected(sent) - f.offset)
	return f.offset + max(0, int64(n-n/16-strays*f.stray)-1)
}

// hand takes the answer to a question, and returns how many bytes of it were not
// had before; overtook says that older questions are not answered yet. Not done:
// the answer continues one of those, and has to be handed over again behind it.
func (f *feed) hand(q question, got Fetched, overtook bool) (fresh int, done bool) {
	c := f.cursor
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case f.places != q.places: // sought meanwhile
	case q.guessed && errors.Is(got.Err, ErrOffsetOutOfRange):
		f.missed()
	case q.offset > f.offset && overtook:
		return 0, false
	case q.offset > f.offset: // the fetch before it brought less than was expected
		f.missed()
	case got.Err == nil:
		fresh = f.take(q, &got)
		c.signal()
	case errors.Is(got.Err, ErrOffsetOutOfRange): // trimmed, or came back shorter
		f.place(unfound)
		c.signal()
	default:
		f.blocked = c.now().Add(time.Second)
		c.logger.Debug("log not fetched", "error", got.Err)
	}
	return fresh, true
}

// missed notes that the log's end was expected too far. What was asked since then
// began even farther, and says nothing new.
func (f *feed) missed() {
	if f.rate > 0 {
		f.stray = 2*f.stray + 1
	}
	f.rate, f.full = 0, 0
}

// take puts messages that were not had before into the inbox, and returns their
// bytes.
func (f *feed) take(q question, got *Fetched) (bytes int) {
	c := f.cursor
	fresh := got.Messages
	for len(fresh) > 0 && fresh[0].Offset < f.offset {
		fresh = fresh[1:]
	}
	if len(fresh) == 0 {
		return 0
	}
	for _, m := range fresh {
		bytes += len(m.Value)
	}
	c.inboxBytes += bytes
	c.inbox = append(c.inbox, fresh...)
	f.offset = fresh[len(fresh)-1].Offset + 1
	f.full, f.end = 0, got.Bounds.End
	switch {
	case f.offset < got.Bounds.End:
		f.full, f.rate = int64(len(got.Messages)), 0
	case !f.through.IsZero() && q.sent.After(f.through):
		f.learn(float64(len(fresh)), q.sent.Sub(f.through).Seconds(), q.end)
	}
	f.through = q.sent
	return bytes
}

// learn takes how many messages there were in some seconds, and where the log had
// been expected to end.
func (f *feed) learn(n, seconds float64, end int64) {
	if f.rate == 0 {
		f.rate = n / seconds
		f.stray = max(f.stray, math.Sqrt(n)) // of writers that do not know of each other
		return
	}
	f.rate += (n/seconds - f.rate) / 8
	if end > 0 {
		f.stray += (math.Abs(float64(f.offset-end)) - f.stray) / 8
	}
}
