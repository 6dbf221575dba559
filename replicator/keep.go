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

	// trimEvery is how often the other regions' positions are asked for, unless the
	// options say otherwise.
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

	meters []meter                  // per partition; of the goroutine that trims
	last   map[region.ID]*Positions // what every region said last; its, too

	mu     sync.Mutex
	needed map[needKey]uint64 // oldest sequence that somebody has not applied
	full   map[region.ID]bool // homes for which more commands wait than the budget allows
	held   map[heldKey]Mark
	holder map[region.ID]region.ID // by home: whose marks held are
}

type needKey struct {
	partition region.Partition
	stream    journal.Stream
}

func newKeeper(o *Options, peers Peers, m *metrics) *keeper {
	return &keeper{options: o, peers: peers, metrics: m, logger: o.Logger.With("part", "keeper"),
		marked: make([]uint64, o.Store.Partitions()), needed: make(map[needKey]uint64), held: make(map[heldKey]Mark), holder: make(map[region.ID]region.ID),
		meters: make([]meter, o.Store.Partitions()), last: make(map[region.ID]*Positions), full: make(map[region.ID]bool)}
}

func (k *keeper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.group.Go(func() { every(ctx, watermarkEvery, k.watermark) })
	k.group.Go(func() { every(ctx, k.options.TrimEvery, k.trim) })
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

// trim forgets what everybody who needs it has applied, and what is past the
// budget of who does not. Nobody waits for a region that the world calls away.
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
		if r.ID == self.ID || r.Away {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		positions, err := k.peers.Positions(ask, r.ID)
		cancel()
		switch {
		case err == nil:
			k.last[r.ID] = positions
		case k.options.Budget == 0:
			return // never trim while one is unknown
		case k.last[r.ID] == nil:
			k.last[r.ID] = &Positions{Region: r.ID} // it may have nothing
		}
		applied[r.ID] = k.last[r.ID]
	}
	over, full := map[region.ID]int{}, map[region.ID]bool{}
	for p := range heads {
		b := &bound{view: view, self: self, partition: region.Partition(p), head: &heads[p], applied: applied}
		b.find()
		if k.options.Budget > 0 && b.before+k.options.Keep < b.head.Next { // somebody holds more than is kept anyway
			m := &k.meters[p]
			if err := m.read(ctx, k.options.Store, b.partition); err != nil {
				if ctx.Err() == nil {
					k.logger.Warn("journal not measured", "partition", p, "error", err)
				}
				return
			}
			b.cut = m.newest(k.options.Budget / uint64(len(heads)))
			b.find()
		}
		for id := range b.over {
			over[id]++
		}
		for id := range b.full {
			full[id] = true
		}
		k.trimPartition(ctx, b)
	}
	k.mu.Lock()
	k.full = full
	k.mu.Unlock()
	k.metrics.overBudget.Reset()
	for id, n := range over {
		k.metrics.overBudget.WithLabelValues(string(id)).Set(float64(n))
		k.logger.Warn("a region is past its budget of the journal: it will have to begin anew", "region", id, "partitions", n)
	}
}

func (k *keeper) trimPartition(ctx context.Context, b *bound) {
	p, h, before := b.partition, b.head, b.before
	k.mu.Lock()
	for s, seq := range b.needed {
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

// bound finds out what of a partition's journal is still needed. A region that
// has applied all of a stream does not hold the journal back, however long ago
// the stream's last record was.
type bound struct {
	view      *region.View
	self      *region.Region
	partition region.Partition
	head      *Head
	applied   map[region.ID]*Positions // of every region that is waited for

	// cut is the oldest sequence within everybody's budget; 0 is without one. Rows
	// before it are nobody's any more; commands are never dropped.
	cut uint64

	before uint64                    // nobody needs what is before it
	needed map[journal.Stream]uint64 // the oldest that somebody needs
	over   map[region.ID]bool        // who has to begin anew because of cut
	full   map[region.ID]bool        // homes of which commands from before cut wait
}

func (b *bound) find() {
	b.before, b.needed, b.over, b.full = b.head.Next, map[journal.Stream]uint64{}, map[region.ID]bool{}, map[region.ID]bool{}
	for reader := range b.applied {
		for _, s := range readBy(b.view, reader, b.self) {
			if _, command := s.To(); !command && b.has(reader, s)+1 < b.cut && b.head.Last(s) > b.has(reader, s) {
				b.over[reader] = true
			}
		}
	}
	for reader := range b.applied {
		for _, s := range readBy(b.view, reader, b.self) {
			at := b.has(reader, s)
			if home, command := s.To(); command {
				at = b.known(reader, home, s)
				if at+1 < b.cut && b.head.Last(s) > at {
					b.full[home] = true
				}
			} else if b.cut > 0 {
				at = max(at, b.cut-1)
			}
			if seq, ok := b.needed[s]; !ok || at+1 < seq {
				b.needed[s] = at + 1
			}
			if b.head.Last(s) > at {
				b.before = min(b.before, at+1)
			}
		}
	}
}

func (b *bound) has(reader region.ID, s journal.Stream) uint64 {
	return b.applied[reader].of(b.self.ID, s, b.partition)
}

// known is up to where the commands for a home are done. A command is done when
// its reader's successor would know that: the reader may be lost with everything
// its backup has not applied. A backup that has to begin anew could not succeed
// it without that being said.
func (b *bound) known(reader, home region.ID, s journal.Stream) uint64 {
	at := b.has(reader, s)
	if r, ok := b.view.World.Region(home); ok {
		if backup, ok := r.Backup(); ok && backup != reader && b.applied[backup] != nil && !b.over[backup] {
			at = min(at, b.has(backup, s))
		}
	}
	return at
}
