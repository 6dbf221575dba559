package pebble

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// snapshot is Pebble as of one group, shared by readers.
type snapshot struct {
	*pebble.Snapshot
	refs atomic.Int64
}

// newSnapshot returns a snapshot with one reference: the store's.
func newSnapshot(db *pebble.DB) *snapshot {
	s := &snapshot{Snapshot: db.NewSnapshot()}
	s.refs.Store(1)
	return s
}

func (s *snapshot) release() {
	if s.refs.Add(-1) == 0 {
		_ = s.Close()
	}
}

// acquire returns the newest durable snapshot, for release.
func (s *Store) acquire() (*snapshot, error) {
	s.snapMu.RLock()
	defer s.snapMu.RUnlock()
	snap := s.snap
	if snap == nil {
		return nil, errClosed()
	}
	snap.refs.Add(1)
	s.readers.Add(1)
	return snap, nil
}

func (s *Store) release(snap *snapshot) {
	snap.release()
	s.readers.Done()
}

// read is acquire that also returns what to call when done.
func (s *Store) read() (*snapshot, func(), error) {
	snap, err := s.acquire()
	if err != nil {
		return nil, nil, err
	}
	return snap, func() { s.release(snap) }, nil
}
