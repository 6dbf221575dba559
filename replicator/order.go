package replicator

import (
	"time"

	"github.com/homing-im/homing/region/journal"
)

const (
	// patience is how long a gap may stay before the origin's journal is asked.
	// Below the time a queue takes to deliver, every message would be asked for
	// twice; far above it, a lost message delays its partition for nothing.
	patience = 250 * time.Millisecond

	// tailPatience is how long it may stay when nothing but the origin's word shows
	// it: the queue has probably not brought the newest records yet, and over an
	// ocean, or on a busy machine, it takes longer to do so than to be asked.
	tailPatience = time.Second

	// waitingBytes bounds what waits for a gap to close, per stream and
	// partition, in encoded bytes. When it is exceeded all of it is dropped and
	// read again, so that a flood cannot take the memory.
	waitingBytes = 4 << 20
)

// verdict is what order made of a batch.
type verdict uint8

const (
	taken     verdict = iota + 1 // it was next
	waits                        // it came early and is kept
	duplicate                    // it, or all of it, was had before
	broken                       // it does not belong into this history, and was dropped
	overflow                     // it came early, and everything that waited was dropped with it
)

// order restores the order of one stream of one partition: a pure step machine
// that reads no clock and does no I/O.
//
// Invariants:
//  1. What take returns are batches that follow each other and the head given
//     to newOrder, without gap, each exactly once, chain checked.
//  2. What waits is at most limit bytes, and never follows head.
//  3. gap is zero exactly when nothing shows that a record is missing.
type order struct {
	head  journal.StreamHead // behind the last batch taken
	ready []*journal.Batch   // taken, to be applied
	limit int                // bytes that may wait

	waiting map[uint64]waiter // by predecessor
	bytes   int               // of waiting

	known   uint64    // highest sequence of the stream that the origin is known to have
	gap     time.Time // since when something has been missing
	suspect bool      // a batch was broken: do not wait for the queue to mend it
	hold    time.Time // ask the origin's journal no earlier
}

type waiter struct {
	batch *journal.Batch
	size  int
}

func newOrder(head journal.StreamHead, limit int) *order {
	return &order{head: head, limit: limit, waiting: make(map[uint64]waiter)}
}

// offer gives the machine a batch, wherever it came from; size is its encoded
// length.
func (o *order) offer(b *journal.Batch, size int, now time.Time) verdict {
	prev := b.Links[0].Prev
	switch {
	case b.Last() <= o.head.Last:
		return duplicate
	case prev > o.head.Last:
		return o.keep(b, prev, size, now)
	}
	next, err := journal.Follow(o.head, b)
	if err != nil { // altered, another history, or other batch boundaries
		o.suspect = true
		o.evidence(now)
		return broken
	}
	o.advance(b, next)
	for {
		w, ok := o.waiting[o.head.Last]
		if !ok {
			break
		}
		delete(o.waiting, o.head.Last)
		o.bytes -= w.size
		next, err := journal.Follow(o.head, w.batch)
		if err != nil {
			o.suspect = true
			break
		}
		o.advance(w.batch, next)
	}
	o.prune()
	o.evidence(now)
	return taken
}

func (o *order) advance(b *journal.Batch, next journal.StreamHead) {
	o.head = next
	o.ready = append(o.ready, b)
	o.gap, o.hold, o.suspect = time.Time{}, time.Time{}, false
}

func (o *order) keep(b *journal.Batch, prev uint64, size int, now time.Time) verdict {
	if _, ok := o.waiting[prev]; ok {
		return duplicate
	}
	if o.bytes+size > o.limit {
		clear(o.waiting)
		o.bytes = 0
		o.suspect = true
		o.evidence(now)
		return overflow
	}
	o.waiting[prev] = waiter{b, size}
	o.bytes += size
	o.evidence(now)
	return waits
}

// prune drops what waits for predecessors that can no longer come.
func (o *order) prune() {
	for prev, w := range o.waiting {
		if prev < o.head.Last {
			delete(o.waiting, prev)
			o.bytes -= w.size
		}
	}
}

// learn tells the machine how far the origin's stream is known to reach.
func (o *order) learn(last uint64, now time.Time) {
	o.known = max(o.known, last)
	o.evidence(now)
}

// evidence starts or ends the gap (invariant 3).
func (o *order) evidence(now time.Time) {
	missing := o.suspect || len(o.waiting) > 0 || o.known > o.head.Last
	switch {
	case !missing:
		o.gap = time.Time{}
	case o.gap.IsZero():
		o.gap = now
	}
}

// due returns when the origin's journal has to be asked for what follows head;
// false when nothing is missing.
func (o *order) due() (time.Time, bool) {
	if o.gap.IsZero() {
		return time.Time{}, false
	}
	at := o.gap
	switch {
	case o.suspect:
	case len(o.waiting) > 0:
		at = at.Add(patience)
	default:
		at = at.Add(tailPatience)
	}
	if at.Before(o.hold) {
		at = o.hold
	}
	return at, true
}

// nothing tells the machine that the origin's journal has nothing behind head.
// The journal is written before the queue, so whatever waits was never the
// origin's.
func (o *order) nothing() {
	clear(o.waiting)
	o.bytes = 0
	o.known, o.suspect = o.head.Last, false
	o.gap, o.hold = time.Time{}, time.Time{}
}

// forget drops what waits: what it follows does not come for a long time.
func (o *order) forget() {
	clear(o.waiting)
	o.bytes = 0
}

// postpone puts off asking, after it failed or found nothing.
func (o *order) postpone(until time.Time) { o.hold = until }

// take returns the batches to apply next and
// forgets them.
func (o *order) take() []*journal.Batch {
	run := o.ready
	o.ready = nil
	return run
}
