package replicator

import (
	"context"
	"errors"
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
	offset  int64     // to be fetched next; unfound
	lost    bool      // it is unfound, and will be for a while
	blocked time.Time // the log is in error: do not fetch before
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
	f.offset, f.lost = at, false
	c.mu.Unlock()
}

// seek has the place in the log searched again.
func (f *feed) seek() {
	f.cursor.mu.Lock()
	f.offset = unfound
	f.cursor.mu.Unlock()
	f.cursor.signal()
}

func (f *feed) unfound() bool {
	f.cursor.mu.Lock()
	defer f.cursor.mu.Unlock()
	return f.offset == unfound
}

// want returns the offset to fetch next. When it wants nothing, soon says
// whether that will change shortly.
func (f *feed) want(now time.Time) (offset int64, ok, soon bool) {
	c := f.cursor
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.progress.state == StateDiverged:
		return 0, false, false
	case f.offset == unfound && f.lost:
		return 0, false, false
	case f.offset == unfound, c.inboxBytes >= inboxBytes, now.Before(f.blocked):
		return 0, false, true
	}
	return f.offset, true, false
}

// hand takes the answer to a fetch that was made at an offset.
func (f *feed) hand(at int64, got Fetched) {
	c := f.cursor
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.offset != at {
		return // sought meanwhile
	}
	switch {
	case got.Err == nil:
		for _, m := range got.Messages {
			c.inboxBytes += len(m.Value)
			f.offset = m.Offset + 1
		}
		c.inbox = append(c.inbox, got.Messages...)
	case errors.Is(got.Err, ErrOffsetOutOfRange): // trimmed, or came back shorter
		f.offset = unfound
	default:
		f.blocked = c.now().Add(time.Second)
		c.logger.Debug("log not fetched", "error", got.Err)
		return
	}
	c.signal()
}
