package postgres

import (
	"database/sql"
	"fmt"
	"strings"

	"github.com/lib/pq"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// rowColumns, journalColumns, positionColumns and copyColumns are arrays for unnest.
type rowColumns struct {
	part, owner, table, version, moves, counter []int64
	key, raised, sum, value                     pq.ByteaArray
	deleted                                     []bool
	home                                        []string
}

func (r *rowColumns) add(id region.Partition, owner region.UIN, t journal.Table, key []byte, row *partition.Row) {
	raised, digest := row.Epoch.Term.Raised, row.Sum
	r.part, r.owner, r.table, r.key = append(r.part, int64(id)), append(r.owner, int64(owner)), append(r.table, int64(t)), append(r.key, present(key))
	r.version, r.moves, r.counter = append(r.version, int64(row.Version)), append(r.moves, int64(row.Epoch.Moves)), append(r.counter, int64(row.Epoch.Term.Counter))
	r.raised, r.sum, r.value = append(r.raised, raised[:]), append(r.sum, digest[:]), append(r.value, present(row.Value))
	r.deleted, r.home = append(r.deleted, row.Deleted), append(r.home, string(row.Home))
}

func (r *rowColumns) args() []any {
	return []any{pq.Array(r.part), pq.Array(r.owner), pq.Array(r.table), r.key, pq.Array(r.version), pq.Array(r.moves), pq.Array(r.counter),
		r.raised, pq.Array(r.deleted), pq.Array(r.home), r.sum, r.value}
}

type journalColumns struct {
	part, first []int64
	streams     []string
	data        pq.ByteaArray
}

func (j *journalColumns) add(id region.Partition, first uint64, streams []journal.Stream, data []byte) {
	var names strings.Builder
	for _, name := range streams {
		names.WriteString(" " + string(name))
	}
	j.part, j.first, j.streams, j.data = append(j.part, int64(id)), append(j.first, int64(first)), append(j.streams, names.String()+" "), append(j.data, data)
}

func (j *journalColumns) args() []any {
	return []any{pq.Array(j.part), pq.Array(j.first), pq.Array(j.streams), j.data}
}

type positionColumns struct {
	part, incarnation, seq, milli []int64
	origin, stream                []string
	chain                         pq.ByteaArray
}

func (m *positionColumns) add(id region.Partition, at *journal.Position) {
	chain := at.Chain
	m.part, m.origin, m.stream = append(m.part, int64(id)), append(m.origin, string(at.Origin)), append(m.stream, string(at.Stream))
	m.incarnation, m.seq, m.milli, m.chain = append(m.incarnation, int64(at.Incarnation)), append(m.seq, int64(at.Seq)), append(m.milli, at.UnixMilli), append(m.chain, chain[:])
}

func (m *positionColumns) args() []any {
	return []any{pq.Array(m.part), pq.Array(m.origin), pq.Array(m.stream), pq.Array(m.incarnation), pq.Array(m.seq), m.chain, pq.Array(m.milli)}
}

// scanPosition reads the columns partition, origin, stream, incarnation, seq,
// chain and unix_milli.
func scanPosition(scan func(...any) error) (at journal.Position, err error) {
	var chain sql.RawBytes
	if err := scan(&at.Partition, &at.Origin, &at.Stream, &at.Incarnation, &at.Seq, &chain, &at.UnixMilli); err != nil {
		return at, err
	}
	if copy(at.Chain[:], chain) != len(at.Chain) {
		return at, fmt.Errorf("the position of %s %s in partition %d is damaged", at.Origin, at.Stream, at.Partition)
	}
	return at, nil
}

type copyColumns struct {
	part, first, last []int64
	origin            []string
	data              pq.ByteaArray
}

func (k *copyColumns) add(id region.Partition, b *journal.Batch, data []byte) {
	k.part, k.origin, k.first = append(k.part, int64(id)), append(k.origin, string(b.Origin)), append(k.first, int64(b.First()))
	k.last, k.data = append(k.last, int64(b.Last())), append(k.data, data)
}

func (k *copyColumns) args() []any {
	return []any{pq.Array(k.part), pq.Array(k.origin), pq.Array(k.first), pq.Array(k.last), k.data}
}
