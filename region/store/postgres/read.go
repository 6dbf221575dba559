package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// scanLimit is how many rows a Range without a limit gives.
const scanLimit = 1000

// journalPiece is how many batches one statement looks at.
const journalPiece = 1000

// statements are a database's prepared reads.
type statements struct {
	mu  sync.Mutex
	all map[string]*sql.Stmt
}

func (d *shard) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	d.stmts.mu.Lock()
	defer d.stmts.mu.Unlock()
	if s := d.stmts.all[query]; s != nil {
		return s, nil
	}
	s, err := d.reader.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if d.stmts.all == nil {
		d.stmts.all = map[string]*sql.Stmt{}
	}
	d.stmts.all[query] = s
	return s, nil
}

// read runs a query on a partition's database and calls yield for each row. It
// buffers nothing.
func (s *Store) read(ctx context.Context, p *part, query string, args []any, yield func(scan func(...any) error) error) error {
	s.readMu.RLock()
	defer s.readMu.RUnlock()
	d := p.shard
	if s.closed {
		return errClosed()
	}
	if d.unsettled.Load() {
		return d.unreachable(nil)
	}
	err := func() error {
		q, err := d.stmt(ctx, query)
		if err != nil {
			return err
		}
		rows, err := q.QueryContext(ctx, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := yield(rows.Scan); err != nil {
				return err
			}
		}
		return rows.Err()
	}()
	var e *region.Error
	switch {
	case err == nil || errors.As(err, &e):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case temporary(err):
		return d.unreachable(err)
	}
	return region.Errorf(region.Internal, "database %d of the store cannot be read", d.number).WithCause(err)
}

// open returns an error when the store is closed.
func (s *Store) open() error {
	s.readMu.RLock()
	defer s.readMu.RUnlock()
	if s.closed {
		return errClosed()
	}
	return nil
}

// Get returns a row: see store.Store.
func (s *Store) Get(ctx context.Context, owner region.UIN, t journal.Table, row []byte) (store.Row, error) {
	r := store.Row{Table: t, Row: bytes.Clone(row)}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	p := s.parts[region.PartitionOf(owner, len(s.parts))]
	err := s.read(ctx, p, `SELECT version, moves, counter, raised, deleted, value FROM homing_row WHERE partition = $1 AND owner = $2 AND tab = $3 AND key = $4`,
		[]any{p.id, int64(owner), int64(t), present(row)}, func(scan func(...any) error) error { return scanRow(&r, scan) })
	return r, err
}

// scanRow reads the columns of a row behind those given.
func scanRow(r *store.Row, scan func(...any) error, before ...any) error {
	var version, moves, counter int64
	var raised []byte
	if err := scan(append(before, &version, &moves, &counter, &raised, &r.Deleted, &r.Value)...); err != nil {
		return err
	}
	r.Version = uint64(version)
	r.Epoch.Moves, r.Epoch.Term.Counter = uint64(moves), uint64(counter)
	if copy(r.Epoch.Term.Raised[:], raised) != len(r.Epoch.Term.Raised) {
		return region.Errorf(region.Internal, "row %x of table %d is damaged", r.Row, r.Table)
	}
	return nil
}

