package postgres

import (
	"context"
	"maps"
	"strconv"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Handover writes down that a home changes hands: see store.Store.
func (s *Store) Handover(ctx context.Context, id region.Partition, h store.Handover) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.ValidateHandover(h); err != nil {
		return err
	}
	p, err := s.part(id)
	if err != nil {
		return err
	}
	return s.do(&op{ctx: ctx, part: p, eval: func(step *step) error {
		_, err := step.Handover(h)
		return err
	}})
}

// Turns returns how ownership stands in a partition, by home.
func (s *Store) Turns(id region.Partition) map[region.ID]store.Turn {
	p, err := s.part(id)
	if err != nil {
		return nil
	}
	return maps.Clone(p.durable.Load().state.Turns)
}

// copySQL is journalSQL of what was kept of another region's journal.
var copySQL = `
SELECT data FROM (
	SELECT first, data, sum(octet_length(data)) OVER (ORDER BY first) - octet_length(data) AS before FROM (
		SELECT first, data FROM homing_copy WHERE partition = $1 AND origin = $2 AND last >= $3
		ORDER BY partition, origin, first LIMIT ` + strconv.Itoa(journalPiece) + `
	) piece
) sized WHERE before < $4 ORDER BY first`

// Copy returns batches that were kept of another region's full stream: see
// store.Store.
func (s *Store) Copy(ctx context.Context, origin region.ID, id region.Partition, name journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := store.ValidateCopy(s.options.Region, len(s.parts), origin, id, name); err != nil {
		return nil, err
	}
	p := s.parts[id]
	from = max(from, 1)
	end := p.durable.Load().state.Positions[partition.Source{Origin: origin, Stream: journal.Full}].Seq
	var batches []*journal.Batch
	for at := from; at <= end && len(batches) == 0; {
		n := 0
		err := s.read(ctx, p, copySQL, []any{p.id, string(origin), int64(at), max(maxBytes, 1)}, func(scan func(...any) error) error {
			var data []byte
			if err := scan(&data); err != nil {
				return err
			}
			b, err := journal.Decode(data)
			if err != nil {
				return region.Errorf(region.Internal, "the copy of %s's journal is damaged", origin).WithCause(err)
			}
			n++
			at = max(at, b.Last()+1)
			f := journal.Filter(b, name)
			if f == nil || len(f.Links) == 0 || f.Last() < from || f.First() > end {
				return nil
			}
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
			if name == journal.Full {
				return nil, trimmed(name, from)
			}
			break
		}
	}
	return batches, s.open()
}

// TrimCopy forgets kept batches that end before a sequence.
func (s *Store) TrimCopy(ctx context.Context, origin region.ID, id region.Partition, before uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.ValidateCopy(s.options.Region, len(s.parts), origin, id, journal.Full); err != nil {
		return err
	}
	return s.read(ctx, s.parts[id], `
		WITH gone AS (DELETE FROM homing_copy WHERE partition = $1 AND origin = $2 AND last < $3 RETURNING 1) SELECT count(*) FROM gone`,
		[]any{s.parts[id].id, string(origin), int64(before)}, func(scan func(...any) error) error {
			var n int64
			return scan(&n)
		})
}
