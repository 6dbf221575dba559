package pebble

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/disk"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Store is the engine. It implements store.Store.
type Store struct {
	options Options
	lock    *pebble.Lock
	db      *pebble.DB
	parts   []*part
	metrics *metrics
	disk    *disk.Guard

	failed atomic.Pointer[region.Error] // why the store is read-only; nil while it is not

	fenceMu sync.Mutex // one Fence at a time

	queue   queue
	telling telling
	done    chan struct{} // closed when the committer has ended
	learned chan struct{} // closed when learn has ended

	seed         maphash.Seed // of the hashes of rows' keys
	filterBudget atomic.Int64

	snapMu  sync.RWMutex
	snap    *snapshot // durable; nil when closed
	readers sync.WaitGroup

	closeOnce sync.Once
	closeErr  error
}

var _ store.Store = (*Store)(nil)

// meta is what a directory says about itself.
type meta struct {
	Layout     int       `json:"layout"`
	Region     region.ID `json:"region"`
	Partitions int       `json:"partitions"`
	Loading    bool      `json:"loading,omitempty"` // a Loader has not finished
}

// Open opens the store of a directory, and makes it when there is none. It
// replays what Pebble's log has, and blocks meanwhile.
//
// Errors: region.Unavailable when another process has the directory;
// region.BadInput when the directory is another region's, or has another number
// of partitions; region.Unsupported for another layout; region.Internal when
// the directory cannot be read.
func Open(options Options) (*Store, error) {
	s, err := openAlone(options)
	if err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.shut())
	}
	go s.commitLoop()
	go s.learn(s.db.NewSnapshot())
	return s, nil
}

// openAlone locks the directory and opens Pebble in it.
func openAlone(options Options) (*Store, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, region.Errorf(region.BadInput, "%v", err)
	}
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, region.Errorf(region.Internal, "store directory %s cannot be made", o.Dir).WithCause(err)
	}
	lock, err := pebble.LockDirectory(o.Dir, o.FS)
	if errors.Is(err, fs.ErrPermission) {
		return nil, region.Errorf(region.Internal, "store directory %s cannot be written", o.Dir).WithCause(err)
	}
	if err != nil {
		return nil, region.Errorf(region.Unavailable, "store directory %s is in use", o.Dir).
			WithHint("stop the other process, or choose another directory").WithCause(err)
	}
	s := &Store{options: o, lock: lock, done: make(chan struct{}), learned: make(chan struct{}), seed: maphash.MakeSeed(), metrics: newMetrics(o.Registry)}
	s.disk = disk.New(disk.Options{Dir: o.Dir, FS: o.FS, MinFree: o.MinFree, What: "the store in " + o.Dir, Logger: o.Logger})
	s.queue.wake = make(chan struct{}, 1)
	if err := s.openPebble(); err != nil {
		s.disk.Close()
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// shut is the end of what openAlone began.
func (s *Store) shut() error {
	s.disk.Close() // or Pebble would wait for who waits for room
	return errors.Join(s.db.Close(), s.lock.Close())
}

// openPebble opens the engine.
func (s *Store) openPebble() error {
	o := s.options
	cache := pebble.NewCache(8 * o.Memory) // Pebble takes its memtables' memory out of it
	defer cache.Unref()
	po := engineOptions(&o, s.disk.FS(), cache)
	po.Lock = s.lock
	db, err := pebble.Open(o.Dir, po)
	if err != nil {
		return region.Errorf(region.Internal, "store directory %s cannot be opened", o.Dir).WithCause(err)
	}
	s.db = db
	return nil
}

// open checks and reads what Pebble has.
func (s *Store) open() error {
	if err := s.checkMeta(); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return region.Errorf(region.Internal, "store directory %s is damaged", s.options.Dir).
			WithHint("bootstrap this region's store from its backup").WithCause(err)
	}
	s.snap = newSnapshot(s.db)
	return nil
}

// meta reads what the directory says about itself; nil when it is new.
func (s *Store) meta() (*meta, error) {
	o := s.options
	value, closer, err := s.db.Get(keyMeta)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, region.Errorf(region.Internal, "store directory %s cannot be read", o.Dir).WithCause(err)
	}
	have := new(meta)
	err = json.Unmarshal(value, have)
	_ = closer.Close()
	switch {
	case err != nil:
		return nil, region.Errorf(region.Internal, "store directory %s is damaged", o.Dir).WithCause(err)
	case have.Layout != layout:
		return nil, region.Errorf(region.Unsupported, "store directory %s has layout %d, this program reads %d", o.Dir, have.Layout, layout).
			WithHint("use the program that wrote it")
	}
	return have, nil
}