// Scan calls yield for rows in key order: see store.Store. It reads them all
// before the first call: yield may read again, and a connection kept for it
// could be the last one.
func (s *Store) Scan(ctx context.Context, owner region.UIN, t journal.Table, r store.Range, yield func(*store.Row) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := s.parts[region.PartitionOf(owner, len(s.parts))]
	query := `SELECT key, version, moves, counter, raised, deleted, value FROM homing_row WHERE partition = $1 AND owner = $2 AND tab = $3`
	limit := r.Limit
	if limit <= 0 {
		limit = scanLimit
	}
	args := []any{p.id, int64(owner), int64(t), limit}
	if r.From != nil {
		args = append(args, r.From)
		query += ` AND key >= $` + strconv.Itoa(len(args))
	}
	if r.To != nil {
		args = append(args, r.To)
		query += ` AND key < $` + strconv.Itoa(len(args))
	}
	if !r.Deleted {
		query += ` AND NOT deleted`
	}
	if r.Reverse {
		query += ` ORDER BY partition DESC, owner DESC, tab DESC, key DESC LIMIT $4`
	} else {
		query += ` ORDER BY partition, owner, tab, key LIMIT $4`
	}
	var rows []store.Row
	err := s.read(ctx, p, query, args, func(scan func(...any) error) error {
		row := store.Row{Table: t}
		if err := scanRow(&row, scan, &row.Row); err != nil {
			return err
		}
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range rows {
		if !yield(&rows[i]) {
			break
		}
	}
	return nil
}

// Position returns how far a foreign stream was applied: see store.Store.
func (s *Store) Position(ctx context.Context, origin region.ID, name journal.Stream, id region.Partition) (journal.Position, error) {
	at := journal.Position{Origin: origin, Stream: name, Partition: id}
	if err := ctx.Err(); err != nil {
		return at, err
	}
	p, err := s.part(id)
	if err != nil {
		return at, err
	}
	if err := s.open(); err != nil {
		return at, err
	}
	for _, have := range p.durable.Load().state.Positions {
		if have.Origin == origin && have.Stream == name {
			return have, nil
		}
	}
	return at, nil
}

// Positions returns every position, by partition, origin and stream.
func (s *Store) Positions(ctx context.Context) ([]journal.Position, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	var all []journal.Position
	for _, p := range s.parts {
		for _, at := range p.durable.Load().state.Positions {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, store.ComparePositions)
	return all, nil
}

// journalSQL returns batches that have a stream ($5, "" for every), from the one
// that holds sequence $3, as many as begin within $6 bytes. It looks at the sizes of a
// bounded number first, because a driver without a cursor reads all there is.
var journalSQL = `
SELECT first, data FROM (
	SELECT first, data, sum(octet_length(data)) OVER (ORDER BY first) - octet_length(data) AS before FROM (
		SELECT first, data FROM homing_journal
		WHERE partition = $1 AND first >= greatest($2, (SELECT coalesce(max(first), 0) FROM homing_journal WHERE partition = $1 AND first <= $3))
			AND first < $4 AND ($5 = '' OR strpos(streams, $5) > 0)
		ORDER BY partition, first LIMIT ` + strconv.Itoa(journalPiece) + `
	) piece
) sized WHERE before < $6 ORDER BY first`

// Journal returns batches as a stream carries them: see store.Store.
func (s *Store) Journal(ctx context.Context, id region.Partition, name journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := s.part(id)
	if err != nil {
		return nil, err
	}
	if err := name.Valid(); err != nil {
		return nil, region.Errorf(region.BadInput, "%v", err)
	}
	from = max(from, 1)
	st := p.durable.Load().state
	if from > st.Last(name) {
		return nil, s.open() // the stream ends before
	}
	filter := ""
	if name != journal.Full {
		filter = " " + string(name) + " "
	}
	var batches []*journal.Batch
	for at := from; len(batches) == 0; {
		n := 0
		err := s.read(ctx, p, journalSQL, []any{p.id, int64(st.First), int64(at), int64(st.Next), filter, max(maxBytes, 1)}, func(scan func(...any) error) error {
			var first int64
			var data []byte
			if err := scan(&first, &data); err != nil {
				return err
			}
			n++
			at = max(at, uint64(first)) + 1
			b, err := journal.Decode(data)
			if err != nil {
				return region.Errorf(region.Internal, "journal of partition %d is damaged at %d", id, first).WithCause(err)
			}
			f := journal.Filter(b, name)
			if f == nil || f.Last() < from {
				return nil
			}
			// Its predecessor tells whether the stream had anything between from
			// and the oldest batch that is kept.
			if len(batches) == 0 && f.First() > from && f.Links[0].Prev >= from {
				return trimmed(name, from)
			}
			batches = append(batches, f)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, trimmed(name, from)
		}
	}
	return batches, nil
}

func trimmed(name journal.Stream, from uint64) error {
	return region.Errorf(region.NotFound, "the journal was trimmed: stream %s is gone at %d", name, from).WithHint("bootstrap the replica")
}

// beginning returns the first sequence of the batch that holds seq, or 0 when
// there is none.
func (s *Store) beginning(ctx context.Context, p *part, seq uint64) (uint64, error) {
	var first int64
	err := s.read(ctx, p, `SELECT coalesce(max(first), 0) FROM homing_journal WHERE partition = $1 AND first <= $2`, []any{p.id, int64(seq)},
		func(scan func(...any) error) error { return scan(&first) })
	return uint64(first), err
}

// deletePiece deletes some of what a partition's row says is trimmed.
func (s *Store) deletePiece(ctx context.Context, p *part) (n int64, err error) {
	err = s.read(ctx, p, `
		WITH gone AS (
			DELETE FROM homing_journal WHERE partition = $1 AND first = ANY (ARRAY(
				SELECT j.first FROM homing_journal j WHERE j.partition = $1 AND j.first < (SELECT p.first FROM homing_partition p WHERE p.partition = $1)
				ORDER BY j.partition, j.first LIMIT $2))
			RETURNING 1
		) SELECT count(*) FROM gone`, []any{p.id, trimPiece}, func(scan func(...any) error) error { return scan(&n) })
	return n, err
}

// Head returns where a partition's journal stands; the zero Head for a
// partition there is not.
func (s *Store) Head(id region.Partition) store.Head {
	p, err := s.part(id)
	if err != nil {
		return store.Head{}
	}
	return p.durable.Load().state.Head()
}

// Changed returns a channel that is closed when the partition's journal grows.
func (s *Store) Changed(id region.Partition) <-chan struct{} {
	p, err := s.part(id)
	if err != nil {
		return nil
	}
	p.changedMu.Lock()
	defer p.changedMu.Unlock()
	return p.changed
}

// Sums returns the digests of a home's rows in a partition.
func (s *Store) Sums(id region.Partition, home region.ID) journal.Watermark {
	p, err := s.part(id)
	if err != nil {
		return journal.Watermark{Home: home}
	}
	return p.durable.Load().state.Watermark(home)
}
