// Package pebble keeps handles and UIN ranges in a directory, with Pebble.
//
// It guarantees what ids.Store asks for on one machine: one goroutine decides
// and writes, so claims are totally ordered; what was decided together is one
// Pebble batch with one fsync, and nobody is answered, neither the claimer nor a
// reader, before that fsync returned. After a crash the directory is exactly
// what was acknowledged plus, possibly, mutations that were still under way.
//
// # Keys and values
//
// Values are JSON objects; integers are eight big-endian bytes.
//
//	'm' "format"            "1"
//	'h' handle              {"owner":1000001}
//	'o' owner               {"handles":["old","primary"]}
//	'r' first               {"first":...,"last":...,"home":"sh","region":"sh","key":"k1"}
//	'k' region 0x00 key     the same record
//
// The directory is restored from a backup, never failed over: a copy that lags
// would give a handle away twice.
package pebble

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/disk"
)

// format is the number of the key layout in the package comment.
const format = "1"

// maxGroup bounds the mutations of one fsync, so that one answer never waits
// for an unbounded batch.
const maxGroup = 1024

// Options of a store.
type Options struct {
	Dir string
	FS  vfs.FS // nil: the operating system's

	// MinFree is how many bytes have to be free on the disk for claims and
	// allotments to be admitted. 0 is 32 MiB, negative admits always.
	MinFree int64

	Logger   *slog.Logger
	Registry prometheus.Registerer // may be nil
}

// Store is an ids.Store in a directory.
type Store struct {
	db   *pebble.DB
	lock *pebble.Lock
	disk *disk.Guard
	dir  string
	log  *slog.Logger
	m    *metrics

	ops    chan *op
	stop   chan struct{} // closed by Close
	joined chan struct{} // closed when run ended
	once   sync.Once
	close  error

	mu     sync.Mutex
	flying *group         // being written; nil between groups
	failed error          // a write failed: nothing is answered any more
	uses   sync.WaitGroup // readers of db
	closed bool
}

var _ ids.Store = (*Store)(nil)

// Open opens or makes the store in a directory, which it locks.
//
// Errors: region.Unavailable when another process has the directory,
// region.Unsupported when a newer release wrote it.
func Open(o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.MinFree == 0 {
		o.MinFree = 32 << 20
	}
	s := &Store{
		dir: o.Dir, log: o.Logger, m: newMetrics(o.Registry),
		ops: make(chan *op, maxGroup), stop: make(chan struct{}), joined: make(chan struct{}),
	}
	if err := s.open(&o); err != nil {
		return nil, errors.Join(err, s.shut())
	}
	go s.run()
	return s, nil
}

func (s *Store) open(o *Options) (err error) {
	if err = o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return openError(o.Dir, err)
	}
	if s.lock, err = pebble.LockDirectory(o.Dir, o.FS); err != nil {
		return openError(o.Dir, err)
	}
	s.disk = disk.New(disk.Options{Dir: o.Dir, FS: o.FS, MinFree: o.MinFree, What: "the ids store in " + o.Dir, Logger: o.Logger})
	if s.db, err = pebble.Open(o.Dir, &pebble.Options{
		FS:                 s.disk.FS(),
		Lock:               s.lock,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             pebbleLog{o.Logger},
	}); err != nil {
		return openError(o.Dir, err)
	}
	return checkFormat(s.db)
}

