package replicator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

const (
	// fetchWait is how long a fetch without news may take. Only an idle queue
	// lets it pass, so it costs nothing to be long.
	fetchWait = 2 * time.Second

	// fetchSoon is the wait while some log is left out of the fetch and wants in
	// shortly.
	fetchSoon = 20 * time.Millisecond

	// reseekAfter is after how many failed fetches all cursors search their place
	// anew. What fails may be one rotten record batch, and fails all logs fetched
	// with it: the journal carries its reader past it, and past it the search
	// lands.
	reseekAfter = 3

	// regroupAfter is how long a fetch loop goes on while some log has no leader.
	regroupAfter = 2 * time.Second
)

// origin replays all streams that this region needs of another one.
type origin struct {
	id      region.ID
	queue   Queue
	peers   Peers
	copies  Copies
	gate    *gate
	logger  *slog.Logger
	start   time.Time
	cursors []*cursor
	failing atomic.Bool // the queue, when it was last asked

	cancel context.CancelFunc
	group  sync.WaitGroup
}

// run starts the goroutines; stop ends them.
func (o *origin) run(ctx context.Context) {
	ctx, o.cancel = context.WithCancel(ctx)
	o.start = time.Now()
	for _, c := range o.cursors {
		o.group.Go(func() { c.run(ctx) })
	}
	o.group.Go(func() { o.fetch(ctx) })
	o.group.Go(func() { o.heads(ctx) })
}

// stop waits for the goroutines and closes the queue.
func (o *origin) stop() {
	o.cancel()
	_ = o.queue.Close()
	o.group.Wait()
}

// fetch keeps one long poll per broker that leads any of the logs.
func (o *origin) fetch(ctx context.Context) {
	logs := make([]TopicPartition, len(o.cursors))
	byLog := make(map[TopicPartition]*cursor, len(o.cursors))
	for i, c := range o.cursors {
		logs[i] = c.log()
		byLog[logs[i]] = c
	}
	var retry backOff
	failures := 0
	for o.gate.pass(ctx) {
		began := time.Now()
		groups, err := o.queue.Groups(ctx, logs)
		if err == nil {
			err = o.poll(ctx, groups, byLog)
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > 2*fetchWait { // it went well for a while
			failures = 0
			retry.reset()
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrRegroup) && !errors.Is(err, ErrNoTopic) {
			if failures++; failures == 1 {
				o.failing.Store(true)
				o.logger.Warn("queue does not answer; the origin's journal is asked instead", "error", err)
			}
			if failures%reseekAfter == 0 {
				for _, c := range o.cursors {
					c.seek()
				}
			}
		}
		if !wait(ctx, retry.next()) {
			return
		}
	}
}

// poll runs one loop per group until one fails or the groups have to be made
// again.
func (o *origin) poll(ctx context.Context, groups [][]TopicPartition, byLog map[TopicPartition]*cursor) error {
	n := 0
	for _, g := range groups {
		n += len(g)
	}
	var until time.Time
	if n < len(byLog) {
		until = time.Now().Add(regroupAfter)
	}
	if n == 0 {
		return ErrNoTopic
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(groups))
	for _, g := range groups {
		cursors := make([]*cursor, len(g))
		for i, l := range g {
			cursors[i] = byLog[l]
		}
		go func() { errs <- o.loop(ctx, cursors, until) }()
	}
	err := <-errs
	cancel()
	for range len(groups) - 1 {
		<-errs
	}
	return err
}

func (o *origin) loop(ctx context.Context, cursors []*cursor, until time.Time) error {
	byLog := make(map[TopicPartition]*cursor, len(cursors))
	asked := make(map[TopicPartition]int64, len(cursors))
	for _, c := range cursors {
		byLog[c.log()] = c
	}
	for until.IsZero() || time.Now().Before(until) {
		if !o.gate.pass(ctx) {
			return ctx.Err()
		}
		patience := fetchWait
		now := time.Now()
		at := make([]FetchAt, 0, len(cursors))
		clear(asked)
		for _, c := range cursors {
			offset, ok, soon := c.want(now)
			if ok {
				at = append(at, FetchAt{TopicPartition: c.log(), Offset: offset, MaxBytes: fetchBytes})
				asked[c.log()] = offset
			} else if soon {
				patience = fetchSoon
			}
		}
		if len(at) == 0 {
			if !wait(ctx, patience) {
				return ctx.Err()
			}
			continue
		}
		got, err := o.queue.Fetch(ctx, at, patience)
		if err != nil {
			return err
		}
		if o.failing.CompareAndSwap(true, false) {
			o.logger.Info("queue is back")
		}
		for _, f := range got {
			if offset, ok := asked[f.TopicPartition]; ok {
				byLog[f.TopicPartition].hand(offset, f)
			}
		}
	}
	return nil
}

// heads asks where the origin's journal stands.
func (o *origin) heads(ctx context.Context) {
	down := false
	marks := make([]journal.StreamHead, len(o.cursors))
	for {
		for i, c := range o.cursors {
			marks[i] = c.mark()
		}
		sent := time.Now()
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		h, err := o.peers.Heads(ask, o.id)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !down:
			down = true
			o.logger.Warn("origin does not answer", "error", err)
		case err == nil:
			if down {
				down = false
				o.logger.Info("origin answers again")
			}
			for i, c := range o.cursors {
				if int(c.partition) < len(h.Partitions) {
					c.learn(sent, marks[i], &h.Partitions[c.partition])
				}
			}
			o.trimCopies(ctx, h)
		}
		if !wait(ctx, headsEvery) {
			return
		}
	}
}

// trimCopies forgets of the origin's copy what the origin itself has forgotten:
// everybody who needs that has applied it. Of an origin that does not answer,
// everything is kept.
func (o *origin) trimCopies(ctx context.Context, h *Heads) {
	if h.Copy {
		return
	}
	for _, c := range o.cursors {
		if c.stream != journal.Full || int(c.partition) >= len(h.Partitions) {
			continue
		}
		first := h.Partitions[c.partition].First
		if first <= c.copied {
			continue
		}
		if err := o.copies.TrimCopy(ctx, o.id, c.partition, first); err != nil {
			if ctx.Err() == nil {
				o.logger.Warn("the copy of the journal is not trimmed", "partition", c.partition, "error", err)
			}
			return
		}
		c.copied = first
	}
}

// lag returns one Lag per stream.
func (o *origin) lag(now time.Time) []Lag {
	byStream := make(map[journal.Stream]*Lag)
	var order []journal.Stream
	paused := o.gate.Paused()
	for _, c := range o.cursors {
		l := byStream[c.stream]
		if l == nil {
			l = &Lag{Origin: o.id, Stream: c.stream}
			byStream[c.stream] = l
			order = append(order, c.stream)
		}
		c.mu.Lock()
		p := &c.progress
		l.add(p.show(c.partition, now, o.start, paused))
		l.Batches += p.batches
		l.Duplicates += p.duplicates
		l.GapFills += p.gapFills
		l.Quarantined += p.quarantined
		l.Mismatches += p.mismatches
		c.mu.Unlock()
	}
	out := make([]Lag, 0, len(order))
	for _, s := range order {
		out = append(out, *byStream[s])
	}
	return out
}
