package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region/store/postgres"
	"github.com/homing-im/homing/region/store/postgres/plain"
)

// peerConnections is how many transactions of the peer are under way at a time:
// with 64 it is no faster, and its partitions wait for each other.
const peerConnections = 32

// database is where engine postgres is measured: one that is given, or a server
// of its own with everything as PostgreSQL comes, fsync included.
type database struct {
	dsn    string
	server *pgtest.Server // nil: given
}

func newDatabase(o *Options) (*database, error) {
	if o.DSN != "" {
		return &database{dsn: o.DSN}, nil
	}
	s, err := pgtest.New(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("%w; or say --dsn of a database", err)
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return &database{dsn: s.DSN(), server: s}, nil
}

// dir is what the server's data takes; "" where that cannot be told.
func (d *database) dir() string {
	if d.server == nil {
		return ""
	}
	return d.server.Dir
}

func (d *database) close() error {
	if d.server == nil {
		return nil
	}
	return d.server.Stop()
}

// open opens the engine in a schema of its own, and returns its DSN and what
// closes the engine, unless that has been done, and removes the schema.
func (d *database) open(ctx context.Context, name string, partitions int) (s *postgres.Store, dsn string, remove func() error, err error) {
	dsn, drop, err := plain.Schema(ctx, d.dsn, fmt.Sprintf("homing_bench_%d_%s", os.Getpid(), name))
	if err != nil {
		return nil, "", nil, err
	}
	if s, err = postgres.Open(postgres.Options{DSNs: []string{dsn}, Region: "sh", Partitions: partitions}); err != nil {
		return nil, "", nil, errors.Join(err, drop())
	}
	return s, dsn, func() error { return errors.Join(s.Close(), drop()) }, nil
}

// peer measures the same batches, each in a transaction of its own, on the same
// server.
func (b *bench) peer(ctx context.Context, d *database) (r Rate, err error) {
	s, dsn, remove, err := d.open(ctx, "plain", b.Partitions)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := s.Close(); err != nil { // its tables are all that is wanted of it
		return r, err
	}
	p, err := plain.Open(dsn, b.Partitions, peerConnections)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	b.next.Store(0)
	return b.saturate(ctx, b.Callers, func(ctx context.Context, _ *rand.Rand) error {
		return p.Commit(ctx, b.batch())
	}, b.Batch, lasts(b.Duration))
}
