package core

import (
	"context"
	"errors"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

const (
	// roundBytes is about how much of the journal is executed between two looks
	// at the world, in bytes.
	roundBytes = 1 << 20
	// positionDelay is how long an executed position may stay in memory. It is
	// only a hint where to start again: what is executed twice has no effect
	// the second time. Writing it with every round would double the fsyncs.
	positionDelay = 200 * time.Millisecond
	// worldDelay is how often the world is looked at when nobody tells.
	worldDelay = time.Second
	retryFirst = 20 * time.Millisecond
	retryLast  = 2 * time.Second
)

// commandLoop executes, for one partition, the commands of this region's own
// journal whose targets this region acts for; those for other regions cross by
// the replicator. It is one goroutine, woken by the journal and by the world.
type commandLoop struct {
	c         *Core
	store     store.Store
	partition region.Partition
	cursors   map[region.ID]*cursor
	retry     time.Duration // of the streak of errors; 0 after a success
}

// cursor is how far the stream to one home was executed.
type cursor struct {
	from  uint64 // where to read on: everything before it was executed or is not in the stream
	done  journal.Position
	dirty time.Time // when done first differed from what is stored; zero when it does not

	flying []*round // launched and not finished, in order
}

// round is a piece of the stream under way.
type round struct {
	*execution
	end journal.Position
}

// maxFlying bounds the rounds of a stream under way, and so, with roundBytes, their
// memory.
const maxFlying = 8

func newCommandLoop(c *Core, s store.Store, p region.Partition) *commandLoop {
	return &commandLoop{c: c, store: s, partition: p, cursors: map[region.ID]*cursor{}}
}

func (l *commandLoop) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		grown := l.store.Changed(l.partition)
		var world <-chan struct{}
		if l.c.o.Changed != nil {
			world = l.c.o.Changed()
		}
		err := l.round(ctx)
		if ctx.Err() != nil {
			break
		}
		l.c.m.loop.WithLabelValues(outcome(err)).Inc()
		timer.Reset(l.pause(err))
		select {
		case <-ctx.Done():
		case <-grown:
			if err != nil { // the journal grows all the time; the cause has to pass
				select {
				case <-ctx.Done():
				case <-timer.C:
				case <-world:
				}
			}
		case <-l.landed():
		case <-world:
		case <-timer.C:
		}
		if ctx.Err() != nil {
			break
		}
	}
	// The last positions, so that the next start has little to repeat.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	for _, k := range l.cursors {
		_ = l.settle(closing, k, 0) // what it did not learn is executed again
	}
	if err := l.save(closing, true); err != nil {
		l.c.log.Info("positions of executed commands not saved; they are executed again", "partition", l.partition, "error", err)
	}
}

// pause says how long to wait when nothing happens.
func (l *commandLoop) pause(err error) time.Duration {
	if err != nil {
		if l.retry == 0 {
			l.retry = retryFirst
			l.c.log.Warn("executing this region's own commands is held up", "partition", l.partition, "error", err)
		} else {
			l.retry = min(2*l.retry, retryLast)
		}
		return l.retry
	}
	l.retry = 0
	wait := worldDelay
	for _, k := range l.cursors {
		if !k.dirty.IsZero() {
			wait = min(wait, max(0, positionDelay-l.c.o.Clock().Sub(k.dirty)))
		}
	}
	return wait
}

// round executes what there is for every home this region acts for now.
func (l *commandLoop) round(ctx context.Context) error {
	v := l.c.o.View()
	if v == nil {
		return nil
	}
	for _, r := range v.World.Regions {
		if acting, _, ok := v.Acting(r.ID); !ok || acting != l.c.o.Self {
			if k := l.cursors[r.ID]; k != nil {
				_ = l.settle(ctx, k, 0)
			}
			delete(l.cursors, r.ID) // when it comes back, from what is stored
			continue
		}
		if err := l.drain(ctx, r.ID); err != nil {
			return err
		}
	}
	return l.save(ctx, false)
}

// landed is ready when a round under way has ended; nil when none is.
func (l *commandLoop) landed() <-chan struct{} {
	for _, k := range l.cursors {
		if len(k.flying) > 0 {
			return k.flying[0].ended()
		}
	}
	return nil
}

// drain launches what a stream has, and finishes what has landed.
func (l *commandLoop) drain(ctx context.Context, home region.ID) error {
	s := l.store
	stream := journal.StreamTo(home)
	k := l.cursors[home]
	if k == nil {
		p, err := s.Position(ctx, l.c.o.Self, stream, l.partition)
		if err != nil {
			return err
		}
		k = &cursor{from: p.Seq + 1, done: p}
		l.cursors[home] = k
	}
	for ctx.Err() == nil {
		if err := l.settle(ctx, k, maxFlying-1); err != nil {
			return err
		}
		// The head tells cheaply that there is nothing, without reading over
		// other streams' records every time the journal grows.
		h := s.Head(l.partition)
		last := uint64(0)
		for _, sh := range h.Streams {
			if sh.Stream == stream {
				last = sh.Last
			}
		}
		if last < k.from {
			k.from = max(k.from, h.Next)
			return nil
		}
		if k.from < h.First {
			// Commands are trimmed only when everybody who needs them is done.
			l.c.log.Info("the journal begins later than this stream was executed to", "partition", l.partition, "home", home, "from", k.from, "first", h.First)
			k.from = h.First
		}
		batches, err := s.Journal(ctx, l.partition, stream, k.from, roundBytes)
		if err != nil || len(batches) == 0 {
			return err
		}
		e, err := l.c.launch(ctx, batches)
		if err != nil {
			return errors.Join(err, l.settle(ctx, k, 0))
		}
		p := l.position(stream, batches[len(batches)-1])
		k.flying, k.from = append(k.flying, &round{e, p}), p.Seq+1
		if !e.whole() { // what follows could overtake it
			if err := l.settle(ctx, k, 0); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// position is the place behind a batch of a stream.
func (l *commandLoop) position(stream journal.Stream, b *journal.Batch) journal.Position {
	p := journal.Position{Origin: l.c.o.Self, Stream: stream, Partition: l.partition, Incarnation: b.Incarnation, Seq: b.Last(), UnixMilli: b.UnixMilli}
	for _, link := range b.Links {
		if link.Stream == stream {
			p.Chain = link.Chain
		}
	}
	return p
}

// settle finishes the rounds that have ended, and waits for the oldest until no
// more than some are under way. After an error the stream goes on behind what was
// done.
func (l *commandLoop) settle(ctx context.Context, k *cursor, some int) error {
	for len(k.flying) > 0 {
		r := k.flying[0]
		select {
		case <-r.ended():
		default:
			if len(k.flying) <= some {
				return nil
			}
		}
		if err := r.finish(ctx); err != nil {
			k.flying, k.from = nil, k.done.Seq+1
			return err
		}
		k.flying, k.done = k.flying[1:], r.end
		if k.dirty.IsZero() {
			k.dirty = l.c.o.Clock()
		}
	}
	return nil
}

// save stores the positions that are due, or all.
func (l *commandLoop) save(ctx context.Context, all bool) error {
	for _, k := range l.cursors {
		if k.dirty.IsZero() || !all && l.c.o.Clock().Sub(k.dirty) < positionDelay {
			continue
		}
		if err := l.store.SetPosition(ctx, k.done); err != nil {
			return err
		}
		k.dirty = time.Time{}
	}
	return nil
}
