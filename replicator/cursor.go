package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

const (
	// inboxBytes bounds what was fetched and not yet looked at, per stream and
	// partition. Above it the log is left out of the fetch.
	inboxBytes = 2 << 20

	// fetchBytes is asked of one log in one fetch.
	fetchBytes = 1 << 20

	// flushAfter is how far the stored position of a command stream may be
	// behind: a crash repeats the commands of that time.
	flushAfter = 100 * time.Millisecond

	// copyAgain is how soon a copy that has not grown is looked into again: an
	// answer may have failed.
	copyAgain = 10 * time.Second

	// unreadableAgain is how soon the origin's journal is asked again for a batch of
	// a format that is not known: only an upgrade of this region will do, so it costs
	// little, and a fault of the way there mends itself.
	unreadableAgain = 30 * time.Second

	// unfound is the offset of a cursor that has to find its place in the log.
	unfound = -1
)

// cursor replays one stream of one partition of one origin. Its goroutine owns
// order and applier; the fetch loop and the poll of heads hand it things under
// mu.
type cursor struct {
	spot
	replica Replica
	sums    interface {
		Sums(p region.Partition, home region.ID) journal.Watermark
	}
	feeds   []*feed // one per queue group
	peers   Peers
	gate    *gate
	metrics *metrics
	logger  *slog.Logger
	now     func() time.Time
	wake    chan struct{}
	finders chan struct{} // shared by the origin's cursors: each search takes a connection

	mender  mender
	order   *order // nil until the stored position is read
	applier applier
	loading backOff   // of that
	again   time.Time // after a failure: no step before
	asking  backOff   // of the origin's journal
	bound   uint64    // how far the copy of the origin's journal reached when it was last looked into
	boundAt time.Time
	copied  uint64 // oldest sequence kept of the copy, as trimmed last; of the poll of heads

	mu         sync.Mutex
	inbox      []Message
	inboxBytes int
	progress   progress
}

