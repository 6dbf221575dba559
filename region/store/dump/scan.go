package dump

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Difference is a home whose rows in a partition are not those that the store
// wrote: somebody or something changed them behind its back.
type Difference struct {
	Partition region.Partition
	Home      region.ID
}

// Scan adds up a partition's rows again and returns the homes whose digests the
// store keeps otherwise, by name. It holds the rows as of one position against
// the digests at the same, so commits may go on. It blocks for as long as reading
// all rows of the partition takes.
//
// Errors: those of Source.Dump.
func Scan(ctx context.Context, from Source, id region.Partition) ([]Difference, error) {
	s := &scan{check: newCheck(from.Region(), from.Partitions(), id, partition.New()), odd: map[region.ID]bool{}}
	if err := from.Dump(ctx, id, s); err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	for _, home := range slices.Concat(slices.Collect(maps.Keys(s.sums)), slices.Collect(maps.Keys(s.state.Sums))) {
		var want, have partition.Sums
		if w := s.state.Sums[home]; w != nil {
			want = *w
		}
		if h := s.sums[home]; h != nil {
			have = *h
		}
		if want.Shared != have.Shared || want.Own != have.Own {
			s.odd[home] = true
		}
	}
	var out []Difference
	for _, home := range slices.Sorted(maps.Keys(s.odd)) {
		out = append(out, Difference{id, home})
	}
	return out, nil
}

// scan is the Sink that adds up.
type scan struct {
	*check
	odd map[region.ID]bool
}

// State implements partition.Sink.
func (s *scan) State(_ region.Partition, st *partition.State) error {
	s.state = st
	return nil
}

// Row implements partition.Sink.
func (s *scan) Row(owner region.UIN, t journal.Table, key []byte, r *partition.Row) error {
	kept := r.Sum
	row := *r
	if err := s.row(owner, t, key, &row); err != nil {
		s.odd[r.Home] = true // a row that no commit put into this partition
		return nil
	}
	// An engine that keeps digests with rows may have one that is not the row's.
	if kept != (journal.Sum{}) && kept != row.Sum {
		s.odd[r.Home] = true
	}
	return nil
}

// Batch implements partition.Sink.
func (s *scan) Batch(uint64, []byte) error { return errEnough }

// Copy implements partition.Sink.
func (s *scan) Copy([]byte) error { return errEnough }