// checkMeta compares what the directory says with what is wanted, or writes it
// when the directory is new.
func (s *Store) checkMeta() error {
	o := s.options
	have, err := s.meta()
	switch {
	case err != nil:
		return err
	case have == nil:
		return s.setMeta(meta{Layout: layout, Region: o.Region, Partitions: o.Partitions})
	case have.Loading:
		return region.Errorf(region.Conflict, "store directory %s has half of a store: an import into it did not finish", o.Dir).
			WithHint("import again")
	case have.Region != o.Region:
		return region.Errorf(region.BadInput, "store directory %s belongs to region %s, not %s", o.Dir, have.Region, o.Region).
			WithHint("check dir and region in the node's configuration")
	case have.Partitions != o.Partitions:
		return region.Errorf(region.BadInput, "store directory %s has %d partitions, not %d", o.Dir, have.Partitions, o.Partitions).
			WithHint("the number of partitions never changes; check the world")
	}
	return nil
}

// load reads the states, positions and fences into memory.
func (s *Store) load() error {
	fence := region.Fence{}
	err := s.each([]byte{'f'}, func(k, v []byte) error {
		r := reader{data: v}
		fence[region.ID(k[1:])] = r.term()
		return r.err
	})
	if err != nil {
		return err
	}
	s.parts = make([]*part, s.options.Partitions)
	s.filterBudget.Store(max(0, s.options.FilterMemory))
	recentRows := int(s.options.Memory/recentBytes) / 2 / len(s.parts)
	for i := range s.parts {
		p := s.newPart(region.Partition(i), recentRows)
		value, closer, err := s.db.Get(keyState(p.id))
		if err == nil {
			p.step.State, err = decodeState(value)
			err = errors.Join(err, closer.Close())
		} else if errors.Is(err, pebble.ErrNotFound) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("partition %d: %w", i, err)
		}
		for home, t := range fence {
			p.step.State.Fence[home] = t
		}
		p.durable.Store(newView(p.step.State))
		s.parts[i] = p
	}
	err = s.each([]byte{'t'}, func(k, v []byte) error {
		var t store.Turn
		id := int(binary.BigEndian.Uint16(k[1:]))
		if id >= len(s.parts) {
			return errCorrupt
		}
		if err := json.Unmarshal(v, &t); err != nil {
			return err
		}
		p := s.parts[id]
		p.step.State.Turns[region.ID(k[3:])] = t
		p.durable.Store(newView(p.step.State))
		return nil
	})
	if err != nil {
		return err
	}
	return s.each([]byte{'p'}, func(k, v []byte) error {
		at, err := decodePosition(k, v)
		if err != nil || int(at.Partition) >= len(s.parts) {
			return errors.Join(errCorrupt, err)
		}
		s.parts[at.Partition].step.State.Positions[partition.Source{Origin: at.Origin, Stream: at.Stream}] = at
		return nil
	})
}

// each calls yield for every key that begins with prefix.
func (s *Store) each(prefix []byte, yield func(k, v []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := yield(it.Key(), it.Value()); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return it.Close()
}

// Region returns the region the directory belongs to.
func (s *Store) Region() region.ID { return s.options.Region }

// Partitions returns the number of partitions.
func (s *Store) Partitions() int { return s.options.Partitions }

func (s *Store) part(p region.Partition) (*part, error) {
	if int(p) >= len(s.parts) {
		return nil, region.Errorf(region.BadInput, "partition %d, but there are %d", p, len(s.parts))
	}
	return s.parts[p], nil
}

func errClosed() error { return region.Errorf(region.Unavailable, "the store is closed") }

// fail makes the store read-only for good, and returns why it is.
func (s *Store) fail(cause error) *region.Error {
	e := region.Errorf(region.Internal, "the store in %s failed to write and is read-only", s.options.Dir).
		WithHint("check the disk, then restart this node").WithCause(cause)
	if disk.IsFull(cause) {
		e.Kind = region.Unavailable
		e.Hint = "free space on the disk, then restart this node"
	}
	if s.failed.CompareAndSwap(nil, e) {
		s.options.Logger.Error("store is read-only", "dir", s.options.Dir, "error", cause)
		s.metrics.Failures.Inc()
	}
	return s.failed.Load()
}

// Writable says why commits are refused now, or nil: see store.Store.
func (s *Store) Writable() error {
	if e := s.failed.Load(); e != nil {
		return e
	}
	if s.queue.closed.Load() {
		return errClosed()
	}
	return s.disk.Check()
}

// admit is Writable for who is about to write, and counts.
func (s *Store) admit() error {
	err := s.Writable()
	if err != nil {
		s.metrics.Refused(err)
	}
	return err
}

// Close refuses new work, waits for commits under way, and closes the engine.
// Calling it again returns the same error.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	s.queue.close()
	for _, p := range s.parts {
		p.settle()
	}
	s.queue.signal()
	<-s.done
	<-s.learned

	s.snapMu.Lock()
	snap := s.snap
	s.snap = nil
	s.snapMu.Unlock()
	snap.release()
	s.readers.Wait()
	s.disk.Close() // or Pebble would wait for who waits for room
	err := s.db.Close()
	if s.failed.Load() != nil {
		err = nil // it was reported when the store failed
	}
	if err := errors.Join(err, s.lock.Close()); err != nil {
		return region.Errorf(region.Internal, "the store in %s did not close cleanly", s.options.Dir).WithCause(err)
	}
	return nil
}