// run replays until ctx ends.
func (c *cursor) run(ctx context.Context) {
	defer c.applier.flush(context.WithoutCancel(ctx))
	defer c.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for c.gate.pass(ctx) {
		c.step(ctx)
		at, ok := c.deadline()
		if ok {
			timer.Reset(at.Sub(c.now()))
		} else {
			timer.Stop()
		}
		select {
		case <-c.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// load begins at the position stored with the data; false when that cannot be
// read now.
func (c *cursor) load(ctx context.Context) bool {
	p, err := c.replica.Position(ctx, c.origin, c.stream, c.partition)
	if err != nil {
		c.stall("position not read", err)
		c.again = c.now().Add(c.loading.next())
		return false
	}
	c.loading.reset()
	c.order = newOrder(journal.StreamHead{Stream: c.stream, Last: p.Seq, Chain: p.Chain}, waitingBytes)
	c.applier.begin(p)
	c.mu.Lock()
	c.progress.begin(p.Seq)
	c.progress.chain = p.Chain
	c.mu.Unlock()
	c.seek()
	return true
}

// step does all there is to do now.
func (c *cursor) step(ctx context.Context) {
	c.mendNow(ctx)
	if c.halted() {
		c.drop()
		return
	}
	if c.now().Before(c.again) {
		return
	}
	c.again = time.Time{}
	if c.order == nil && !c.load(ctx) {
		return
	}
	// What could not be applied goes first, so that no more than it waits.
	if len(c.applier.pending) > 0 && !c.deliver(ctx) {
		return
	}
	c.mu.Lock()
	known := c.progress.known
	c.mu.Unlock()
	c.order.learn(known, c.now())
	for _, f := range c.feeds {
		if f.unfound() && !c.now().Before(f.findAt) {
			f.find(ctx)
		}
	}
	for ctx.Err() == nil && !c.halted() {
		c.read()
		if !c.deliver(ctx) {
			return
		}
		if c.waitsToBeRead() { // applying took its time; what is missing may be here by now
			continue
		}
		at, missing := c.order.due()
		if !missing || c.now().Before(at) {
			return
		}
		c.fill(ctx)
	}
}

// waitsToBeRead says whether the queue has brought something meanwhile.
func (c *cursor) waitsToBeRead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.inbox) > 0
}

// deadline is when step has to run although nothing woke it.
func (c *cursor) deadline() (time.Time, bool) {
	if c.halted() {
		return time.Time{}, false // but for an operator, who wakes it
	}
	if !c.again.IsZero() {
		return c.again, true
	}
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if c.order == nil {
		return c.now(), true
	}
	if t, ok := c.order.due(); ok {
		sooner(t)
	}
	sooner(c.applier.due)
	if t, ok := c.dueMending(); ok {
		sooner(t)
	}
	for _, f := range c.feeds {
		if f.unfound() {
			sooner(f.findAt)
		}
	}
	return at, !at.IsZero()
}

// read gives what was fetched to order.
func (c *cursor) read() {
	c.mu.Lock()
	inbox := c.inbox
	c.inbox, c.inboxBytes = nil, 0
	c.mu.Unlock()
	for _, m := range inbox {
		b, err := decode(c.spot, m)
		if err != nil {
			c.reject(&m, err.Error())
			c.logger.Warn("queue message is not a batch; the origin's journal will be asked", "offset", m.Offset, "key", clip(m.Key), "error", err)
			continue
		}
		switch c.order.offer(b, len(m.Value), c.now()) {
		case duplicate:
			c.metrics.duplicates.WithLabelValues(c.labels()...).Inc()
			c.count(func(p *progress) { p.duplicates++ })
		case broken:
			c.reject(&m, fmt.Sprintf("records %d to %d do not follow %d: altered, or of another history", b.First(), b.Last(), c.order.head.Last))
			c.logger.Warn("queue message does not follow; the origin's journal is asked", "offset", m.Offset, "first", b.First(), "last", b.Last(), "position", c.order.head.Last)
		case overflow:
			c.metrics.rereads.WithLabelValues(c.labels()...).Inc()
			c.logger.Warn("too much came early; reading again", "position", c.order.head.Last)
			c.seek()
			return
		}
	}
}

// deliver applies what is in order. False when it could not and the reason was
// noted; what was taken stays with the applier.
func (c *cursor) deliver(ctx context.Context) bool {
	c.applier.add(c.order.take())
	err := c.applier.apply(ctx)
	switch {
	case err == nil:
		_, missing := c.order.due()
		c.mu.Lock()
		c.progress.reach(c.order.head.Last, missing)
		c.progress.chain = c.order.head.Chain
		c.mu.Unlock()
		return true
	case errors.Is(err, errDiverged):
		c.halt(err)
	case errors.Is(err, errElsewhere):
		c.logger.Warn("the stored position is not where this replay was; starting over from it", "error", err)
		c.order = nil
		c.applier.pending = nil
		c.signal()
	case ctx.Err() == nil:
		c.stall("not applied", err)
		c.again = c.now().Add(c.applier.retry.next())
	}
	return false
}

// fill asks the origin's journal for what follows.
func (c *cursor) fill(ctx context.Context) {
	from := c.order.head.Last + 1
	ask, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	batches, err := c.peers.Journal(ask, c.origin, c.partition, c.stream, from)
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		c.order.postpone(c.now().Add(c.asking.next()))
		switch region.KindOf(err) {
		case region.Unsupported:
			c.unreadable(from, err)
		case region.NotFound:
			c.note(StateBootstrap, "the origin has trimmed its journal past "+u64(from)+"; waiting for the queue, or for a bootstrap")
			c.want("the origin has trimmed its journal past " + u64(from))
		default:
			c.stall("gap at "+u64(from)+" not filled", err)
		}
		return
	}
	if len(batches) == 0 {
		c.order.nothing()
		c.asking.reset()
		c.mu.Lock()
		c.progress.known = min(c.progress.known, c.order.head.Last)
		c.progress.reach(c.order.head.Last, false)
		c.mu.Unlock()
		return
	}
	got := 0
	for _, b := range batches {
		switch c.order.offer(b, journal.MaxEncoded, c.now()) {
		case taken:
			got++
		case broken, waits, overflow:
			if !c.deliver(ctx) {
				return // what came before it goes first
			}
			c.halt(divergedf("the journal of %s has %d to %d after %d, which does not follow what was applied here up to %d",
				c.origin, b.First(), b.Last(), b.Links[0].Prev, c.order.head.Last))
			return
		case duplicate:
		}
	}
	if got == 0 {
		c.order.postpone(c.now().Add(c.asking.next()))
		return
	}
	c.asking.reset()
	c.readable()
	c.metrics.fills.WithLabelValues(c.labels()...).Inc()
	c.count(func(p *progress) { p.gapFills++ })
	c.logger.Info("gap filled from the origin's journal", "from", from, "batches", got)
}

// seek drops what was fetched and has the place in every log searched again.
func (c *cursor) seek() {
	c.mu.Lock()
	for _, f := range c.feeds {
		f.place(unfound)
	}
	c.inbox, c.inboxBytes = nil, 0
	c.mu.Unlock()
	c.signal()
}

func (c *cursor) drop() {
	c.mu.Lock()
	c.inbox, c.inboxBytes = nil, 0
	c.mu.Unlock()
}

func (c *cursor) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *cursor) halted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress.state == StateDiverged
}

func (c *cursor) count(f func(*progress)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.progress)
}

// halt stops this stream of this partition for good.
func (c *cursor) halt(err error) {
	c.note(StateDiverged, err.Error())
	c.metrics.halted.WithLabelValues(c.labels()...).Inc()
	c.logger.Error("replay halted: the histories differ", "error", err)
}

