package memory

import (
	"context"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Options of a store. All but Now and Sync are required.
type Options struct {
	Disk       *Disk
	Region     region.ID
	Partitions int
	Now        func() time.Time // time of records; nil is time.Now

	// Sync is asked before the log is synced for somebody who waits; an error is
	// the power cut: the caller is not acknowledged, and the store is lost. It
	// must not call the store. nil: nothing ever happens.
	Sync func() error
}

// Store implements store.Store and store.Submitter.
type Store struct {
	o       Options
	disk    *Disk
	parts   []*part
	changed []chan struct{}
	lost    bool // power, or Close
	closed  bool // with everything synced

	telling sync.Mutex // held while who submitted is told
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Submitter = (*Store)(nil)
)

// Open opens the store of a disk, and makes it when that is empty. It does not
// block.
//
// Errors: region.Unavailable when the disk is open already; region.BadInput when
// it has another number of partitions.
func Open(o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := o.Disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user != nil {
		return nil, region.Errorf(region.Unavailable, "the disk is in use")
	}
	for range o.Partitions {
		if len(d.parts) < o.Partitions {
			d.parts = append(d.parts, newShelf())
		}
	}
	if len(d.parts) != o.Partitions {
		return nil, region.Errorf(region.BadInput, "the disk has %d partitions, not %d", len(d.parts), o.Partitions)
	}
	s := &Store{o: o, disk: d}
	for i := range o.Partitions {
		p := &part{s: s, id: region.Partition(i), ahead: map[key]partition.Row{}}
		p.step = partition.Step{Self: o.Region, Partition: p.id, State: d.parts[i].state.Clone(), Engine: p,
			Now: func() int64 { return o.Now().UnixMilli() }}
		s.parts = append(s.parts, p)
		s.changed = append(s.changed, make(chan struct{}))
	}
	d.user = s
	return s, nil
}

// Region implements store.Store.
func (s *Store) Region() region.ID { return s.o.Region }

// Partitions implements store.Store.
func (s *Store) Partitions() int { return s.o.Partitions }

func errClosed() error { return region.Errorf(region.Unavailable, "the store is closed") }

// enter locks the store; the caller unlocks it unless there is an error.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.disk.mu.Lock()
	if s.lost || s.disk.user != s {
		s.disk.mu.Unlock()
		return errClosed()
	}
	return nil
}

func (s *Store) part(p region.Partition) (*part, error) {
	if int(p) >= len(s.parts) {
		return nil, region.Errorf(region.BadInput, "partition %d, but there are %d", p, len(s.parts))
	}
	return s.parts[p], nil
}

// settle syncs the log and shows it to readers. The lock is held.
func (s *Store) settle() error {
	if s.lost || s.disk.user != s {
		return errClosed()
	}
	if len(s.disk.log) == 0 {
		return nil
	}
	if s.o.Sync != nil {
		if err := s.o.Sync(); err != nil {
			s.lost = true
			return region.Errorf(region.Unavailable, "the power is gone").WithCause(err)
		}
	}
	for _, p := range s.disk.sync() {
		close(s.changed[p])
		s.changed[p] = make(chan struct{})
	}
	for _, p := range s.parts {
		clear(p.ahead)
	}
	return nil
}

// work takes a step of a partition and makes it durable.
func (s *Store) work(ctx context.Context, id region.Partition, step func(*partition.Step) error) error {
	p, err := s.part(id)
	if err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.disk.mu.Unlock()
	p.begin()
	if err := step(&p.step); err != nil {
		return err
	}
	p.end()
	return s.settle()
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	return s.commit(ctx, b, true)
}

// Write is Commit without the sync: the batch is lost with the power unless
// something after it is synced.
func (s *Store) Write(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	return s.commit(ctx, b, false)
}

