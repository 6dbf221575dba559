package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/lib/pq"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// maxGroup and maxGroupBytes bound a group: how long the first caller of it
// waits for the rest, and the memory for its arrays.
const (
	maxGroup      = 4096
	maxGroupBytes = 8 << 20
)

// op is what a caller wants done in one partition, or in all of a database.
type op struct {
	ctx  context.Context
	part *part // nil: every partition of the database
	keys []key
	size int // bytes
	eval func(*step) error

	done chan struct{} // closed when err is final
	err  error         // nil: done and durable
}

// wait blocks until the operation is durable or refused, or its context ends.
// Once its group is under way it happens all the same then.
func (o *op) wait() error {
	select {
	case <-o.done:
		return o.err
	default:
	}
	select {
	case <-o.done:
		return o.err
	case <-o.ctx.Done():
		return o.ctx.Err()
	}
}

// group is what one transaction writes. It is sent again exactly as it was until
// its outcome is known.
type group struct {
	id       string
	steps    map[*part]*step
	timeline string // "" leaves it
	args     []any
	moved    []any // arguments of the positions' statement; nil for none
	kept     []any // of the copies' statement; nil for none
	erased   []any // of the removed rows' statement; nil for none
	forgot   []any // of the forgotten copies' statement; nil for none
	writes   int
	journal  int  // bytes
	unknown  bool // it was sent, and nobody knows what became of it
}

// fetchSQL reads what a step needs of rows. Sums spare it their values.
const fetchSQL = `
SELECT k.i, r.version, r.deleted, r.home, r.sum, r.moves, r.counter, r.raised
FROM unnest($1::integer[], $2::bigint[], $3::smallint[], $4::bytea[]) WITH ORDINALITY AS k (partition, owner, tab, key, i)
JOIN homing_row r ON r.partition = k.partition AND r.owner = k.owner AND r.tab = k.tab AND r.key = k.key`

// writeSQL writes a group. It returns how many partitions were as the group
// before left them and this process's to write: all, or the transaction is
// rolled back.
const writeSQL = `
WITH p AS (
	UPDATE homing_partition p SET group_id = $2, incarnation = u.incarnation, first = u.first, next = u.next,
		unix_milli = u.unix_milli, heads = u.heads, sums = u.sums, fence = u.fence, turns = u.turns
	FROM unnest($3::integer[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], $28::text[])
		AS u (partition, was, incarnation, first, next, unix_milli, heads, sums, fence, turns), homing_store s
	WHERE p.partition = u.partition AND p.group_id = u.was AND s.token = $1
	RETURNING 1
), r AS (
	INSERT INTO homing_row (partition, owner, tab, key, version, moves, counter, raised, deleted, home, sum, value)
	SELECT * FROM unnest($12::integer[], $13::bigint[], $14::smallint[], $15::bytea[], $16::bigint[], $17::bigint[], $18::bigint[],
		$19::bytea[], $20::boolean[], $21::text[], $22::bytea[], $23::bytea[])
	ON CONFLICT (partition, owner, tab, key) DO UPDATE SET version = excluded.version, moves = excluded.moves, counter = excluded.counter,
		raised = excluded.raised, deleted = excluded.deleted, home = excluded.home, sum = excluded.sum, value = excluded.value
), j AS (
	INSERT INTO homing_journal (partition, first, streams, data)
	SELECT * FROM unnest($24::integer[], $25::bigint[], $26::text[], $27::bytea[])
)
SELECT count(*) FROM p`

const moveSQL = `
INSERT INTO homing_position (partition, origin, stream, incarnation, seq, chain, unix_milli)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[])
ON CONFLICT (partition, origin, stream) DO UPDATE SET incarnation = excluded.incarnation, seq = excluded.seq, chain = excluded.chain, unix_milli = excluded.unix_milli`

const keepSQL = `
INSERT INTO homing_copy (partition, origin, first, last, data)
SELECT * FROM unnest($1::integer[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[])
ON CONFLICT (partition, origin, first) DO UPDATE SET last = excluded.last, data = excluded.data`

