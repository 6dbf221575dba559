package pebble

import (
	"context"

	"github.com/homing-im/homing/region"
)

// Purge rewrites the store's files so that they hold only what the rows and the
// journal are now: what was overwritten, deleted or trimmed before is no more in
// its tables. Without it the same happens by and by, as Pebble compacts. Pebble
// keeps up to five old log files for use as new ones: their bytes last until they
// are written over, or until the store is opened the next time.
//
// It blocks for as long as reading and writing the whole store takes, or until
// ctx ends; commits go on beside it.
//
// Errors: ctx's; region.Unavailable when the store is closed; region.Internal.
func (s *Store) Purge(ctx context.Context) error {
	_, release, err := s.read() // newer than all that goes; held so that Close waits
	if err != nil {
		return err
	}
	defer release()
	if err := s.db.Flush(); err != nil {
		return region.Errorf(region.Internal, "the store in %s cannot be flushed", s.options.Dir).WithCause(err)
	}
	if err := s.db.Compact(ctx, []byte{0}, []byte{0xff}, false); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return region.Errorf(region.Internal, "the store in %s cannot be compacted", s.options.Dir).WithCause(err)
	}
	return nil
}
