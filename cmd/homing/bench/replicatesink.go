package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/replicator"
)

// noCommands is where there are none, and nothing changes hands.
type noCommands struct{}

func (noCommands) Execute(context.Context, []*journal.Batch) error {
	return errors.New("there are no commands")
}

func (noCommands) Merge(context.Context, []*journal.Batch) error {
	return errors.New("there is no tail")
}

// nothing is a store that takes what is replayed, in order, and keeps the
// positions only. Its own journal stays empty.
type nothing struct {
	partitions int
	never      chan struct{}

	mu sync.Mutex
	at map[region.Partition]journal.Position // of sh's full stream
}

var _ replicator.Store = (*nothing)(nil)

func newNothing(partitions int) *nothing {
	return &nothing{partitions: partitions, never: make(chan struct{}), at: map[region.Partition]journal.Position{}}
}

func (n *nothing) reached(p region.Partition) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at[p].Seq
}

func (n *nothing) Region() region.ID { return "hk" }
func (n *nothing) Partitions() int   { return n.partitions }

func (n *nothing) Apply(_ context.Context, name journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	last := batches[len(batches)-1]
	n.mu.Lock()
	defer n.mu.Unlock()
	fresh, head, err := store.Plan(n.at[last.Partition], name, batches)
	if err != nil {
		return store.Applied{}, err
	}
	at := journal.Position{Origin: last.Origin, Stream: name, Partition: last.Partition, Incarnation: last.Incarnation, Seq: head.Last, Chain: head.Chain, UnixMilli: last.UnixMilli}
	n.at[last.Partition] = at
	return store.Applied{Batches: len(fresh), Position: at}, nil
}

func (n *nothing) Position(_ context.Context, origin region.ID, name journal.Stream, p region.Partition) (journal.Position, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if origin != "sh" || name != journal.Full {
		return journal.Position{}, nil
	}
	return n.at[p], nil
}

func (n *nothing) Positions(context.Context) ([]journal.Position, error) { return nil, nil }
func (n *nothing) SetPosition(context.Context, journal.Position) error   { return nil }
func (n *nothing) Turns(region.Partition) map[region.ID]store.Turn       { return nil }
func (n *nothing) Head(region.Partition) store.Head {
	return store.Head{Incarnation: 1, First: 1, Next: 1}
}
func (n *nothing) Changed(region.Partition) <-chan struct{}                 { return n.never }
func (n *nothing) Watermark(context.Context, region.Partition) (int, error) { return 0, nil }
func (n *nothing) Trim(context.Context, region.Partition, uint64) error     { return nil }
func (n *nothing) Sums(region.Partition, region.ID) journal.Watermark       { return journal.Watermark{} }

func (n *nothing) Journal(context.Context, region.Partition, journal.Stream, uint64, int) ([]*journal.Batch, error) {
	return nil, nil
}

func (n *nothing) Copy(context.Context, region.ID, region.Partition, journal.Stream, uint64, int) ([]*journal.Batch, error) {
	return nil, nil
}

func (n *nothing) TrimCopy(context.Context, region.ID, region.Partition, uint64) error { return nil }

// lags is a store that notes when what was committed in the other region has been
// applied here.
type lags struct {
	store.Store
	stages *stages

	mu        sync.Mutex
	applied   map[region.Partition]uint64
	waiting   map[region.Partition][]pending // ascending, nearly
	histogram histogram
}

type pending struct {
	seq uint64
	at  time.Time // durable
}

func newLags(s store.Store, st *stages) *lags {
	return &lags{Store: s, stages: st, applied: map[region.Partition]uint64{}, waiting: map[region.Partition][]pending{}}
}

// Apply implements store.Store.
func (l *lags) Apply(ctx context.Context, name journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	start := time.Now()
	done, err := l.Store.Apply(ctx, name, batches)
	l.stages.add(stageApply, start)
	if err != nil {
		return done, err
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := batches[0].Partition
	l.applied[p] = done.Position.Seq
	kept := l.waiting[p][:0]
	for _, w := range l.waiting[p] {
		if w.seq <= done.Position.Seq {
			l.histogram.add(now.Sub(w.at))
			l.stages.applied(p, w, now)
		} else {
			kept = append(kept, w)
		}
	}
	l.waiting[p] = kept
	return done, nil
}

// durable notes a commit of the other region.
func (l *lags) durable(p region.Partition, seq uint64) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.applied[p] >= seq { // faster than this line
		l.histogram.add(0)
		return
	}
	l.waiting[p] = append(l.waiting[p], pending{seq, now})
}

func (l *lags) at(p region.Partition) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.applied[p]; !ok {
		at, err := l.Store.Position(context.Background(), "sh", journal.Full, p)
		if err != nil {
			return 0
		}
		l.applied[p] = at.Seq
	}
	return l.applied[p]
}

// reset forgets what was counted, and who waits to be.
func (l *lags) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.waiting)
	l.histogram = histogram{}
}

func (l *lags) quantile(q float64) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.histogram.quantile(q)
}

func (l *lags) samples() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.histogram.n
}