const eraseSQL = `
DELETE FROM homing_row r USING unnest($1::integer[], $2::bigint[], $3::smallint[], $4::bytea[]) AS k (partition, owner, tab, key)
WHERE r.partition = k.partition AND r.owner = k.owner AND r.tab = k.tab AND r.key = k.key`

const forgetSQL = `
DELETE FROM homing_copy c USING unnest($1::integer[], $2::text[]) AS k (partition, origin)
WHERE c.partition = k.partition AND c.origin = k.origin`

// step begins a partition's part of a group.
func (d *shard) step(p *part) *step {
	s := &step{places: map[key]int{}}
	s.Step = partition.Step{
		Self: d.store.options.Region, Partition: p.id, State: p.durable.Load().state.Clone(), Engine: s,
		Now: func() int64 { return d.store.options.Now().UnixMilli() },
	}
	return s
}

// fetch reads the rows that operations name into their partitions' steps.
func (d *shard) fetch(ops []*op, steps map[*part]*step) error {
	var parts, owners []int64
	var tables []int64
	var keys pq.ByteaArray
	var at []int // place in the step's rows
	var in []*step
	for _, o := range ops {
		for _, k := range o.keys {
			step := steps[o.part]
			place, news := step.name(k)
			if !news {
				continue
			}
			parts, owners, tables, keys = append(parts, int64(o.part.id)), append(owners, int64(k.owner)), append(tables, int64(k.table)), append(keys, []byte(k.row))
			at, in = append(at, place), append(in, step)
		}
	}
	if len(at) == 0 {
		return nil
	}
	return d.session.guard(func() error {
		rows, err := d.session.fetch.QueryContext(always, pq.Array(parts), pq.Array(owners), pq.Array(tables), keys)
		if err != nil {
			return err
		}
		defer rows.Close()
		var i, version, moves, counter int64
		var digest, raised []byte
		var home string
		for rows.Next() {
			var deleted bool
			if err := rows.Scan(&i, &version, &deleted, &home, &digest, &moves, &counter, &raised); err != nil {
				return err
			}
			if i < 1 || int(i) > len(at) {
				return region.Errorf(region.Internal, "database %d answers what it was not asked", d.number)
			}
			c := &in[i-1].rows[at[i-1]]
			if copy(c.found.Sum[:], digest) != len(c.found.Sum) {
				return region.Errorf(region.Internal, "row %x of table %d of %d is damaged", c.key.row, c.key.table, c.key.owner)
			}
			c.found.Version, c.found.Deleted, c.found.Home = uint64(version), deleted, region.ID(home)
			c.found.Epoch.Moves, c.found.Epoch.Term.Counter = uint64(moves), uint64(counter)
			copy(c.found.Epoch.Term.Raised[:], raised)
		}
		return rows.Err()
	})
}

