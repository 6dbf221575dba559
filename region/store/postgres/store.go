package postgres

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/lib/pq"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Store is the engine. It implements store.Store.
type Store struct {
	options Options
	metrics *metrics
	shards  []*shard
	parts   []*part

	failed  atomic.Pointer[region.Error] // why the store is read-only; nil while it is not
	closing chan struct{}

	readMu  sync.RWMutex // held by readers, so that Close waits for them
	closed  bool
	once    sync.Once
	closeIt error

	beforeCommit func() // of tests: the moment before a COMMIT is sent
}

var _ store.Store = (*Store)(nil)

// part is one partition.
type part struct {
	id    region.Partition
	shard *shard
	index int // among the shard's

	durable atomic.Pointer[durable]

	changedMu sync.Mutex
	changed   chan struct{}
}

// durable is a partition's state as of its last group. It is never changed.
type durable struct {
	state *partition.State
	group string
}

// publish makes a state the durable one, and wakes who waits for records.
func (p *part) publish(v *durable) {
	grew := v.state.Next > p.durable.Load().state.Next
	p.durable.Store(v)
	if !grew {
		return
	}
	p.changedMu.Lock()
	close(p.changed)
	p.changed = make(chan struct{})
	p.changedMu.Unlock()
}

// Open opens the store of one or several databases, and makes its tables when
// there are none. It takes the databases from a process that has lost its
// connections, not from one that has them.
//
// Errors: region.Unavailable when a database cannot be reached or another
// process has it; region.BadInput when it is another region's, has another
// number of partitions, or does not sync to disk; region.Unsupported for a
// newer layout; region.Internal for everything else.
func Open(options Options) (*Store, error) {
	s, all, err := newStore(options)
	if err != nil {
		return nil, err
	}
	for i, d := range s.shards {
		if err := d.open(all); err != nil {
			close(s.closing)
			for _, d := range s.shards[:i+1] {
				if d.session != nil {
					d.session.unlock()
					d.session.close()
				}
			}
			for _, d := range s.shards {
				_ = d.reader.Close()
			}
			return nil, err
		}
	}
	for _, d := range s.shards {
		go d.loop()
	}
	return s, nil
}

// newStore makes a store that is connected to nothing yet, and reads the
// migrations.
func newStore(options Options) (*Store, []migration, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	all, err := load(migrations)
	if err != nil {
		return nil, nil, err
	}
	s := &Store{options: o, metrics: newMetrics(o.Registry), closing: make(chan struct{})}
	for i, dsn := range o.DSNs {
		c, err := config(dsn)
		if err != nil {
			return nil, nil, err
		}
		connector, err := pq.NewConnectorConfig(c)
		if err != nil {
			return nil, nil, region.Errorf(region.BadInput, "the DSN of database %d cannot be used", i).WithCause(err)
		}
		d := &shard{store: s, number: i, config: c, wake: make(chan struct{}, 1), done: make(chan struct{}), reader: sql.OpenDB(connector)}
		d.reader.SetMaxOpenConns(o.Readers)
		d.reader.SetMaxIdleConns(o.Readers)
		d.reader.SetConnMaxLifetime(readerLife)
		s.shards = append(s.shards, d)
	}
	for i := range o.Partitions {
		d := s.shards[i%len(s.shards)]
		p := &part{id: region.Partition(i), shard: d, index: len(d.parts), changed: make(chan struct{})}
		d.parts = append(d.parts, p)
		s.parts = append(s.parts, p)
	}
	return s, all, nil
}

// Region returns the region the databases belong to.
func (s *Store) Region() region.ID { return s.options.Region }

// Partitions returns the number of partitions.
func (s *Store) Partitions() int { return s.options.Partitions }

func (s *Store) part(p region.Partition) (*part, error) {
	if int(p) >= len(s.parts) {
		return nil, region.Errorf(region.BadInput, "partition %d, but there are %d", p, len(s.parts))
	}
	return s.parts[p], nil
}

func errClosed() *region.Error { return region.Errorf(region.Unavailable, "the store is closed") }

// fail makes the store read-only for good, and returns why it is.
func (s *Store) fail(e *region.Error) *region.Error {
	if s.failed.CompareAndSwap(nil, e) {
		s.options.Logger.Error("store is read-only", "error", e)
		s.metrics.Failures.Inc()
	}
	return s.failed.Load()
}

// Writable says why commits are refused now, or nil: see store.Store.
func (s *Store) Writable() error {
	if e := s.failed.Load(); e != nil {
		return e
	}
	for _, d := range s.shards {
		if err := d.writable(); err != nil {
			return err
		}
	}
	return nil
}

// Close refuses new work, waits for commits under way, and closes the
// connections. It gives up on a database that is not there. Calling it again
// returns the same error.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		for _, d := range s.shards {
			d.close()
		}
		s.readMu.Lock()
		s.closed = true
		s.readMu.Unlock()
		for _, d := range s.shards {
			s.closeIt = errors.Join(s.closeIt, d.reader.Close())
		}
	})
	return s.closeIt
}