// shut closes what open opened.
func (s *Store) shut() (err error) {
	if s.disk != nil {
		s.disk.Close() // or Pebble would wait for who waits for room
	}
	if s.db != nil {
		err = s.db.Close()
		if s.failed != nil {
			err = nil // it was reported when the store failed
		}
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

func openError(dir string, err error) error {
	locked := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) || strings.Contains(err.Error(), "lock held by current process")
	switch {
	case errors.Is(err, fs.ErrPermission) && !locked:
		return region.Errorf(region.Unavailable, "no permission for the ids directory %s", dir).WithHint("run as the user who owns it").WithCause(err)
	case locked:
		return region.Errorf(region.Unavailable, "the ids directory %s is in use by another process", dir).WithHint("stop the other node, or give this one its own directory").WithCause(err)
	case errors.Is(err, syscall.ENOSPC):
		return region.Errorf(region.Unavailable, "no space left for the ids directory %s", dir).WithHint("free some space").WithCause(err)
	default:
		return region.Errorf(region.Internal, "cannot open the ids directory %s", dir).WithHint("check %s, or restore it from a backup", filepath.Clean(dir)).WithCause(err)
	}
}

func checkFormat(db *pebble.DB) error {
	key := []byte("mformat")
	v, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return db.Set(key, []byte(format), pebble.Sync)
	}
	if err != nil {
		return err
	}
	defer func() { _ = closer.Close() }()
	if string(v) != format {
		return region.Errorf(region.Unsupported, "the ids directory has format %s, this release reads %s", v, format).WithHint("upgrade this node")
	}
	return nil
}

// Claim implements ids.Store.
func (s *Store) Claim(ctx context.Context, h ids.Handle, owner region.UIN) (ids.Claimed, error) {
	o := &op{handle: h, owner: owner, done: make(chan struct{})}
	if err := s.do(ctx, o); err != nil {
		return ids.Claimed{}, err
	}
	return o.claimed, nil
}

// Allot implements ids.Store.
func (s *Store) Allot(ctx context.Context, a ids.Allotment) (ids.Range, error) {
	o := &op{allot: &a, done: make(chan struct{})}
	if err := s.do(ctx, o); err != nil {
		return ids.Range{}, err
	}
	return o.allotted, nil
}

// do hands a mutation to run and waits for it to be durable.
func (s *Store) do(ctx context.Context, o *op) error {
	if err := s.Writable(); err != nil {
		return err
	}
	select {
	case s.ops <- o:
	case <-s.stop:
		return ids.Closed()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-o.done:
		return o.err
	case <-s.joined: // sent after run had drained the queue
		select {
		case <-o.done:
			return o.err
		default:
			return ids.Closed()
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resolve implements ids.Store.
func (s *Store) Resolve(ctx context.Context, h ids.Handle) (ids.Claimed, error) {
	if err := s.use(); err != nil {
		return ids.Claimed{}, err
	}
	defer s.uses.Done()
	for {
		c, err := resolve(s.db, h)
		// Pebble shows a batch to readers before it is synced. Looking at the
		// group after the read closes the gap: a value read from a group that is
		// still flying has been registered by then.
		s.mu.Lock()
		g, failed := s.flying, s.failed
		s.mu.Unlock()
		if failed != nil {
			return ids.Claimed{}, failed
		}
		if g == nil || !g.touches(h, c.Owner) {
			return c, err
		}
		select {
		case <-g.done:
		case <-ctx.Done():
			return ids.Claimed{}, ctx.Err()
		}
	}
}

// Writable says why claims and allotments are refused now, or nil.
//
// Errors: region.Unavailable while the disk is full or when the store is closed,
// region.Internal when it failed to write.
func (s *Store) Writable() error {
	s.mu.Lock()
	failed, closed := s.failed, s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return ids.Closed()
	case failed != nil:
		return failed
	}
	return s.disk.Check()
}

// use keeps the database open until the caller says s.uses.Done.
func (s *Store) use() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ids.Closed()
	}
	s.uses.Add(1)
	return nil
}

// Close implements ids.Store.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.stop)
		<-s.joined
		s.uses.Wait()
		s.close = s.shut()
	})
	return s.close
}

// pebbleLog is Pebble's logger. Pebble calls Fatalf when it cannot write its
// log; going on would risk acknowledging what is not on disk.
type pebbleLog struct{ log *slog.Logger }

func (l pebbleLog) Infof(format string, args ...any) {
	l.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Fatalf(format string, args ...any) {
	panic("ids: pebble: " + fmt.Sprintf(format, args...))
}