// assemble makes one transaction of what steps changed; nil when nothing did.
func (d *shard) assemble(steps map[*part]*step) (*group, error) {
	g := &group{id: d.newID(), steps: map[*part]*step{}}
	var p struct {
		id, incarnation, first, next, milli []int64
		was, heads, sums, fence, turns      []string
	}
	var r rowColumns
	var j journalColumns
	var m positionColumns
	var k copyColumns
	var gone rowColumns
	var forgot copyColumns
	for q, s := range steps {
		if !s.changed() {
			continue
		}
		g.steps[q] = s
		c, err := encode(s.State)
		if err != nil {
			return nil, err
		}
		p.id, p.was = append(p.id, int64(q.id)), append(p.was, q.durable.Load().group)
		p.incarnation, p.first, p.next = append(p.incarnation, int64(s.State.Incarnation)), append(p.first, int64(s.State.First)), append(p.next, int64(s.State.Next))
		p.milli, p.heads, p.sums, p.fence = append(p.milli, s.State.UnixMilli), append(p.heads, c.heads), append(p.sums, c.sums), append(p.fence, c.fence)
		p.turns = append(p.turns, c.turns)
		for i := range s.rows {
			if !s.rows[i].written {
				continue
			}
			k, row := &s.rows[i].key, &s.rows[i].row
			if s.rows[i].gone {
				gone.add(q.id, k.owner, k.table, []byte(k.row), row)
				continue
			}
			r.add(q.id, k.owner, k.table, []byte(k.row), row)
		}
		for _, e := range s.journal {
			j.add(q.id, e.first, e.streams, e.data)
			g.journal += len(e.data)
		}
		for _, origin := range s.forgot {
			forgot.part, forgot.origin = append(forgot.part, int64(q.id)), append(forgot.origin, string(origin))
		}
		for _, b := range s.kept {
			k.add(q.id, b, journal.Encode(b))
		}
		for i := range s.moved {
			m.add(q.id, &s.moved[i])
		}
	}
	if len(g.steps) == 0 {
		return nil, nil
	}
	g.writes = len(r.part)
	a := func(s any) any { return pq.Array(s) }
	g.args = append([]any{
		d.token, g.id,
		a(p.id), a(p.was), a(p.incarnation), a(p.first), a(p.next), a(p.milli), a(p.heads), a(p.sums), a(p.fence),
	}, append(append(r.args(), j.args()...), a(p.turns))...)
	if len(m.part) > 0 {
		g.moved = m.args()
	}
	if len(k.part) > 0 {
		g.kept = k.args()
	}
	if len(gone.part) > 0 {
		g.erased = gone.args()[:4]
	}
	if len(forgot.part) > 0 {
		g.forgot = []any{a(forgot.part), a(forgot.origin)}
	}
	return g, nil
}

// present makes no value an empty one: lib/pq writes nil as NULL.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// write sends a group. Afterwards g.unknown says whether its COMMIT was sent and
// not answered.
func (d *shard) write(g *group) error {
	s := d.session
	g.unknown = false
	start := time.Now()
	err := s.guard(func() error {
		if _, err := s.conn.ExecContext(always, "BEGIN"); err != nil {
			return err
		}
		err := d.fill(g)
		if err != nil {
			_, _ = s.conn.ExecContext(always, "ROLLBACK")
			return err
		}
		s.warned.Store(false)
		g.unknown = true
		if d.store.beforeCommit != nil {
			d.store.beforeCommit()
		}
		_, err = s.conn.ExecContext(always, "COMMIT")
		if e := (*pq.Error)(nil); errors.As(err, &e) && e.Code.Class() == "40" {
			g.unknown = false // the server says that it rolled back
		}
		if err == nil && s.warned.Load() {
			err = errWarned
		}
		return err
	})
	if err == nil {
		g.unknown = false
		d.store.metrics.seconds.Observe(time.Since(start).Seconds())
	}
	return err
}

// fill sends everything of a group's transaction but its COMMIT.
func (d *shard) fill(g *group) error {
	s := d.session
	var n int
	if err := s.write.QueryRowContext(always, g.args...).Scan(&n); err != nil {
		return err
	}
	if n != len(g.steps) {
		if err := d.ousted(); err != errNotOusted {
			return err
		}
		return d.store.fail(region.Errorf(region.Internal, "database %d was changed by somebody else", d.number).
			WithHint("find out who wrote into it, then restart this node"))
	}
	if g.moved != nil {
		if _, err := s.conn.ExecContext(always, moveSQL, g.moved...); err != nil {
			return err
		}
	}
	if g.erased != nil {
		if _, err := s.conn.ExecContext(always, eraseSQL, g.erased...); err != nil {
			return err
		}
	}
	if g.forgot != nil {
		if _, err := s.conn.ExecContext(always, forgetSQL, g.forgot...); err != nil {
			return err
		}
	}
	if g.kept != nil {
		if _, err := s.conn.ExecContext(always, keepSQL, g.kept...); err != nil {
			return err
		}
	}
	if g.timeline != "" {
		if _, err := s.conn.ExecContext(always, `UPDATE homing_store SET timeline = $1`, g.timeline); err != nil {
			return err
		}
	}
	return nil
}