// Commit makes the batch durable together with its journal records: see
// store.Store.
func (s *Store) Commit(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return store.Receipt{}, err
	}
	if err := b.Validate(); err != nil {
		return store.Receipt{}, err
	}
	b = clone(b)
	o := &op{ctx: ctx, part: s.parts[region.PartitionOf(b.Owner, len(s.parts))], keys: keysOf(b)}
	for i := range b.Writes {
		o.size += len(b.Writes[i].Row) + len(b.Writes[i].Value)
	}
	for i := range b.Commands {
		o.size += len(b.Commands[i].Payload)
	}
	var receipt store.Receipt
	o.eval = func(step *step) (err error) {
		receipt, err = step.Commit(b)
		return err
	}
	if err := s.do(o); err != nil {
		s.metrics.Refused(err)
		return store.Receipt{}, err
	}
	s.metrics.Commits.Inc()
	return receipt, nil
}

// do submits an operation on a partition and waits for it.
func (s *Store) do(o *op) error {
	o.done = make(chan struct{})
	if err := o.part.shard.submit(o); err != nil {
		return err
	}
	return o.wait()
}

// Apply replays batches of a foreign stream and moves its position, in one
// transaction: see store.Store.
func (s *Store) Apply(ctx context.Context, name journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	if err := ctx.Err(); err != nil {
		return store.Applied{}, err
	}
	if err := store.ValidateApply(s.options.Region, len(s.parts), name, batches); err != nil {
		return store.Applied{}, err
	}
	o := &op{ctx: ctx, part: s.parts[batches[0].Partition], keys: replayKeys(batches)}
	for _, b := range batches {
		for i := range b.Records {
			if w := b.Records[i].Row; w != nil {
				o.size += len(w.Row) + len(w.Value)
			}
		}
	}
	var report store.Applied
	o.eval = func(step *step) (err error) {
		report, err = step.Apply(name, batches)
		return err
	}
	if err := s.do(o); err != nil {
		return store.Applied{}, err
	}
	s.metrics.Mismatches.Add(float64(len(report.Mismatches)))
	return report, nil
}

// Mend changes a partition's replica of one origin: see store.Mender.
func (s *Store) Mend(ctx context.Context, id region.Partition, m *store.Mending) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.ValidateMending(s.options.Region, len(s.parts), id, m); err != nil {
		return err
	}
	o := &op{ctx: ctx, part: s.parts[id], keys: mendKeys(m), eval: func(step *step) error { return step.Mend(m) }}
	for i := range m.Rows {
		o.size += len(m.Rows[i].Row.Row) + len(m.Rows[i].Value)
	}
	return s.do(o)
}

// SetPosition moves the position of a command stream: see store.Store.
func (s *Store) SetPosition(ctx context.Context, at journal.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.ValidatePosition(len(s.parts), at); err != nil {
		return err
	}
	return s.do(&op{ctx: ctx, part: s.parts[at.Partition], eval: func(step *step) error {
		_, err := step.SetPosition(at)
		return err
	}})
}

// Watermark appends the sums of the homes whose rows this region changed since
// their last watermark, in one batch: see store.Store.
func (s *Store) Watermark(ctx context.Context, id region.Partition) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p, err := s.part(id)
	if err != nil {
		return 0, err
	}
	n := 0
	err = s.do(&op{ctx: ctx, part: p, eval: func(step *step) (err error) {
		n, err = step.Watermark()
		return err
	}})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Fence refuses commits for the home at older terms: see store.Store. It is in
// every partition's row, so it takes one transaction in each database; when one
// of them fails, the others are fenced, and repeating the call completes it.
func (s *Store) Fence(ctx context.Context, home region.ID, t region.Term) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := home.Valid(); err != nil {
		return region.Errorf(region.BadInput, "fence: %v", err)
	}
	var ops []*op
	var err error
	for _, d := range s.shards {
		o := &op{ctx: ctx, done: make(chan struct{}), eval: func(step *step) error {
			step.Fence(home, t)
			return nil
		}}
		if e := d.submit(o); e != nil {
			err = errors.Join(err, e)
			continue
		}
		ops = append(ops, o)
	}
	for _, o := range ops {
		err = errors.Join(err, o.wait())
	}
	return err
}

// trimPiece is how many batches one statement deletes.
const trimPiece = 5000

// Trim forgets whole batches before a sequence: see store.Store. They are gone
// once the partition's row says so; deleting them follows, in pieces, and goes
// on with the next Trim when it is interrupted.
func (s *Store) Trim(ctx context.Context, id region.Partition, before uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := s.part(id)
	if err != nil {
		return err
	}
	next := p.durable.Load().state.Next
	cut := min(before, next)
	if cut < next {
		if cut, err = s.beginning(ctx, p, cut); err != nil {
			return err
		}
	}
	if cut <= p.durable.Load().state.First {
		return s.open()
	}
	err = s.do(&op{ctx: ctx, part: p, eval: func(step *step) error {
		step.Trim(cut)
		return nil
	}})
	for err == nil {
		var n int64
		n, err = s.deletePiece(ctx, p)
		if n < trimPiece {
			break
		}
	}
	return err
}