// unreadable leaves the stream alone for a while: neither the queue nor the journal
// has anything to go on with.
func (c *cursor) unreadable(from uint64, err error) {
	c.metrics.unreadable.WithLabelValues(c.labels()...).Inc()
	if c.note(StateUnreadable, "after "+u64(from-1)+": "+err.Error()) {
		c.logger.Error("replay waits for an upgrade of this region; nothing is lost, and it goes on by itself then", "position", from-1, "error", err)
	}
	c.order.forget()
	c.drop()
	c.again = c.now().Add(unreadableAgain)
}

// readable ends that.
func (c *cursor) readable() {
	c.mu.Lock()
	was := c.progress.state == StateUnreadable
	if was {
		c.progress.state, c.progress.reason = StateLive, ""
	}
	c.mu.Unlock()
	if was {
		c.seek()
	}
}

// stall notes why there is no progress; the same reason is logged once.
func (c *cursor) stall(what string, err error) {
	if c.note(StateStalled, what+": "+err.Error()) {
		c.logger.Warn("replay stalled", "what", what, "error", err)
	}
}

// note sets state and reason, and says whether the state is a new one.
func (c *cursor) note(s State, reason string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	is := c.progress.state != s
	c.progress.state, c.progress.reason = s, reason
	return is
}

func (c *cursor) labels() []string { return []string{string(c.origin), string(c.stream)} }

// learn takes where the origin's journal stood when it was asked at sent;
// before is what [cursor.mark] said just then.
func (c *cursor) learn(sent time.Time, before journal.StreamHead, h *Head) {
	last := h.Last(c.stream)
	if len(h.Streams) == 1 && h.Next == 0 { // a copy: of other streams it tells a bound
		c.learnCopy(sent, before.Last, h.Last(journal.Full))
		return
	}
	c.mu.Lock()
	goes := c.progress.state != StateDiverged
	behind := c.progress.learn(sent, before.Last, last)
	c.mu.Unlock()
	switch {
	case goes && last < before.Last:
		c.halt(divergedf("this replica is at %d, but the journal of %s ends at %d: the origin was restored from an older copy", before.Last, c.origin, last))
	case goes && h.parted(before):
		c.halt(divergedf("this replica and the journal of %s end at %d with different histories: the origin was restored from an older copy, and has written on", c.origin, last))
	}
	if behind {
		c.signal()
	}
	c.learnTaken(before, h)
}

// learnCopy takes how far the copy of a region that is gone reaches. This replica
// may be ahead of it. Every bound is looked into once: it says that there may be
// something, and the answer says whether there is.
func (c *cursor) learnCopy(sent time.Time, before, last uint64) {
	if c.stream == journal.Full || last <= before || last == c.bound && sent.Before(c.boundAt.Add(copyAgain)) {
		return
	}
	c.bound, c.boundAt = last, sent
	c.mu.Lock()
	c.progress.known = last
	c.mu.Unlock()
	c.signal()
}

// mark returns how far the replay has come.
func (c *cursor) mark() journal.StreamHead {
	c.mu.Lock()
	defer c.mu.Unlock()
	return journal.StreamHead{Stream: c.stream, Last: c.progress.applied, Chain: c.progress.chain}
}

// findOffset returns the offset of the first message whose key ends after seq.
// It gallops back from the end, where a reader usually is, and then searches by
// halves: over an ocean every look is a long round trip. Keys need not ascend (a
// shipper that restarted repeats some), but they never skip forward: what is not
// found from there on is about to be repeated.
func findOffset(ctx context.Context, q Queue, log TopicPartition, seq uint64) (int64, error) {
	bounds, err := q.Bounds(ctx, log)
	if err != nil {
		return 0, err
	}
	lo, hi := bounds.Start, bounds.End // the offset is in lo to hi
	for back := int64(1); lo < hi; back *= 4 {
		mid := lo + (hi-lo)/2
		if gallop := bounds.End - back; gallop > mid {
			mid = gallop
		}
		messages, err := look(ctx, q, log, mid)
		if err != nil {
			return 0, err
		}
		at := slices.IndexFunc(messages, func(m Message) bool {
			last, ok := lastOf(m.Key)
			return ok && last > seq
		})
		switch {
		case at < 0:
			lo = messages[len(messages)-1].Offset + 1
		case messages[at].Offset == mid:
			hi = mid
		default:
			return messages[at].Offset, nil // the one before it ends at or before seq
		}
	}
	return lo, nil
}

// look returns the message at an offset, and those that came in one request with
// it.
func look(ctx context.Context, q Queue, log TopicPartition, offset int64) ([]Message, error) {
	got, err := q.Fetch(ctx, []FetchAt{{TopicPartition: log, Offset: offset, MaxBytes: 1}}, 0)
	switch {
	case err != nil:
		return nil, err
	case len(got) != 1:
		return nil, errors.New("the broker left the log out of its answer")
	case got[0].Err != nil:
		return nil, got[0].Err
	case len(got[0].Messages) == 0:
		return nil, errors.New("the broker gave no message where its log has one")
	}
	return got[0].Messages, nil
}
