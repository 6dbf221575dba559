// Package plain writes batches the plain way, for benchmarks to compare the
// engine with on the same server: each owner's batch in a transaction of its own
// on one of some connections, the partition's sequence row locked first, the rows
// it writes over read one by one, their digests and a journal record included.
//
// It guarantees as much durability as the engine, and less of everything else: no
// chain, no streams, no sums of digests, no preconditions. It is for nothing but
// measuring.
package plain

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/lib/pq"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Store is the peer.
type Store struct {
	lock, find, put, add, seq *sql.Stmt

	db         *sql.DB
	partitions int
}

// Open connects to a database whose tables the engine has made and which nobody
// has open. It commits on at most so many connections.
func Open(dsn string, partitions, connections int) (*Store, error) {
	db, err := open(dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	p := &Store{db: db, partitions: partitions}
	for _, s := range []struct {
		to    **sql.Stmt
		query string
	}{
		{&p.lock, `SELECT next, sums FROM homing_partition WHERE partition = $1 FOR UPDATE`},
		{&p.find, `SELECT version, sum FROM homing_row WHERE partition = $1 AND owner = $2 AND tab = $3 AND key = $4`},
		{&p.put, `INSERT INTO homing_row (partition, owner, tab, key, version, moves, counter, raised, deleted, home, sum, value)
			VALUES ($1, $2, $3, $4, $5, 0, 0, '\x0000000000000000', false, $6, $7, $8)
			ON CONFLICT (partition, owner, tab, key) DO UPDATE SET version = excluded.version, sum = excluded.sum, value = excluded.value`},
		{&p.add, `INSERT INTO homing_journal (partition, first, streams, data) VALUES ($1, $2, ' full ', $3)`},
		{&p.seq, `UPDATE homing_partition SET next = $2, sums = $3 WHERE partition = $1`},
	} {
		if *s.to, err = db.Prepare(s.query); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return p, nil
}

func open(dsn string) (*sql.DB, error) {
	c, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, errors.New("the DSN cannot be read") // not the cause, which may have the password
	}
	return sql.OpenDB(c), nil
}

// Commit writes a batch and waits until it is durable.
func (p *Store) Commit(ctx context.Context, batch *store.Batch) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	id := region.PartitionOf(batch.Owner, p.partitions)
	var next int64
	var sums string
	if err := tx.StmtContext(ctx, p.lock).QueryRowContext(ctx, id).Scan(&next, &sums); err != nil {
		return err
	}
	jb := &journal.Batch{Origin: "sh", Partition: id, Incarnation: 1, Owner: batch.Owner, Home: batch.Home}
	for i := range batch.Writes {
		w := &batch.Writes[i]
		var version int64
		var before []byte
		err := tx.StmtContext(ctx, p.find).QueryRowContext(ctx, id, int64(batch.Owner), int64(w.Table), w.Row).Scan(&version, &before)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		after := journal.RowSum(batch.Owner, w.Table, w.Row, uint64(version)+1, batch.Epoch, false, w.Value)
		if _, err := tx.StmtContext(ctx, p.put).ExecContext(ctx, id, int64(batch.Owner), int64(w.Table), w.Row, version+1, string(batch.Home), after[:], w.Value); err != nil {
			return err
		}
		jb.Records = append(jb.Records, journal.Record{Seq: uint64(next), Kind: journal.KindRow, Row: &journal.RowRecord{
			Table: w.Table, Row: w.Row, Version: uint64(version) + 1, Value: w.Value, After: after,
		}})
		next++
	}
	if _, err := tx.StmtContext(ctx, p.add).ExecContext(ctx, id, int64(jb.First()), journal.Encode(jb)); err != nil {
		return err
	}
	if _, err := tx.StmtContext(ctx, p.seq).ExecContext(ctx, id, next, sums); err != nil {
		return err
	}
	return tx.Commit()
}

// Close closes the connections.
func (p *Store) Close() error { return p.db.Close() }

// Schema makes a schema in a database, and returns a DSN that finds its tables
// there and what removes it with all that is in it.
func Schema(ctx context.Context, dsn, name string) (within string, remove func() error, err error) {
	if within, err = search(dsn, name); err != nil {
		return "", nil, err
	}
	do := func(ctx context.Context, query string) error {
		db, err := open(dsn)
		if err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, query)
		return errors.Join(err, db.Close())
	}
	if err := do(ctx, `CREATE SCHEMA `+pq.QuoteIdentifier(name)); err != nil {
		return "", nil, fmt.Errorf("making a schema for the benchmark: %w", err)
	}
	return within, func() error {
		return do(context.WithoutCancel(ctx), `DROP SCHEMA `+pq.QuoteIdentifier(name)+` CASCADE`)
	}, nil
}

func search(dsn, name string) (string, error) {
	if !strings.Contains(dsn, "://") {
		return dsn + " search_path=" + name, nil
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("the DSN cannot be read")
	}
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String(), nil
}
