package partition

import (
	"bytes"
	"hash/maphash"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// seen numbers the rows of an operation in the order in which they are first asked
// for. A map by the rows' whole keys would need memory for each of them.
type seen struct {
	seed maphash.Seed // zero until it is used
	at   map[uint64]int
	rows []seenRow
}

type seenRow struct {
	owner region.UIN
	row   *journal.RowRecord // of which table and key count
}

func (s *seen) forget() {
	if s.at == nil {
		s.seed, s.at = maphash.MakeSeed(), map[uint64]int{}
	}
	clear(s.at)
	clear(s.rows)
	s.rows = s.rows[:0]
}

// place returns a row's number, and whether it has been asked for before.
func (s *seen) place(owner region.UIN, w *journal.RowRecord) (at int, again bool) {
	h := s.hash(owner, w)
	for ; ; h++ { // the next free number, when two rows have the same
		at, taken := s.at[h]
		if !taken {
			break
		}
		if r := &s.rows[at]; r.owner == owner && r.row.Table == w.Table && bytes.Equal(r.row.Row, w.Row) {
			return at, true
		}
	}
	s.at[h] = len(s.rows)
	s.rows = append(s.rows, seenRow{owner, w})
	return len(s.rows) - 1, false
}

func (s *seen) hash(owner region.UIN, w *journal.RowRecord) uint64 {
	return maphash.Bytes(s.seed, w.Row) ^ (uint64(owner)<<8|uint64(w.Table))*0x9e3779b97f4a7c15
}
