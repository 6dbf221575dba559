package postgres_test

import (
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lib/pq"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/postgres"
)

// BenchmarkCommit commits batches of five rows, as a message does, on a server
// whose fsync is one, from callers that each wait for their acknowledgement. The
// peer is the same written the plain way, on the same server: each owner's batch
// in a transaction of its own on one of 32 connections, with the sequence row
// locked first.
func BenchmarkCommit(b *testing.B) {
	needPostgres(b)
	pg, err := pgtest.New("")
	if err != nil {
		b.Fatal(err)
	}
	defer pg.Stop()
	if err := pg.Start(); err != nil {
		b.Fatal(err)
	}
	connector, err := pq.NewConnector(pg.DSN())
	if err != nil {
		b.Fatal(err)
	}
	plain := sql.OpenDB(connector)
	defer plain.Close()
	plain.SetMaxOpenConns(32)
	plain.SetMaxIdleConns(32)
	s, err := postgres.Open(postgres.Options{DSNs: []string{pg.DSN()}, Region: "sh", Partitions: 64})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("engine/callers=%d", callers), func(b *testing.B) {
			run(b, callers, func(batch *store.Batch) error {
				_, err := s.Commit(ctx, batch)
				return err
			})
		})
	}
	p := newPlain(b, plain)
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("plain/callers=%d", callers), func(b *testing.B) { run(b, callers, p.commit) })
	}
}

var rowNumber atomic.Int64

func run(b *testing.B, callers int, commit func(*store.Batch) error) {
	value := make([]byte, 100)
	var next atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				row := fmt.Appendf(nil, "%016d", rowNumber.Add(1))
				err := commit(&store.Batch{Owner: region.UIN(c + 1), Home: "sh", Writes: []store.Write{
					{Table: 101, Row: row, Value: value}, {Table: 102, Row: row, Value: value[:20]},
					{Table: 103, Row: []byte("head"), Value: value[:30]}, {Table: 104, Row: row, Value: value[:10]}, {Table: 201, Row: row[:4], Value: value[:8]},
				}})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// plainStore is what BenchmarkCommit compares with.
type plainStore struct {
	lock, find, put, add, seq *sql.Stmt
	db                        *sql.DB
}

func newPlain(b *testing.B, db *sql.DB) *plainStore {
	b.Helper()
	p := &plainStore{db: db}
	for to, query := range map[**sql.Stmt]string{
		&p.lock: `SELECT next, sums FROM homing_partition WHERE partition = $1 FOR UPDATE`,
		&p.find: `SELECT version, sum FROM homing_row WHERE partition = $1 AND owner = $2 AND tab = $3 AND key = $4`,
		&p.put: `INSERT INTO homing_row (partition, owner, tab, key, version, moves, counter, raised, deleted, home, sum, value)
			VALUES ($1, $2, $3, $4, $5, 0, 0, '\x0000000000000000', false, $6, $7, $8)
			ON CONFLICT (partition, owner, tab, key) DO UPDATE SET version = excluded.version, sum = excluded.sum, value = excluded.value`,
		&p.add: `INSERT INTO homing_journal (partition, first, streams, data) VALUES ($1, $2, ' full ', $3)`,
		&p.seq: `UPDATE homing_partition SET next = $2, sums = $3 WHERE partition = $1`,
	} {
		s, err := db.Prepare(query)
		if err != nil {
			b.Fatal(err)
		}
		*to = s
	}
	return p
}

func (p *plainStore) commit(batch *store.Batch) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	id := region.PartitionOf(batch.Owner, 64)
	var next int64
	var sums string
	if err := tx.StmtContext(ctx, p.lock).QueryRow(id).Scan(&next, &sums); err != nil {
		return err
	}
	jb := &journal.Batch{Origin: "sh", Partition: id, Incarnation: 1, Owner: batch.Owner, Home: "sh"}
	for i := range batch.Writes {
		w := &batch.Writes[i]
		var version int64
		var before []byte
		err := tx.StmtContext(ctx, p.find).QueryRow(id, int64(batch.Owner), int64(w.Table), w.Row).Scan(&version, &before)
		if err != nil && err != sql.ErrNoRows {
			return err
		}
		after := journal.RowSum(batch.Owner, w.Table, w.Row, uint64(version)+1, batch.Epoch, false, w.Value)
		if _, err := tx.StmtContext(ctx, p.put).Exec(id, int64(batch.Owner), int64(w.Table), w.Row, version+1, "sh", after[:], w.Value); err != nil {
			return err
		}
		jb.Records = append(jb.Records, journal.Record{Seq: uint64(next), Kind: journal.KindRow, Row: &journal.RowRecord{
			Table: w.Table, Row: w.Row, Version: uint64(version) + 1, Value: w.Value, After: after,
		}})
		next++
	}
	if _, err := tx.StmtContext(ctx, p.add).Exec(id, int64(jb.First()), journal.Encode(jb)); err != nil {
		return err
	}
	if _, err := tx.StmtContext(ctx, p.seq).Exec(id, next, sums); err != nil {
		return err
	}
	return tx.Commit()
}
