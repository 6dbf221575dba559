package postgres

import (
	"context"
	"errors"

	"github.com/homing-im/homing/region"
)

// purged are the tables in which deleted and overwritten users' bytes may be
// left. A plain VACUUM makes room where they were, and leaves them there.
var purged = []string{"row", "journal", "copy"}

// Purge rewrites the tables so that they hold only what the rows and the journal
// are now (VACUUM FULL), one after the other. While one is rewritten its readers
// and writers wait, or are refused as while the database is not reachable: run
// it when the region is quiet, or when another region acts for it. What the
// server's write-ahead log has of the old bytes goes as the server recycles
// that, and an archive of it keeps them as long as it is kept.
//
// It blocks until all is rewritten, or until ctx ends, which leaves every table
// as it was or rewritten.
//
// Errors: ctx's; region.Unavailable when the store is closed or a database is
// not reachable; region.Internal.
func (s *Store) Purge(ctx context.Context) error {
	s.readMu.RLock()
	defer s.readMu.RUnlock()
	if s.closed {
		return errClosed()
	}
	for _, d := range s.shards {
		for _, table := range purged {
			if err := d.rewrite(ctx, table); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *shard) rewrite(ctx context.Context, table string) error {
	_, err := d.reader.ExecContext(ctx, "VACUUM (FULL) homing_"+table)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), err)
	case temporary(err):
		return d.unreachable(err)
	}
	return region.Errorf(region.Internal, "table homing_%s of database %d cannot be rewritten", table, d.number).WithCause(err)
}
