package replicator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// origin replays all streams that this region needs of another one.
type origin struct {
	id      region.ID
	groups  []*queueGroup
	peers   Peers
	copies  Copies
	gate    *gate
	logger  *slog.Logger
	now     func() time.Time
	start   time.Time
	down    bool // the origin, when it was last asked
	cursors []*cursor

	cancel context.CancelFunc
	group  sync.WaitGroup
}

// run starts the goroutines; stop ends them.
func (o *origin) run(ctx context.Context) {
	ctx, o.cancel = context.WithCancel(ctx)
	for _, c := range o.cursors {
		o.group.Go(func() { c.run(ctx) })
	}
	for _, g := range o.groups {
		o.group.Go(func() { g.fetch(ctx) })
	}
	o.group.Go(func() { o.heads(ctx) })
}

// stop waits for the goroutines and closes the queues.
func (o *origin) stop() {
	if o.cancel != nil {
		o.cancel()
	}
	for _, g := range o.groups {
		_ = g.queue.Close()
	}
	o.group.Wait()
}

func (o *origin) heads(ctx context.Context) {
	for {
		o.ask(ctx)
		if !wait(ctx, headsEvery) {
			return
		}
	}
}

// ask asks once where the origin's journal stands, and tells the cursors.
func (o *origin) ask(ctx context.Context) {
	marks := make([]journal.StreamHead, len(o.cursors))
	for i, c := range o.cursors {
		marks[i] = c.mark()
	}
	sent := o.now()
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	h, err := o.peers.Heads(ask, o.id)
	cancel()
	switch {
	case ctx.Err() != nil:
	case err != nil && !o.down:
		o.down = true
		o.logger.Warn("origin does not answer", "error", err)
	case err == nil:
		if o.down {
			o.down = false
			o.logger.Info("origin answers again")
		}
		for i, c := range o.cursors {
			if int(c.partition) < len(h.Partitions) {
				c.learn(sent, marks[i], &h.Partitions[c.partition])
			}
		}
		o.trimCopies(ctx, h)
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
			l = &Lag{Origin: o.id, Stream: c.stream, Unheard: true}
			byStream[c.stream] = l
			order = append(order, c.stream)
		}
		unproven := c.unprovenHome()
		c.mu.Lock()
		p := &c.progress
		shown := p.show(c.partition, now, o.start, paused)
		if unproven != "" && severity[shown.State] < severity[StateBootstrap] {
			shown.State, shown.Reason = StateBootstrap, "the rows of home "+string(unproven)+" are not all here yet"
		}
		l.add(shown)
		l.Batches += p.batches
		l.Duplicates += p.duplicates
		l.GapFills += p.gapFills
		l.Quarantined += p.quarantined
		l.Mismatches += p.mismatches
		l.Newer += p.opaque
		c.mu.Unlock()
	}
	out := make([]Lag, 0, len(order))
	for _, s := range order {
		out = append(out, *byStream[s])
	}
	return out
}
