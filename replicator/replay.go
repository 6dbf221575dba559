package replicator

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// maxFinding bounds how many cursors of an origin search their place in its
// queue at a time.
const maxFinding = 8

// streamsOf returns the streams of an origin that self has to replay under a
// world: full when self is the origin's first backup, or that of a home that
// the origin acts for, or acts itself for a home that
// the origin may have acted for before; shared otherwise; and the commands for
// every home that self acts for.
func streamsOf(v *region.View, self region.ID, origin *region.Region) []journal.Stream {
	streams := []journal.Stream{journal.Shared}
	if len(origin.Backups) > 0 && origin.Backups[0] == self {
		streams[0] = journal.Full
	}
	for i := range v.World.Regions {
		r := &v.World.Regions[i]
		if r.Acting.Region == origin.ID && slices.Contains(r.Copies(), self) {
			streams[0] = journal.Full
		}
		// The end of the term before, and the tail, are in nothing but stream full.
		before := r.ID == origin.ID || slices.Contains(r.Backups, origin.ID)
		if r.Acting.Region == self && r.Acting.Counter > 1 && before {
			streams[0] = journal.Full
		}
	}
	for _, r := range v.World.Regions {
		if r.Acting.Region == self {
			streams = append(streams, journal.StreamTo(r.ID))
		}
	}
	return streams
}

// need is what has to be replayed of one origin.
type need struct {
	queues  []string // one per queue group
	streams []journal.Stream
}

func (n need) equal(m need) bool {
	return slices.Equal(n.queues, m.queues) && slices.Equal(n.streams, m.streams)
}

// needs returns what self has to replay under a world.
func needs(v *region.View, self region.ID) map[region.ID]need {
	out := make(map[region.ID]need)
	if v == nil {
		return out
	}
	if _, ok := v.World.Region(self); !ok {
		return out
	}
	for i := range v.World.Regions {
		r := &v.World.Regions[i]
		if r.ID != self {
			out[r.ID] = need{r.QueueGroups(), streamsOf(v, self, r)}
		}
	}
	return out
}

// Replay applies the other regions' journals here, as the newest world says.
type Replay struct {
	gate
	options *Options
	peers   Peers
	metrics *metrics
	logger  *slog.Logger
	cancel  context.CancelFunc
	group   sync.WaitGroup
	begin   func(context.Context, *origin) // of an origin that is needed now
	parts   parts
	menders chan struct{} // slots

	mu      sync.Mutex
	origins map[region.ID]*origin
	needs   map[region.ID]need
}

func newReplay(o *Options, peers Peers, parts parts, m *metrics) *Replay {
	return &Replay{options: o, peers: peers, parts: parts, menders: make(chan struct{}, mendersAtOnce), metrics: m, logger: o.Logger.With("part", "replay"),
		begin: func(ctx context.Context, o *origin) { o.run(ctx) }, origins: make(map[region.ID]*origin), needs: make(map[region.ID]need)}
}

func (r *Replay) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.group.Go(func() { r.run(ctx) })
}

// run follows the world.
func (r *Replay) run(ctx context.Context) {
	for {
		changed := r.options.Changed()
		failed := r.follow(ctx, needs(r.options.View(), r.options.Self))
		again := time.NewTimer(backOffMax)
		if !failed {
			again.Stop()
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			r.follow(ctx, nil)
			return
		}
		again.Stop()
	}
}

// follow stops what is no longer needed and starts what is; it says whether
// something could not be started. Only run calls it.
func (r *Replay) follow(ctx context.Context, want map[region.ID]need) (failed bool) {
	for id, had := range r.needs {
		if n, ok := want[id]; ok && n.equal(had) {
			continue
		}
		r.mu.Lock()
		o := r.origins[id]
		delete(r.origins, id)
		r.mu.Unlock()
		delete(r.needs, id)
		o.stop()
	}
	for id, n := range want {
		if _, ok := r.needs[id]; ok {
			continue
		}
		queues, err := openGroups(r.options, id, n.queues)
		if err != nil {
			r.logger.Error("queue not opened", "origin", id, "queues", n.queues, "error", err)
			failed = true
			continue
		}
		o := r.origin(id, n, queues)
		r.mu.Lock()
		r.origins[id] = o
		r.mu.Unlock()
		r.needs[id] = n
		r.begin(ctx, o)
		r.logger.Info("replaying", "origin", id, "queues", n.queues, "streams", n.streams)
	}
	return failed
}

func (r *Replay) origin(id region.ID, n need, queues []Queue) *origin {
	logger := r.logger.With("origin", id)
	o := &origin{id: id, peers: r.peers, copies: r.options.Store, gate: &r.gate, logger: logger, now: r.options.Now, start: r.options.Now()}
	for i, q := range queues {
		o.groups = append(o.groups, &queueGroup{queue: q, gate: &r.gate, now: r.options.Now, logger: logger.With("group", i)})
	}
	finders := make(chan struct{}, maxFinding)
	for _, s := range n.streams {
		for p := range r.options.Store.Partitions() {
			at := spot{origin: id, stream: s, partition: region.Partition(p)}
			log := logger.With("stream", s, "partition", p)
			c := &cursor{
				spot: at, replica: r.options.Store, sums: r.options.Store, peers: r.peers, gate: &r.gate,
				metrics: r.metrics, logger: log, now: r.options.Now, wake: make(chan struct{}, 1), finders: finders,
				mender: mender{replica: r.options.Mend, parts: r.parts, view: r.options.View, slots: r.menders},
			}
			for _, g := range o.groups {
				f := &feed{cursor: c, queue: g.queue, offset: unfound}
				c.feeds, g.feeds = append(c.feeds, f), append(g.feeds, f)
			}
			c.progress.state = StateLive
			c.applier = applier{spot: at, self: r.options.Self, now: r.options.Now, replica: r.options.Store, executor: r.options.Executor, merger: r.options.Merger, metrics: r.metrics, logger: log,
				acts: r.acts, left: func() { c.want("a tail, which another region merges, is missing in the rows here") },
				did: func(batches int, done *store.Applied) {
					c.count(func(p *progress) {
						p.batches += uint64(batches)
						p.mismatches += uint64(len(done.Mismatches))
						p.opaque += uint64(len(done.Opaque))
						switch {
						case p.differs != "":
						case len(done.Mismatches) > 0:
							p.differs = describe(&done.Mismatches[0])
						case len(done.Opaque) > 0:
							p.differs = describeOpaque(&done.Opaque[0])
						}
					})
				}}
			o.cursors = append(o.cursors, c)
		}
	}
	return o
}

// acts says whether this region acts for a home, and the term of whoever does.
func (r *Replay) acts(home region.ID) (bool, region.Term) {
	v := r.options.View()
	if v == nil {
		return false, region.Term{}
	}
	acting, term, _ := v.Acting(home)
	return acting == r.options.Self, term
}

// Lag returns one entry per origin and stream, sorted. It does not block.
func (r *Replay) Lag() []Lag {
	now := r.options.Now()
	r.mu.Lock()
	origins := make([]*origin, 0, len(r.origins))
	for _, o := range r.origins {
		origins = append(origins, o)
	}
	r.mu.Unlock()
	out := []Lag{}
	for _, o := range origins {
		out = append(out, o.lag(now)...)
	}
	sortLags(out)
	return out
}

// close waits until nothing is applied any more.
func (r *Replay) close() {
	r.cancel()
	r.group.Wait()
}
