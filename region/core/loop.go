package core

import (
	"context"
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
}

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
			delete(l.cursors, r.ID) // when it comes back, from what is stored
			continue
		}
		if err := l.drain(ctx, r.ID); err != nil {
			return err
		}
	}
	return l.save(ctx, false)
}

// drain executes a stream to its end, or to an error.
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
		if err := l.c.Execute(ctx, batches); err != nil {
			return err
		}
		b := batches[len(batches)-1]
		p := journal.Position{Origin: l.c.o.Self, Stream: stream, Partition: l.partition, Incarnation: b.Incarnation, Seq: b.Last(), UnixMilli: b.UnixMilli}
		for _, link := range b.Links {
			if link.Stream == stream {
				p.Chain = link.Chain
			}
		}
		k.done, k.from = p, p.Seq+1
		if k.dirty.IsZero() {
			k.dirty = l.c.o.Clock()
		}
	}
	return ctx.Err()
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
