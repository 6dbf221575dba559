package pebble

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// changed is the lowest bit of a home's flags; the others are its unsettled
// watermarks.
const changed = 1

// appendState appends a partition's state row: see the package comment. Fences
// and positions have rows of their own.
func appendState(dst []byte, s *partition.State) []byte {
	dst = binary.AppendUvarint(dst, s.Incarnation)
	dst = binary.AppendUvarint(dst, s.First)
	dst = binary.AppendUvarint(dst, s.Next)
	dst = binary.AppendVarint(dst, s.UnixMilli)
	dst = binary.AppendUvarint(dst, uint64(len(s.Heads)))
	for i := range s.Heads {
		dst = appendText(dst, string(s.Heads[i].Stream))
		dst = binary.AppendUvarint(dst, s.Heads[i].Last)
		dst = append(dst, s.Heads[i].Chain[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Sums)))
	for _, home := range slices.Sorted(maps.Keys(s.Sums)) {
		h := s.Sums[home]
		dst = appendText(dst, string(home))
		flags := byte(h.Unsettled) << 1
		if h.Changed {
			flags |= changed
		}
		dst = append(dst, flags)
		dst = append(dst, h.Shared.Sum[:]...)
		dst = binary.AppendUvarint(dst, h.Shared.Rows)
		dst = append(dst, h.Own.Sum[:]...)
		dst = binary.AppendUvarint(dst, h.Own.Rows)
	}
	return dst
}

// decodeState reads a state row.
func decodeState(b []byte) (*partition.State, error) {
	r := reader{data: b}
	s := partition.New()
	s.Incarnation, s.First, s.Next, s.UnixMilli = r.uint(), r.uint(), r.uint(), r.int()
	for n := r.uint(); n > 0 && r.err == nil; n-- {
		s.Heads = append(s.Heads, journal.StreamHead{Stream: journal.Stream(r.text()), Last: r.uint(), Chain: r.sum()})
	}
	for n := r.uint(); n > 0 && r.err == nil; n-- {
		home, h := region.ID(r.text()), &partition.Sums{}
		flags := r.byte()
		h.Changed, h.Unsettled = flags&changed != 0, int(flags>>1)
		if h.Unsettled > partition.Settling {
			r.fail()
		}
		h.Shared = partition.Tally{Sum: r.sum(), Rows: r.uint()}
		h.Own = partition.Tally{Sum: r.sum(), Rows: r.uint()}
		s.Sums[home] = h
	}
	if r.err == nil && len(r.data) > 0 {
		r.fail()
	}
	return s, r.err
}
