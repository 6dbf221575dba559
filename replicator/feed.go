package replicator

import (
	"context"
	"errors"
	"math"
	"time"
)

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
	rate    float64   // messages a second between that and the one before it
	full    int64     // messages of the last answer, when the log had more; 0 when that was all
}

// question is what was asked of a feed's log.
type question struct {
	feed   *feed
	offset int64
	places int
	sent   time.Time
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
	f.offset, f.rate, f.full, f.through = at, 0, 0, time.Time{}
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
	case c.progress.state == StateDiverged:
		return question{}, false, false
	case f.offset == unfound && f.lost:
		return question{}, false, false
	case f.offset == unfound, c.inboxBytes >= inboxBytes, now.Before(f.blocked):
		return question{}, false, true
	}
	q = question{f, f.offset, f.places, now}
	if !before.IsZero() {
		q.offset = f.behind(before)
	}
	f.asked = q.offset
	return q, true, false
}

// behind returns the offset behind what a fetch that was sent at a time will bring
// at least: as many messages as the last one, less six standard deviations of
// writers that do not know of each other; or, where there is more than one brings,
// less an eighth. One too many, and the answer from there on is of no use.
func (f *feed) behind(sent time.Time) int64 {
	if f.full > 0 {
		return max(f.offset, f.asked+f.full-f.full/8)
	}
	n := f.rate * sent.Sub(f.through).Seconds()
	return f.offset + max(0, int64(n-6*math.Sqrt(max(n, 0))))
}

// hand takes the answer to a question, and says whether there were messages in it.
func (f *feed) hand(q question, got Fetched) (news bool) {
	c := f.cursor
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case f.places != q.places: // sought meanwhile
		return false
	case q.offset > f.offset: // the fetch before it brought less than was expected
		f.rate, f.full = 0, 0
		return false
	case got.Err == nil:
		f.take(q, &got)
	case errors.Is(got.Err, ErrOffsetOutOfRange): // trimmed, or came back shorter
		f.place(unfound)
	default:
		f.blocked = c.now().Add(time.Second)
		c.logger.Debug("log not fetched", "error", got.Err)
		return false
	}
	c.signal()
	return len(got.Messages) > 0
}

// take puts messages that were not had before into the inbox.
func (f *feed) take(q question, got *Fetched) {
	c := f.cursor
	fresh := got.Messages
	for len(fresh) > 0 && fresh[0].Offset < f.offset {
		fresh = fresh[1:]
	}
	if len(fresh) == 0 {
		return
	}
	for _, m := range fresh {
		c.inboxBytes += len(m.Value)
	}
	c.inbox = append(c.inbox, fresh...)
	f.offset = fresh[len(fresh)-1].Offset + 1
	f.rate, f.full = 0, 0
	switch {
	case f.offset < got.Bounds.End:
		f.full = int64(len(got.Messages))
	case !f.through.IsZero() && q.sent.After(f.through):
		f.rate = float64(len(fresh)) / q.sent.Sub(f.through).Seconds()
	}
	f.through = q.sent
}
