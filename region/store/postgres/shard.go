package postgres

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/homing-im/homing/region"
)

// shard is one database: its committer, and its connections.
type shard struct {
	store  *Store
	number int
	config pq.Config
	parts  []*part // of this database
	reader *sql.DB
	stmts  statements

	// unsettled is set while it is not known what the database has: reads could
	// see what a failover would take back.
	unsettled atomic.Bool

	// Of the committer only:
	session  *session // nil while there is none
	token    string
	timeline string // of the server of the last group
	groups   uint64

	mu     sync.Mutex
	queue  []*op
	closed bool
	lost   time.Time     // since when the database has not been reached; zero while it is
	wake   chan struct{} // has room for one
	done   chan struct{} // closed when the committer has ended
}

func newToken() string { return rand.Text() }

func (d *shard) newID() string {
	d.groups++
	return fmt.Sprintf("%s-%d", d.token, d.groups)
}

// submit queues an operation, or refuses it.
func (d *shard) submit(o *op) error {
	if e := d.store.failed.Load(); e != nil {
		return e
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.writableLocked(); err != nil {
		return err
	}
	d.queue = append(d.queue, o)
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}

func (d *shard) writable() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writableLocked()
}

func (d *shard) writableLocked() error {
	if d.closed {
		return errClosed()
	}
	if !d.lost.IsZero() && time.Since(d.lost) > d.store.options.Patience {
		return d.unreachable(nil)
	}
	return nil
}

func (d *shard) unreachable(cause error) *region.Error {
	return region.Errorf(region.Unavailable, "database %d of the store is not reachable", d.number).
		WithHint("check the database; writes go on by themselves").WithCause(cause)
}

// take removes a group's worth of operations from the queue.
func (d *shard) take() (ops []*op, closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	size, n := 0, 0
	for n < len(d.queue) && n < maxGroup && size < maxGroupBytes {
		size += d.queue[n].size
		n++
	}
	ops = d.queue[:n:n]
	d.queue = d.queue[n:]
	return ops, d.closed
}

// loop commits group after group until the store is closed and nothing waits. A
// lost database is looked for all the time, because while it is lost for long
// nothing is queued that would make it.
func (d *shard) loop() {
	defer close(d.done)
	for {
		var again <-chan time.Time
		if d.session == nil && d.store.failed.Load() == nil {
			again = time.After(pause)
		}
		select {
		case <-d.wake:
		case <-again:
			if err := d.ready(nil); err != nil {
				d.drop(err)
			}
			continue
		}
		for {
			ops, closed := d.take()
			if len(ops) > 0 {
				d.run(ops)
				continue
			}
			if closed {
				return
			}
			break
		}
	}
}

// run carries operations out and tells their callers.
func (d *shard) run(ops []*op) {
	g, err := d.prepare(ops)
	if err == nil && g != nil {
		err = d.commit(g)
	}
	if err == nil {
		m := d.store.metrics
		m.Group.Observe(float64(len(ops)))
		if g != nil {
			m.Writes.Add(float64(g.writes))
			m.Journal.Add(float64(g.journal))
		}
	}
	for _, o := range ops {
		if err != nil {
			o.err = err
		}
		close(o.done)
	}
}

// prepare evaluates operations into a group; nil when they changed nothing.
func (d *shard) prepare(ops []*op) (*group, error) {
	for start := time.Now(); ; {
		err := d.ready(nil)
		if err == nil && d.session.timeline != d.timeline {
			err = d.raise()
		}
		var g *group
		if err == nil {
			g, err = d.evaluate(ops)
		}
		if err == nil {
			return g, nil
		}
		if err = d.retry(err, start, false); err != nil {
			return nil, err
		}
	}
}

func (d *shard) evaluate(ops []*op) (*group, error) {
	steps := map[*part]*step{}
	for _, o := range ops {
		for _, p := range d.of(o) {
			if steps[p] == nil {
				steps[p] = d.step(p)
			}
		}
	}
	if err := d.fetch(ops, steps); err != nil {
		return nil, err
	}
	for _, o := range ops {
		o.err = o.ctx.Err()
		for _, p := range d.of(o) {
			if o.err == nil {
				o.err = o.eval(steps[p]) // as it is: callers tell a *store.Gap by its type
			}
		}
	}
	return d.assemble(steps)
}

