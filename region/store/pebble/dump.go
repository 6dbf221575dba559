package pebble

import (
	"context"
	"encoding/binary"
	"encoding/json"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Dump gives a partition to the sink, as of one group: see dump.Source. Files
// that compactions have replaced stay on the disk meanwhile.
func (s *Store) Dump(ctx context.Context, id region.Partition, to partition.Sink) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := s.part(id); err != nil {
		return err
	}
	snap, release, err := s.read()
	if err != nil {
		return err
	}
	defer release()
	d := dumper{s: s, snap: snap, ctx: ctx}
	st, err := d.state(id)
	if err != nil {
		return err
	}
	if err := to.State(id, st); err != nil {
		return err
	}
	prefix := binary.BigEndian.AppendUint16([]byte{'r'}, uint16(id))
	err = d.each(prefix, func(k, v []byte) error {
		f, err := decodeRow(v, nil)
		if err != nil || len(k) < rowPrefix {
			return region.Errorf(region.Internal, "row %x is damaged", k).WithCause(err)
		}
		owner, table := region.UIN(binary.BigEndian.Uint64(k[3:])), journal.Table(k[rowPrefix-1])
		return to.Row(owner, table, k[rowPrefix:], &partition.Row{Version: f.version, Deleted: f.deleted, Home: f.home, Epoch: f.epoch, Value: f.value})
	})
	if err != nil {
		return err
	}
	prefix[0] = 'j'
	err = d.each(prefix, func(k, v []byte) error {
		return to.Batch(journalSeq(k), v)
	})
	if err != nil {
		return err
	}
	prefix[0] = 'k'
	return d.each(prefix, func(_, v []byte) error { return to.Copy(v) })
}

// dumper reads one snapshot.
type dumper struct {
	s    *Store
	snap *snapshot
	ctx  context.Context
}

// each calls yield for every key that begins with prefix.
func (d *dumper) each(prefix []byte, yield func(k, v []byte) error) error {
	it, err := d.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return d.s.unreadable(err)
	}
	steps := 0
	for it.First(); it.Valid() && err == nil; it.Next() {
		if steps++; steps%patience == 0 {
			err = d.ctx.Err()
		}
		if err == nil {
			err = yield(it.Key(), it.Value())
		}
	}
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = d.s.unreadable(closeErr)
	}
	return err
}

// state puts together what lies under several keys.
func (d *dumper) state(id region.Partition) (*partition.State, error) {
	st := partition.New()
	err := d.each(keyState(id), func(_, v []byte) error {
		have, err := decodeState(v)
		if err != nil {
			return region.Errorf(region.Internal, "the state of partition %d is damaged", id).WithCause(err)
		}
		st = have
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = d.each([]byte{'f'}, func(k, v []byte) error {
		r := reader{data: v}
		st.Fence[region.ID(k[1:])] = r.term()
		return r.err
	})
	if err != nil {
		return nil, err
	}
	prefix := binary.BigEndian.AppendUint16([]byte{'t'}, uint16(id))
	err = d.each(prefix, func(k, v []byte) error {
		var t store.Turn
		err := json.Unmarshal(v, &t)
		st.Turns[region.ID(k[3:])] = t
		return err
	})
	if err != nil {
		return nil, err
	}
	prefix[0] = 'p'
	return st, d.each(prefix, func(k, v []byte) error {
		at, err := decodePosition(k, v)
		st.Positions[partition.Source{Origin: at.Origin, Stream: at.Stream}] = at
		return err
	})
}
