package postgres

import (
	"context"
	"math"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// nextOwners steps from owner to owner along the primary key, instead of
// reading all their rows.
const nextOwners = `WITH RECURSIVE o (owner) AS (
	(SELECT owner FROM homing_row WHERE partition = $1 AND owner > $2 AND tab = $3 ORDER BY owner LIMIT 1)
	UNION ALL
	SELECT (SELECT r.owner FROM homing_row r WHERE r.partition = $1 AND r.owner > o.owner AND r.tab = $3 ORDER BY r.owner LIMIT 1)
	FROM o WHERE o.owner IS NOT NULL
) SELECT owner FROM o WHERE owner IS NOT NULL LIMIT $4`

// Owners lists a table's owners: see store.Store.
func (s *Store) Owners(ctx context.Context, id region.Partition, t journal.Table, after region.UIN, limit int) ([]region.UIN, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := s.part(id)
	if err != nil || after > math.MaxInt64 {
		return nil, err
	}
	var owners []region.UIN
	err = s.read(ctx, p, nextOwners, []any{p.id, int64(after), int64(t), limit}, func(scan func(...any) error) error {
		var owner int64
		if err := scan(&owner); err != nil {
			return err
		}
		owners = append(owners, region.UIN(owner))
		return nil
	})
	return owners, err
}
