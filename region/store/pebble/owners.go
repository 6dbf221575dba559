package pebble

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// Owners lists a table's owners: see store.Store. Rows lie by owner and then by
// table, so it seeks from owner to owner.
func (s *Store) Owners(ctx context.Context, id region.Partition, t journal.Table, after region.UIN, limit int) ([]region.UIN, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := s.part(id); err != nil {
		return nil, err
	}
	snap, release, err := s.read()
	if err != nil {
		return nil, err
	}
	defer release()
	const last = region.UIN(math.MaxInt64)
	if after >= last {
		return nil, nil
	}
	it, err := snap.NewIter(&pebble.IterOptions{
		LowerBound: appendRowKey(nil, id, after+1, 0, nil),
		UpperBound: appendRowKey(nil, id, last+1, 0, nil),
	})
	if err != nil {
		return nil, s.unreadable(err)
	}
	defer func() { _ = it.Close() }()
	var owners []region.UIN
	steps := 0
	for ok := it.First(); ok && len(owners) < limit; {
		if steps++; steps%patience == 0 && ctx.Err() != nil {
			return owners, ctx.Err()
		}
		owner := region.UIN(binary.BigEndian.Uint64(it.Key()[3:]))
		switch have := journal.Table(it.Key()[rowPrefix-1]); {
		case have < t:
			ok = it.SeekGE(appendRowKey(nil, id, owner, t, nil))
			continue
		case have == t:
			owners = append(owners, owner)
		}
		ok = owner < last && it.SeekGE(appendRowKey(nil, id, owner+1, 0, nil))
	}
	if err := it.Error(); err != nil {
		return owners, s.unreadable(err)
	}
	return owners, nil
}
