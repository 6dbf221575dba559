package postgres

import (
	"errors"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// loadPiece is how many bytes of rows or journal one statement inserts.
const loadPiece = 4 << 20

const loadRowsSQL = `
INSERT INTO homing_row (partition, owner, tab, key, version, moves, counter, raised, deleted, home, sum, value)
SELECT * FROM unnest($1::integer[], $2::bigint[], $3::smallint[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[],
	$8::bytea[], $9::boolean[], $10::text[], $11::bytea[], $12::bytea[])`

const loadJournalSQL = `
INSERT INTO homing_journal (partition, first, streams, data)
SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::bytea[])`

const loadStateSQL = `
INSERT INTO homing_partition (partition, group_id, incarnation, first, next, unix_milli, heads, sums, fence, turns)
VALUES ($1, '', $2, $3, $4, $5, $6, $7, $8, $9)`

// Loader fills empty databases with a store that was dumped. It is a
// partition.Sink, for one goroutine.
//
// Until Commit returns, Open refuses the databases: what was loaded half is
// never served. A Loader of the same databases begins anew then.
type Loader struct {
	store *Store
	id    region.Partition
	rows  rowColumns
	log   journalColumns
	kept  copyColumns
	size  int
}

// Load opens databases to be filled. They have to be empty, or to hold what an
// earlier Loader left unfinished.
//
// Errors: region.Conflict when one holds a store; otherwise those of Open.
func Load(options Options) (*Loader, error) {
	s, all, err := newStore(options)
	if err != nil {
		return nil, err
	}
	l := &Loader{store: s}
	for _, d := range s.shards {
		if err := l.begin(d, all); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// begin marks a database as unfinished, and empties it of what was.
func (l *Loader) begin(d *shard, all []migration) error {
	o := l.store.options
	if err := d.enter(all); err != nil {
		return err
	}
	s := d.session
	n, err := s.exec(`INSERT INTO homing_store (region, partitions, shard, shards, token, timeline, loading) VALUES ($1, $2, $3, $4, $5, $6, true)
		ON CONFLICT (one) DO UPDATE SET region = $1, partitions = $2, shard = $3, shards = $4, token = $5, timeline = $6 WHERE homing_store.loading`,
		string(o.Region), o.Partitions, d.number, len(o.DSNs), newToken(), s.timeline)
	if err == nil && n == 0 {
		return region.Errorf(region.Conflict, "database %d has a store already", d.number).
			WithHint("load into an empty database, or into a schema of its own with search_path in the DSN")
	}
	if err == nil {
		_, err = s.exec(`TRUNCATE homing_partition, homing_row, homing_journal, homing_position, homing_copy`)
	}
	if err != nil {
		return d.refused(err)
	}
	return nil
}

func (l *Loader) shard() *shard { return l.store.parts[l.id].shard }

// exec inserts, with what an operator has to know when it fails.
func (l *Loader) exec(query string, args ...any) error {
	d := l.shard()
	if _, err := d.session.exec(query, args...); err != nil {
		return d.refused(err)
	}
	return nil
}

// State implements partition.Sink.
func (l *Loader) State(id region.Partition, st *partition.State) error {
	if err := l.flush(0); err != nil {
		return err
	}
	l.id = id
	c, err := encode(st)
	if err != nil {
		return err
	}
	if err := l.exec(loadStateSQL, int64(id), int64(st.Incarnation), int64(st.First), int64(st.Next), st.UnixMilli, c.heads, c.sums, c.fence, c.turns); err != nil {
		return err
	}
	var m positionColumns
	for _, at := range st.Positions {
		m.add(id, &at)
	}
	if len(m.part) == 0 {
		return nil
	}
	return l.exec(moveSQL, m.args()...)
}

// Row implements partition.Sink.
func (l *Loader) Row(owner region.UIN, t journal.Table, key []byte, r *partition.Row) error {
	c := *r
	c.Value = append([]byte(nil), r.Value...) // it is the caller's, and is sent later
	l.rows.add(l.id, owner, t, append([]byte(nil), key...), &c)
	l.size += len(key) + len(r.Value)
	return l.flush(loadPiece)
}

// Batch implements partition.Sink.
func (l *Loader) Batch(first uint64, data []byte) error {
	links, err := journal.DecodeLinks(data)
	if err != nil {
		return err
	}
	streams := make([]journal.Stream, len(links))
	for i := range links {
		streams[i] = links[i].Stream
	}
	l.log.add(l.id, first, streams, append([]byte(nil), data...))
	l.size += len(data)
	return l.flush(loadPiece)
}

// Copy implements partition.Sink.
func (l *Loader) Copy(data []byte) error {
	data = append([]byte(nil), data...)
	b, err := journal.Decode(data)
	if err != nil {
		return err
	}
	l.kept.add(l.id, b, data)
	l.size += len(data)
	return l.flush(loadPiece)
}

// flush inserts what is gathered once there is enough of it.
func (l *Loader) flush(enough int) error {
	if n := max(len(l.rows.part), len(l.log.part), len(l.kept.part)); n == 0 || l.size < enough && n < maxGroup {
		return nil
	}
	if len(l.rows.part) > 0 {
		if err := l.exec(loadRowsSQL, l.rows.args()...); err != nil {
			return err
		}
	}
	if len(l.log.part) > 0 {
		if err := l.exec(loadJournalSQL, l.log.args()...); err != nil {
			return err
		}
	}
	if len(l.kept.part) > 0 {
		if err := l.exec(keepSQL, l.kept.args()...); err != nil {
			return err
		}
	}
	l.rows, l.log, l.kept, l.size = rowColumns{}, journalColumns{}, copyColumns{}, 0
	return nil
}

// Commit makes the databases ones that Open takes, and closes the connections.
// When it fails after the first of several databases, the others still refuse:
// drop what was loaded, and load again.
func (l *Loader) Commit() error {
	err := l.flush(0)
	for _, d := range l.store.shards {
		if err == nil {
			if _, e := d.session.exec(`ANALYZE homing_row, homing_journal`); e != nil {
				err = d.refused(e)
			}
		}
	}
	for _, d := range l.store.shards {
		if err == nil {
			if _, e := d.session.exec(`UPDATE homing_store SET loading = false`); e != nil {
				err = d.refused(e)
			}
		}
	}
	return errors.Join(err, l.Close())
}

// Close gives the databases up: unfinished, unless Commit was called.
func (l *Loader) Close() error {
	var err error
	for _, d := range l.store.shards {
		if d.session != nil {
			d.session.unlock()
			d.session.close()
			d.session = nil
		}
		if d.reader != nil {
			err = errors.Join(err, d.reader.Close())
			d.reader = nil
		}
	}
	return err
}
