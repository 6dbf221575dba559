package pebble

import (
	"context"
	"time"

	"github.com/homing-im/homing/region"
)

// settleLook is how often Settle looks whether Pebble is still at work.
const settleLook = 20 * time.Millisecond

// Settle writes what is in memory to tables, and blocks until they are flushed and
// no compaction is under way, or until ctx ends. Who writes meanwhile may keep it
// waiting without end. It is for measuring reads.
//
// Errors: ctx's; region.Unavailable when the store is closed; region.Internal when
// Pebble cannot write.
func (s *Store) Settle(ctx context.Context) error {
	snap, err := s.acquire() // so that Close waits
	if err != nil {
		return err
	}
	defer s.release(snap)
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return region.Errorf(region.Internal, "the store in %s cannot be written", s.options.Dir).WithCause(err)
	}
	select {
	case <-flushed:
	case <-ctx.Done():
		return ctx.Err()
	}
	t := time.NewTicker(settleLook)
	defer t.Stop()
	for {
		// Pebble begins the next compaction in the moment when one ends.
		if m := s.db.Metrics(); m.Flush.NumInProgress == 0 && m.Compact.NumInProgress == 0 {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
