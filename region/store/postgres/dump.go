package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Dump gives a partition to the sink, as of one transaction: see dump.Source. It
// takes one of the connections for reads meanwhile.
func (s *Store) Dump(ctx context.Context, id region.Partition, to partition.Sink) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := s.part(id)
	if err != nil {
		return err
	}
	s.readMu.RLock()
	defer s.readMu.RUnlock()
	if s.closed {
		return errClosed()
	}
	if p.shard.unsettled.Load() {
		return p.shard.unreachable(nil)
	}
	err = s.dump(ctx, p, to)
	var e *region.Error
	switch {
	case err == nil || errors.As(err, &e):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case temporary(err):
		return p.shard.unreachable(err)
	}
	return region.Errorf(region.Internal, "database %d of the store cannot be read", p.shard.number).WithCause(err)
}

func (s *Store) dump(ctx context.Context, p *part, to partition.Sink) error {
	tx, err := p.shard.reader.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	each := func(query string, yield func(scan func(...any) error) error, args ...any) error {
		rows, err := tx.QueryContext(ctx, query, args...)
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
	}
	st := partition.New()
	err = each(`SELECT incarnation, first, next, unix_milli, heads, sums, fence, turns FROM homing_partition WHERE partition = $1`, func(scan func(...any) error) error {
		c := columns{}
		if err := scan(&st.Incarnation, &st.First, &st.Next, &st.UnixMilli, &c.heads, &c.sums, &c.fence, &c.turns); err != nil {
			return err
		}
		return c.decode(st)
	}, p.id)
	if err != nil {
		return err
	}
	// What is visible is what this process knows to be durable, or will in a
	// moment: its group's COMMIT is answered.
	if err := s.reached(ctx, p, st.Next); err != nil {
		return err
	}
	err = each(`SELECT partition, origin, stream, incarnation, seq, chain, unix_milli FROM homing_position WHERE partition = $1`, func(scan func(...any) error) error {
		at, err := scanPosition(scan)
		st.Positions[partition.Source{Origin: at.Origin, Stream: at.Stream}] = at
		return err
	}, p.id)
	if err == nil {
		err = to.State(p.id, st)
	}
	if err != nil {
		return err
	}
	// The driver hands rows on as they come: nothing is held but one.
	err = each(`SELECT owner, tab, key, version, moves, counter, raised, deleted, home, value, sum FROM homing_row WHERE partition = $1 ORDER BY partition, owner, tab, key`, func(scan func(...any) error) error {
		var owner, version, moves, counter int64
		var table uint8
		var key, raised sql.RawBytes
		var r partition.Row
		var value, sum sql.RawBytes
		if err := scan(&owner, &table, &key, &version, &moves, &counter, &raised, &r.Deleted, &r.Home, &value, &sum); err != nil {
			return err
		}
		r.Version, r.Value = uint64(version), value
		r.Epoch.Moves, r.Epoch.Term.Counter = uint64(moves), uint64(counter)
		if copy(r.Epoch.Term.Raised[:], raised) != len(r.Epoch.Term.Raised) {
			return region.Errorf(region.Internal, "row %x of table %d of %d is damaged", []byte(key), table, uint64(owner))
		}
		copy(r.Sum[:], sum) // as it is kept: whoever needs to be sure adds it up
		return to.Row(region.UIN(owner), journal.Table(table), key, &r)
	}, p.id)
	if err != nil {
		return err
	}
	err = each(`SELECT first, data FROM homing_journal WHERE partition = $1 AND first >= $2 ORDER BY partition, first`, func(scan func(...any) error) error {
		var first int64
		var data sql.RawBytes
		if err := scan(&first, &data); err != nil {
			return err
		}
		return to.Batch(uint64(first), data)
	}, p.id, int64(st.First))
	if err != nil {
		return err
	}
	return each(`SELECT data FROM homing_copy WHERE partition = $1 ORDER BY partition, origin, first`, func(scan func(...any) error) error {
		var data sql.RawBytes
		if err := scan(&data); err != nil {
			return err
		}
		return to.Copy(data)
	}, p.id)
}

// reached waits until this process knows a partition's journal up to next to be
// durable.
func (s *Store) reached(ctx context.Context, p *part, next uint64) error {
	for {
		changed := s.Changed(p.id)
		if p.durable.Load().state.Next >= next {
			return nil
		}
		select {
		case <-changed:
		case <-s.closing:
			return errClosed()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
