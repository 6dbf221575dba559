package postgres

import (
	"errors"
	"fmt"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// open connects for the first time: it migrates the database, takes the lease,
// and reads the partitions' states.
func (d *shard) open(all []migration) error {
	if err := d.enter(all); err != nil {
		return err
	}
	s := d.session
	d.token = newToken()
	if err := d.claim(); err != nil {
		return d.refused(err)
	}
	if err := d.load(); err != nil {
		return d.refused(err)
	}
	if err := d.statements(); err != nil {
		return d.refused(err)
	}
	if s.timeline != d.timeline {
		return d.raise()
	}
	return nil
}

// enter connects, migrates the database, and takes its lock.
func (d *shard) enter(all []migration) error {
	s, err := connect(d.config, d.store.options.Timeout)
	if err != nil {
		return d.refused(err)
	}
	d.session = s
	if err := s.migrate(all); err != nil {
		return d.refused(err)
	}
	// The connection of a process that was killed ends a moment after it.
	for start := time.Now(); ; time.Sleep(pause / 4) {
		ok, err := s.lock()
		if err != nil {
			return d.refused(err)
		}
		if ok {
			return nil
		}
		if time.Since(start) > time.Second {
			return region.Errorf(region.Unavailable, "database %d of the store is in use by another process", d.number).
				WithHint("stop the other process, or check the DSN; pg_locks says who has the advisory lock")
		}
	}
}

func (d *shard) refused(err error) error {
	var e *region.Error
	if errors.As(err, &e) {
		return fmt.Errorf("database %d: %w", d.number, err)
	}
	if temporary(err) {
		return d.unreachable(err)
	}
	return region.Errorf(region.Internal, "database %d of the store cannot be opened", d.number).WithCause(err)
}

// claim makes the database this process's: from its commit on, groups of
// another token are refused. It waits for the quorum, so what is visible
// afterwards is durable.
func (d *shard) claim() error {
	o := d.store.options
	s := d.session
	if _, err := s.exec(`INSERT INTO homing_store (region, partitions, shard, shards, token, timeline) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		string(o.Region), o.Partitions, d.number, len(o.DSNs), d.token, s.timeline); err != nil {
		return err
	}
	var home string
	var partitions, number, shards int
	var loading bool
	if err := s.guard(func() error {
		return s.conn.QueryRowContext(always, `SELECT region, partitions, shard, shards, timeline, loading FROM homing_store`).Scan(&home, &partitions, &number, &shards, &d.timeline, &loading)
	}); err != nil {
		return err
	}
	switch {
	case loading:
		return region.Errorf(region.Conflict, "the database has half of a store: an import into it did not finish").WithHint("import again")
	case region.ID(home) != o.Region:
		return region.Errorf(region.BadInput, "the database belongs to region %s, not %s", home, o.Region).WithHint("check the DSN and the region in the node's configuration")
	case partitions != o.Partitions:
		return region.Errorf(region.BadInput, "the database has %d partitions, not %d", partitions, o.Partitions).WithHint("the number of partitions never changes; check the world")
	case number != d.number || shards != len(o.DSNs):
		return region.Errorf(region.BadInput, "the database is number %d of %d, not %d of %d", number, shards, d.number, len(o.DSNs)).WithHint("the order and number of DSNs never change")
	}
	_, err := s.exec(`UPDATE homing_store SET token = $1`, d.token)
	return err
}

// load reads the partitions' states and positions, and makes the rows of those
// that have none yet.
func (d *shard) load() error {
	s := d.session
	c, err := encode(partition.New())
	if err != nil {
		return err
	}
	if _, err := s.exec(`INSERT INTO homing_partition (partition, group_id, incarnation, first, next, unix_milli, heads, sums, fence)
		SELECT id, '', 1, 1, 1, 0, $4, $5, $6 FROM generate_series($1::integer, $2::integer, $3::integer) id ON CONFLICT DO NOTHING`,
		d.number, d.store.options.Partitions-1, len(d.store.options.DSNs), c.heads, c.sums, c.fence); err != nil {
		return err
	}
	states := map[region.Partition]*durable{}
	err = s.rows(`SELECT partition, group_id, incarnation, first, next, unix_milli, heads, sums, fence, turns FROM homing_partition`, func(scan func(...any) error) error {
		st, v, id, c := partition.New(), &durable{}, region.Partition(0), columns{}
		if err := scan(&id, &v.group, &st.Incarnation, &st.First, &st.Next, &st.UnixMilli, &c.heads, &c.sums, &c.fence, &c.turns); err != nil {
			return err
		}
		v.state, states[id] = st, v
		return c.decode(st)
	})
	if err != nil {
		return err
	}
	err = s.rows(`SELECT partition, origin, stream, incarnation, seq, chain, unix_milli FROM homing_position`, func(scan func(...any) error) error {
		at, err := scanPosition(scan)
		if err != nil {
			return err
		}
		st := states[at.Partition]
		if st == nil {
			return fmt.Errorf("the position of %s %s is of partition %d, which has no row", at.Origin, at.Stream, at.Partition)
		}
		st.state.Positions[partition.Source{Origin: at.Origin, Stream: at.Stream}] = at
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range d.parts {
		if states[p.id] == nil {
			return fmt.Errorf("partition %d has no row", p.id)
		}
		p.durable.Store(states[p.id])
	}
	return nil
}

func (s *session) rows(query string, yield func(scan func(...any) error) error) error {
	return s.guard(func() error {
		rows, err := s.conn.QueryContext(always, query)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := yield(rows.Scan); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

func (d *shard) statements() (err error) {
	s := d.session
	return s.guard(func() error {
		if s.fetch, err = s.conn.PrepareContext(always, fetchSQL); err == nil {
			s.write, err = s.conn.PrepareContext(always, writeSQL)
		}
		return err
	})
}

// ready sees to a connection that may commit. A new one is had only by way of
// the lock, the token, and a look at what the database has: everything this
// process knows to be durable, and g or not, which g.unknown tells afterwards.
func (d *shard) ready(g *group) error {
	if e := d.store.failed.Load(); e != nil {
		return e
	}
	if d.session != nil {
		return nil
	}
	s, err := connect(d.config, d.store.options.Timeout)
	if err != nil {
		return err
	}
	d.session = s
	ok, err := s.lock()
	if err != nil {
		return err
	}
	if !ok {
		// The server may not know yet that the connection before is gone, or
		// another process has taken over.
		if err := d.ousted(); err != errNotOusted {
			return err
		}
		return errHeld
	}
	n, err := s.exec(`UPDATE homing_store SET token = token WHERE token = $1`, d.token)
	if err != nil {
		return err
	}
	if n == 0 {
		return d.ousted()
	}
	if err := d.statements(); err != nil {
		return err
	}
	if err := d.settle(g); err != nil {
		return err
	}
	d.unsettled.Store(false)
	d.reader.SetMaxIdleConns(0) // those may be of the server that was
	d.reader.SetMaxIdleConns(d.store.options.Readers)
	d.mu.Lock()
	away := time.Since(d.lost)
	d.lost = time.Time{}
	d.mu.Unlock()
	d.store.options.Logger.Info("connected to the database again", "database", d.number, "away", away)
	return nil
}

// settle compares the database with what this process knows. What is visible is
// durable here.
func (d *shard) settle(g *group) error {
	have := map[region.Partition]string{}
	err := d.session.rows(`SELECT partition, group_id FROM homing_partition`, func(scan func(...any) error) error {
		var id region.Partition
		var group string
		err := scan(&id, &group)
		have[id] = group
		return err
	})
	if err != nil {
		return err
	}
	committed, open := 0, 0
	for _, p := range d.parts {
		mine := g != nil && g.steps[p] != nil
		switch {
		case mine && have[p.id] == g.id:
			committed++
		case have[p.id] != p.durable.Load().group:
			return d.store.fail(region.Errorf(region.Internal, "database %d has lost what it had acknowledged, or was changed by somebody else: partition %d", d.number, p.id).
				WithHint("check which server was promoted; restart this node to go on from what is there, as a new incarnation"))
		case mine:
			open++
		}
	}
	if committed > 0 && open > 0 {
		return d.store.fail(region.Errorf(region.Internal, "database %d has half a transaction", d.number).WithHint("restore it from its backup"))
	}
	if g != nil {
		g.unknown = committed == 0
	}
	return nil
}

var errNotOusted = errors.New("the token is still there")

// ousted finds out why the database refuses this process.
func (d *shard) ousted() error {
	var token string
	err := d.session.guard(func() error {
		return d.session.conn.QueryRowContext(always, `SELECT token FROM homing_store`).Scan(&token)
	})
	switch {
	case err != nil:
		return err
	case token != d.token:
		return d.store.fail(region.Errorf(region.Unavailable, "another process has taken over database %d of the store", d.number).
			WithHint("stop this node, or the other one; only one may write"))
	}
	return errNotOusted
}