// of returns the partitions that an operation is about.
func (d *shard) of(o *op) []*part {
	if o.part == nil {
		return d.parts
	}
	return d.parts[o.part.index : o.part.index+1]
}

// raise begins a new incarnation of every partition: the server is on another
// timeline than the last group's.
func (d *shard) raise() error {
	steps := map[*part]*step{}
	for _, p := range d.parts {
		steps[p] = d.step(p)
		steps[p].Raise()
	}
	g, err := d.assemble(steps)
	if err != nil {
		return err
	}
	g.timeline = d.session.timeline
	if err := d.commit(g); err != nil {
		return err
	}
	d.store.options.Logger.Warn("the database was promoted or restored; the store has a new incarnation",
		"database", d.number, "timeline", g.timeline, "before", d.timeline, "incarnation", d.parts[0].durable.Load().state.Incarnation)
	d.timeline = g.timeline
	return nil
}

// commit writes a group until it is known to be durable, or known not to be.
func (d *shard) commit(g *group) error {
	start := time.Now()
	err := d.write(g)
	for err != nil {
		if g.unknown {
			d.unsettled.Store(true)
		}
		if err = d.retry(err, start, g.unknown); err != nil {
			if g.unknown {
				e := region.Errorf(region.Internal, "it is not known what became of a transaction").
					WithHint("restart this node once the database is back").WithCause(err)
				d.store.fail(e)
				return e // whatever it was that failed the store first
			}
			return err
		}
		// Whoever is connected anew has settled what was unknown.
		was := g.unknown
		if err = d.ready(g); err != nil {
			continue
		}
		outcome := "committed"
		if g.unknown {
			outcome = "rolled-back"
		}
		if was {
			d.store.metrics.unknown.WithLabelValues(outcome).Inc()
		}
		if was && !g.unknown {
			break
		}
		err = d.write(g)
	}
	for p, s := range g.steps {
		p.publish(&durable{state: s.State, group: g.id})
	}
	return nil
}

// pause is how long the committer waits between two attempts to connect.
const pause = 100 * time.Millisecond

// retry decides what an error means: nil to try again on a new connection,
// otherwise what callers are told. What is of unknown outcome is tried until the
// store is closed.
func (d *shard) retry(err error, start time.Time, unknown bool) error {
	s := d.store
	if e := s.failed.Load(); e != nil {
		return e
	}
	if !temporary(err) && !unknown {
		d.drop(nil)
		var e *region.Error
		if errors.As(err, &e) {
			return e
		}
		return region.Errorf(region.Internal, "database %d of the store refused a transaction", d.number).WithCause(err)
	}
	d.drop(err)
	d.mu.Lock()
	late := time.Since(d.lost) > s.options.Patience
	var refused []*op
	if late {
		refused, d.queue = d.queue, nil
	}
	d.mu.Unlock()
	for _, o := range refused {
		o.err = d.unreachable(err)
		close(o.done)
	}
	var e *pq.Error
	if !unknown && (late || time.Since(start) > s.options.Patience || errors.As(err, &e) && e.Code.Class() == "53") {
		return d.unreachable(err)
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-s.closing:
		return errClosed()
	case <-t.C:
		return nil
	}
}

// drop gives up the connection; err says why when it broke.
func (d *shard) drop(err error) {
	had := d.session != nil
	if had {
		d.session.close()
		d.session = nil
	}
	if err == nil {
		return
	}
	d.mu.Lock()
	first := d.lost.IsZero()
	if first {
		d.lost = time.Now()
	}
	d.mu.Unlock()
	if first {
		d.store.metrics.reconnects.Inc()
		d.store.options.Logger.Warn("connection to the database lost", "database", d.number, "error", err)
	}
}

// close ends the committer's connection once it has nothing to do.
func (d *shard) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
	<-d.done
	if d.session != nil {
		d.session.unlock()
		d.session.close()
	}
}