func (s *Store) commit(ctx context.Context, b *store.Batch, sync bool) (store.Receipt, error) {
	if err := b.Validate(); err != nil {
		return store.Receipt{}, err
	}
	if err := s.enter(ctx); err != nil {
		return store.Receipt{}, err
	}
	defer s.disk.mu.Unlock()
	p := s.parts[region.PartitionOf(b.Owner, len(s.parts))]
	p.begin()
	receipt, err := p.step.Commit(b)
	if err == nil {
		p.end()
	}
	if err != nil || sync {
		if lost := s.settle(); lost != nil { // what it conflicts with has to be there
			err = lost
		}
	}
	if err != nil {
		return store.Receipt{}, err
	}
	return receipt, nil
}

// Submit implements store.Submitter: it tells before it returns, because nothing
// in a simulation may happen by itself.
func (s *Store) Submit(ctx context.Context, b *store.Batch, then func(store.Receipt, error)) error {
	s.telling.Lock()
	defer s.telling.Unlock()
	receipt, err := s.Commit(ctx, b)
	if err == nil {
		then(receipt, nil)
	}
	return err
}

// Apply implements store.Store.
func (s *Store) Apply(ctx context.Context, name journal.Stream, batches []*journal.Batch) (report store.Applied, err error) {
	if err := store.ValidateApply(s.o.Region, len(s.parts), name, batches); err != nil {
		return store.Applied{}, err
	}
	err = s.work(ctx, batches[0].Partition, func(p *partition.Step) (err error) {
		report, err = p.Apply(name, batches)
		return err
	})
	if err != nil {
		return store.Applied{}, err
	}
	return report, nil
}

// SetPosition implements store.Store.
func (s *Store) SetPosition(ctx context.Context, at journal.Position) error {
	if err := store.ValidatePosition(len(s.parts), at); err != nil {
		return err
	}
	return s.work(ctx, at.Partition, func(p *partition.Step) error {
		_, err := p.SetPosition(at)
		return err
	})
}

// Watermark implements store.Store.
func (s *Store) Watermark(ctx context.Context, id region.Partition) (n int, err error) {
	err = s.work(ctx, id, func(p *partition.Step) (err error) {
		n, err = p.Watermark()
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Handover implements store.Store.
func (s *Store) Handover(ctx context.Context, id region.Partition, h store.Handover) error {
	if err := store.ValidateHandover(h); err != nil {
		return err
	}
	return s.work(ctx, id, func(p *partition.Step) error {
		_, err := p.Handover(h)
		return err
	})
}

// Fence implements store.Store.
func (s *Store) Fence(ctx context.Context, home region.ID, t region.Term) error {
	if err := home.Valid(); err != nil {
		return region.Errorf(region.BadInput, "fence: %v", err)
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.disk.mu.Unlock()
	var c change
	for _, p := range s.parts {
		p.begin()
		p.step.Fence(home, t)
		c.parts = append(c.parts, writes{id: p.id, state: p.step.State.Clone()})
	}
	s.disk.log = append(s.disk.log, c)
	return s.settle()
}

// Trim implements store.Store.
func (s *Store) Trim(ctx context.Context, id region.Partition, before uint64) error {
	return s.work(ctx, id, func(p *partition.Step) error {
		shelf := s.disk.parts[id]
		cut := min(before, shelf.state.Next)
		for _, e := range shelf.own {
			if e.first <= cut && cut <= e.last { // a batch goes whole
				cut = e.first
			}
		}
		p.Trim(cut)
		return nil
	})
}

// TrimCopy implements store.Store.
func (s *Store) TrimCopy(ctx context.Context, origin region.ID, id region.Partition, before uint64) error {
	if err := store.ValidateCopy(s.o.Region, len(s.parts), origin, id, journal.Full); err != nil {
		return err
	}
	return s.work(ctx, id, func(*partition.Step) error {
		_ = s.parts[id].Begin()
		s.parts[id].open.trim = map[region.ID]uint64{origin: before}
		return nil
	})
}

// Writable implements store.Store.
func (s *Store) Writable() error {
	if err := s.enter(context.Background()); err != nil {
		return err
	}
	s.disk.mu.Unlock()
	return nil
}

// Close implements store.Store. What nobody waited for is synced.
func (s *Store) Close() error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.lost || s.disk.user != s {
		return nil
	}
	s.disk.sync()
	s.lost, s.closed, s.disk.user = true, true, nil
	return nil
}
