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

// read returns the newest durable snapshot and what to call when done with it.
func (s *Store) read() (*snapshot, func(), error) {
	s.snapMu.RLock()
	defer s.snapMu.RUnlock()
	snap := s.snap
	if snap == nil {
		return nil, nil, errClosed()
	}
	snap.refs.Add(1)
	s.readers.Add(1)
	return snap, func() {
		snap.release()
		s.readers.Done()
	}, nil
}
