package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/mend"
)

// Source is the region's own journal. [store.Store] satisfies it.
type Source interface {
	Region() region.ID
	Partitions() int
	Journal(ctx context.Context, p region.Partition, s journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error)
	Head(p region.Partition) store.Head
	Changed(p region.Partition) <-chan struct{}
}

// Replica is where foreign streams are applied. [store.Store] satisfies it.
type Replica interface {
	Region() region.ID
	Partitions() int
	Apply(ctx context.Context, stream journal.Stream, batches []*journal.Batch) (store.Applied, error)
	SetPosition(ctx context.Context, p journal.Position) error
	Turns(p region.Partition) map[region.ID]store.Turn
	Position(ctx context.Context, origin region.ID, s journal.Stream, p region.Partition) (journal.Position, error)
}

// Store is all the replicator needs of a region's store. [store.Store]
// satisfies it.
type Store interface {
	Source
	Replica
	Positions(ctx context.Context) ([]journal.Position, error)
	Watermark(ctx context.Context, p region.Partition) (int, error)
	Trim(ctx context.Context, p region.Partition, before uint64) error
	Sums(p region.Partition, home region.ID) journal.Watermark
	Copies
}

// Copies are what is kept of other regions' full streams. [store.Store]
// satisfies it.
type Copies interface {
	Copy(ctx context.Context, origin region.ID, p region.Partition, s journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error)
	TrimCopy(ctx context.Context, origin region.ID, p region.Partition, before uint64) error
}

// Executor runs commands of other regions. region/core satisfies it.
type Executor interface {
	// Execute runs the commands of the batches, which are of one stream and
	// partition and in its order. When it returns nil their effects are durable.
	// A command that ran before has no effect again. An error means that some
	// may not have run; all are then given again.
	Execute(ctx context.Context, batches []*journal.Batch) error
}

// Merger takes up what a region acknowledged after this one had taken its home
// over. region/core, joined to the report of it, satisfies it.
type Merger interface {
	// Merge returns nil when every batch has taken effect or is kept as a
	// conflict, durably. Giving them again changes nothing.
	Merge(ctx context.Context, batches []*journal.Batch) error
}

// Options are what a [Replicator] needs. Fields without "optional" are
// required.
type Options struct {
	Self     region.ID
	Store    Store
	Executor Executor
	Merger   Merger

	// Mend is Store once more, as what can be compared and changed row by row.
	// Optional; nil leaves a replica that replay cannot continue as it is, gives
	// other regions no parts, and finds no rows that were changed behind the
	// store's back.
	Mend mend.Replica

	// View returns the newest world, nil when there is none yet; Changed is
	// closed at its next change, and is taken before View. keeper.Keeper has both.
	View    func() *region.View
	Changed func() <-chan struct{}

	// Open opens the queue of a region, whose bootstrap brokers the world gives
	// as host:port (several separated by commas). It must not block. The
	// replicator closes what it opened.
	Open func(of region.ID, brokers string) (Queue, error)

	// Queues are the region's own queue groups, in order of preference: the
	// first is written to, the others are for the day it refuses. Optional; nil
	// are those that the world names. The replicator does not close them.
	Queues []Queue

	// GroupPatience is how long a queue group may refuse before the next one is
	// written to; GroupReturn is how long after that the first is tried again.
	// Optional; 0 is 5 s and a minute.
	GroupPatience, GroupReturn time.Duration

	// Client asks the other regions' admin listeners; its transport signs as
	// this region.
	Client *http.Client

	// Keep is how many records of a partition's journal are kept at least, for
	// those who look at them later. Optional; 0 is 10,000.
	Keep uint64

	// Budget is how many bytes of the journal, of all partitions together, wait for
	// a region that does not come for them. Past it the rows are trimmed, and the
	// region has to begin anew by comparison; what it is asked to do is not, and
	// [Replicator.Budgeted] refuses more of that. Optional; 0 is without bound.
	Budget uint64

	// TrimEvery is how often the journal is trimmed. Optional; 0 is 10 s.
	TrimEvery time.Duration

	// Now is the clock of every deadline. Optional; nil is time.Now.
	Now func() time.Time

	Logger   *slog.Logger          // optional
	Registry prometheus.Registerer // optional
}

func (o *Options) validate() error {
	switch {
	case o.Store == nil:
		return errors.New("replicator: no store")
	case o.Self != o.Store.Region():
		return fmt.Errorf("replicator: this is region %q, the store is of region %q", o.Self, o.Store.Region())
	case o.View == nil || o.Changed == nil:
		return errors.New("replicator: no world")
	case o.Executor == nil:
		return errors.New("replicator: no executor")
	case o.Merger == nil:
		return errors.New("replicator: no merger")
	case o.Open == nil:
		return errors.New("replicator: no way to open queues")
	case o.Client == nil:
		return errors.New("replicator: no client for other regions")
	}
	if o.Keep == 0 {
		o.Keep = 10_000
	}
	if o.TrimEvery == 0 {
		o.TrimEvery = trimEvery
	}
	if o.GroupPatience == 0 {
		o.GroupPatience = groupPatience
	}
	if o.GroupReturn == 0 {
		o.GroupReturn = groupReturn
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Back-off after a failure of a queue or a peer: short enough that a restarted
// broker is not noticed by users, long enough that a dead one costs nothing.
const (
	backOffMin = 50 * time.Millisecond
	backOffMax = 5 * time.Second
)

// backOff doubles from backOffMin to backOffMax.
type backOff struct{ last time.Duration }

func (b *backOff) next() time.Duration {
	b.last = min(max(2*b.last, backOffMin), backOffMax)
	return b.last
}

func (b *backOff) reset() { b.last = 0 }

// wait sleeps, and says whether it slept to the end rather than ctx ending.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
