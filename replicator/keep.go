package replicator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

const (
	// watermarkEvery is how long a difference between replicas may go unnoticed
	// under steady writing.
	watermarkEvery = time.Second

	// trimEvery is how often the other regions' positions are asked for.
	trimEvery = 10 * time.Second
)

// keeper writes watermarks into the own journal, trims it, and knows how much of
// it the backup holds.
type keeper struct {
	options *Options
	peers   Peers
	metrics *metrics
	logger  *slog.Logger
	cancel  context.CancelFunc
	group   sync.WaitGroup

	marked []uint64 // per partition: Next when the last watermark was written

	mu     sync.Mutex
	needed map[needKey]uint64 // oldest sequence that somebody has not applied
	held   map[region.Partition]Mark
	holder region.ID // whose marks held are
}

type needKey struct {
	partition region.Partition
	stream    journal.Stream
}

func newKeeper(o *Options, peers Peers, m *metrics) *keeper {
	return &keeper{options: o, peers: peers, metrics: m, logger: o.Logger.With("part", "keeper"),
		marked: make([]uint64, o.Store.Partitions()), needed: make(map[needKey]uint64), held: make(map[region.Partition]Mark)}
}

func (k *keeper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.group.Go(func() { every(ctx, watermarkEvery, k.watermark) })
	k.group.Go(func() { every(ctx, trimEvery, k.trim) })
	k.group.Go(func() { every(ctx, heldEvery, k.hold) })
}

func (k *keeper) close() {
	k.cancel()
	k.group.Wait()
}

func every(ctx context.Context, d time.Duration, f func(context.Context)) {
	for wait(ctx, d) {
		f(ctx)
	}
}

// watermark writes watermarks for the partitions that grew.
func (k *keeper) watermark(ctx context.Context) {
	for p := range k.marked {
		part := region.Partition(p)
		next := k.options.Store.Head(part).Next
		if next == k.marked[p] {
			continue
		}
		n, err := k.options.Store.Watermark(ctx, part)
		if err != nil {
			if ctx.Err() == nil {
				k.logger.Warn("watermark not written", "partition", p, "error", err)
			}
			return
		}
		k.metrics.watermarks.Add(float64(n))
		k.marked[p] = next + uint64(n) // a commit in between makes it differ, and be looked at again
	}
}

// oldest is where shipping a stream begins when the queue is empty: the first
// record that somebody may not have applied.
func (k *keeper) oldest(p region.Partition, s journal.Stream) uint64 {
	k.mu.Lock()
	needed := k.needed[needKey{p, s}]
	k.mu.Unlock()
	return max(needed, k.options.Store.Head(p).First, 1)
}

// trim forgets what everybody who needs it has applied.
func (k *keeper) trim(ctx context.Context) {
	view := k.options.View()
	if view == nil {
		return
	}
	self, ok := view.World.Region(k.options.Self)
	if !ok {
		return
	}
	// Heads come before positions: what is written in between is not trimmed,
	// whatever anybody says.
	heads := make([]Head, k.options.Store.Partitions())
	for p := range heads {
		h := k.options.Store.Head(region.Partition(p))
		heads[p] = Head{First: h.First, Next: h.Next}
		for _, l := range h.Streams {
			heads[p].Streams = append(heads[p].Streams, streamLast(l))
		}
	}
	own, err := k.options.Store.Positions(ctx)
	if err != nil {
		if ctx.Err() == nil {
			k.logger.Warn("journal not trimmed: positions not read", "error", err)
		}
		return
	}
	applied := map[region.ID]*Positions{self.ID: entries(self.ID, own)}
	for _, r := range view.World.Regions {
		if r.ID == self.ID {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		positions, err := k.peers.Positions(ask, r.ID)
		cancel()
		if err != nil {
			return // never trim while one is unknown
		}
		applied[r.ID] = positions
	}
	for p := range heads {
		k.trimPartition(ctx, view, self, region.Partition(p), &heads[p], applied)
	}
}

func (k *keeper) trimPartition(ctx context.Context, view *region.View, self *region.Region, p region.Partition, h *Head, applied map[region.ID]*Positions) {
	before, needed := trimBound(view, self, p, h, applied)
	k.mu.Lock()
	for s, seq := range needed {
		k.needed[needKey{p, s}] = seq
	}
	k.mu.Unlock()
	if h.Next <= k.options.Keep {
		return
	}
	before = min(before, h.Next-k.options.Keep)
	if before <= h.First {
		return
	}
	if err := k.options.Store.Trim(ctx, p, before); err != nil {
		if ctx.Err() == nil {
			k.logger.Warn("journal not trimmed", "partition", p, "before", before, "error", err)
		}
		return
	}
	k.metrics.trimmed.Add(float64(before - h.First))
}

// readBy returns the streams of self's journal that a region reads. Self itself
// runs its commands for homes it acts for, and keeps positions of that too.
func readBy(view *region.View, reader region.ID, self *region.Region) []journal.Stream {
	streams := streamsOf(view, reader, self)
	if reader == self.ID {
		return streams[1:]
	}
	return streams
}

// trimBound returns the sequence before which nobody needs the partition's
// records any more, and per stream the oldest that somebody needs. A region
// that has applied all of a stream does not hold the journal back, however long
// ago the stream's last record was.
func trimBound(view *region.View, self *region.Region, p region.Partition, h *Head, applied map[region.ID]*Positions) (uint64, map[journal.Stream]uint64) {
	before := h.Next
	needed := make(map[journal.Stream]uint64)
	for reader, positions := range applied {
		for _, s := range readBy(view, reader, self) {
			at := positions.of(self.ID, s, p)
			// A command is done when its reader's successor would know that: the
			// reader may be lost with everything its backup has not applied.
			if home, command := s.To(); command {
				if r, ok := view.World.Region(home); ok {
					if backup, ok := r.Backup(); ok && backup != reader && applied[backup] != nil {
						at = min(at, applied[backup].of(self.ID, s, p))
					}
				}
			}
			if seq, ok := needed[s]; !ok || at+1 < seq {
				needed[s] = at + 1
			}
			if h.Last(s) > at {
				before = min(before, at+1)
			}
		}
	}
	return before, needed
}
