package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/dump"
	"github.com/homing-im/homing/region/store/mend"
)

const (
	// mendersAtOnce bounds how many partitions this region mends at a time: each
	// reads a partition here and at the origin.
	mendersAtOnce = 2

	// mendAgain is how soon a mending that failed is begun again by itself.
	mendAgain = 10 * time.Second

	// alignRounds bounds how often the origin's journal is asked on the way to the
	// position its part is as of.
	alignRounds = 1000
)

// mendJob is a mending that an operator waits for.
type mendJob struct {
	try  bool
	done chan mendResult // capacity 1
}

type mendResult struct {
	report mend.Report
	err    error
}

// mender is what a cursor of a row stream needs to begin its replica anew, or to
// repair it, by comparison with the origin's store.
type mender struct {
	replica mend.Replica // nil: it cannot
	parts   parts
	view    func() *region.View
	slots   chan struct{} // shared by all cursors

	job    *mendJob                  // guarded by the cursor's mu
	ended  bool                      // guarded by it too: nobody takes jobs any more
	needed string                    // why a careful mending is due; "" when none is. Guarded by mu
	at     time.Time                 // not before then
	took   map[region.ID]bool        // homes that the origin has said it took over here; under mu
	proven map[region.ID]region.Term // homes of which this replica had every row, and at which term; under mu
	done   string                    // digests that the last careful mending was for; the poll of heads'
	seen   string                    // digests that differed at the last poll; the poll of heads'
}

// homes returns whose rows the origin is the truth of.
func (m *mender) homes(origin region.ID) []region.ID {
	var out []region.ID
	v := m.view()
	if v == nil {
		return nil
	}
	for i := range v.World.Regions {
		if home := v.World.Regions[i].ID; v.World.Regions[i].Acting.Region == origin {
			out = append(out, home)
		}
	}
	return out
}

// want has the replica mended carefully, soon.
func (c *cursor) want(why string) {
	if _, commands := c.stream.To(); commands || c.mender.replica == nil {
		return
	}
	c.mu.Lock()
	if c.mender.needed == "" {
		c.mender.needed = why
	}
	c.mu.Unlock()
	c.signal()
}

// dueMending returns when step has to mend by itself.
func (c *cursor) dueMending() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mender.needed == "" || c.progress.state == StateDiverged {
		return time.Time{}, false
	}
	return c.mender.at, true
}

// mendNow does what an operator asked for, and what is due.
func (c *cursor) mendNow(ctx context.Context) {
	c.mu.Lock()
	job := c.mender.job
	c.mender.job = nil
	c.mu.Unlock()
	if job != nil {
		report, err := c.mend(ctx, mend.Options{Try: job.try})
		job.done <- mendResult{report, err}
	}
	at, due := c.dueMending()
	if !due || c.now().Before(at) {
		return
	}
	c.mu.Lock()
	why := c.mender.needed
	c.mu.Unlock()
	report, err := c.mend(ctx, mend.Options{Careful: true})
	c.mu.Lock()
	c.mender.at = c.now().Add(mendAgain)
	if err == nil {
		c.mender.needed = ""
	}
	c.mu.Unlock()
	switch {
	case err == nil:
		c.logger.Info("the copy was begun by comparison", "why", why, "position", report.Position, "rows", report.Rows, "missing", report.Missing, "older", report.Older, "kept", report.Kept)
	case ctx.Err() == nil:
		c.logger.Warn("the copy is not begun", "why", why, "error", err)
	}
}

// mend compares the replica with the origin's store. What replay can reach it
// replays first, so that nothing on the way is skipped; only where the histories
// have parted, or the origin has forgotten what follows, the position jumps.
func (c *cursor) mend(ctx context.Context, o mend.Options) (mend.Report, error) {
	if c.mender.replica == nil {
		return mend.Report{}, region.Errorf(region.Unsupported, "this region's store cannot be mended")
	}
	select {
	case c.mender.slots <- struct{}{}:
		defer func() { <-c.mender.slots }()
	case <-ctx.Done():
		return mend.Report{}, ctx.Err()
	}
	o.Stream, o.Homes = c.stream, c.mender.homes(c.origin)
	c.mu.Lock()
	took := maps.Clone(c.mender.took) // before the comparison: what was taken over since may have changed since
	was, reason := c.progress.state, c.progress.reason
	c.mu.Unlock()
	jump := was == StateDiverged || was == StateBootstrap
	if !jump && !c.load(ctx) {
		return mend.Report{}, region.Errorf(region.Unavailable, "the position of partition %d cannot be read now", c.partition)
	}
	report, err := c.compare(ctx, o, jump)
	if errors.Is(err, errNotReached) && !o.Try {
		report, err = c.compare(ctx, o, true)
	}
	if jump && (err != nil || o.Try) {
		c.note(was, reason)
		return report, err
	}
	c.order = nil // the position is another one: begin behind it
	c.load(ctx)
	if err == nil && !o.Try {
		c.mu.Lock()
		c.mender.needed = ""
		if report.Kept == 0 {
			c.progress.differs = ""
		}
		c.mu.Unlock()
		for home := range took {
			c.prove(home)
		}
		c.metrics.mendings.WithLabelValues(c.labels()...).Inc()
	}
	return report, err
}

// errNotReached: replay cannot bring the replica to where the origin's part is.
var errNotReached = errors.New("replay does not reach the origin's position")

func (c *cursor) compare(ctx context.Context, o mend.Options, jump bool) (report mend.Report, err error) {
	part := o.Part(c.partition, jump)
	body, err := c.mender.parts.Part(ctx, c.origin, part)
	if err != nil {
		return mend.Report{}, err
	}
	defer func() {
		said := body.Close()
		if err != nil && !errors.Is(err, errNotReached) {
			err = errors.Join(said, err) // what the origin says is the cause
		}
	}()
	from, err := dump.OpenPart(body, c.origin, c.replica.Partitions(), part)
	if err != nil {
		return mend.Report{}, err
	}
	if !jump {
		if err := c.align(ctx, from.Position(c.origin, c.stream)); err != nil {
			return mend.Report{}, err
		}
	}
	if !o.Try {
		c.note(StateBootstrap, "being compared with the origin's rows")
	}
	return mend.Run(ctx, c.mender.replica, from, part, c.origin, o)
}

// align replays up to exactly a position of the origin's stream.
func (c *cursor) align(ctx context.Context, to journal.Position) error {
	for range alignRounds {
		at := c.order.head
		switch {
		case at.Last == to.Seq && (at.Chain == to.Chain || to.Seq == 0):
			return nil
		case at.Last >= to.Seq:
			return fmt.Errorf("%w: this replica is at %d, the part is as of %d", errNotReached, at.Last, to.Seq)
		}
		ask, cancel := context.WithTimeout(ctx, 10*time.Second)
		batches, err := c.peers.Journal(ask, c.origin, c.partition, c.stream, at.Last+1)
		cancel()
		switch {
		case region.KindOf(err) == region.NotFound:
			return fmt.Errorf("%w: %w", errNotReached, err)
		case err != nil:
			return err
		}
		for _, b := range batches {
			if b.Last() > to.Seq {
				break
			}
			if v := c.order.offer(b, journal.MaxEncoded, c.now()); v != taken && v != duplicate {
				return fmt.Errorf("%w: %d to %d does not follow", errNotReached, b.First(), b.Last())
			}
		}
		if c.order.head.Last == at.Last {
			return fmt.Errorf("%w: nothing of the origin's journal ends in %d to %d", errNotReached, at.Last+1, to.Seq)
		}
		c.applier.add(c.order.take())
		if err := c.applier.apply(ctx); err != nil {
			return err
		}
	}
	return region.Errorf(region.Unavailable, "partition %d is too far behind %s", c.partition, c.origin).WithHint("wait until its lag is short, then repair it")
}

// close refuses the job that nobody will do any more, and those to come.
func (c *cursor) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mender.ended = true
	if job := c.mender.job; job != nil {
		c.mender.job = nil
		job.done <- mendResult{err: errWorldChanged()}
	}
}

func errWorldChanged() error {
	return region.Errorf(region.Unavailable, "what is replayed here is changing").WithHint("try again")
}

// Repair compares this region's replica of an origin with the origin's store,
// partition by partition, and unless try is set makes it equal. Partitions is
// which; none is all. It blocks until all are compared, or one fails, and gives
// each report to done as soon as it is there.
//
// Errors: region.NotFound when nothing of the origin is replayed here,
// region.Conflict while replay is paused, region.Unavailable, and the context's.
func (r *Replay) Repair(ctx context.Context, origin region.ID, partitions []region.Partition, try bool, done func(mend.Report)) error {
	if r.Paused() {
		return region.Errorf(region.Conflict, "replay is paused").WithHint("resume it first: homing replicate resume")
	}
	r.mu.Lock()
	o := r.origins[origin]
	r.mu.Unlock()
	if o == nil {
		return region.Errorf(region.NotFound, "nothing of region %q is replayed at %s", string(origin), r.options.Self)
	}
	wanted := map[region.Partition]bool{}
	for _, p := range partitions {
		if int(p) >= r.options.Store.Partitions() {
			return region.Errorf(region.BadInput, "partition %d: there are %d", p, r.options.Store.Partitions())
		}
		wanted[p] = true
	}
	for _, c := range o.cursors {
		if _, commands := c.stream.To(); commands || len(wanted) > 0 && !wanted[c.partition] {
			continue
		}
		job := &mendJob{try: try, done: make(chan mendResult, 1)}
		c.mu.Lock()
		switch {
		case c.mender.ended:
			c.mu.Unlock()
			return errWorldChanged()
		case c.mender.job != nil:
			c.mu.Unlock()
			return region.Errorf(region.Conflict, "partition %d is being repaired already", c.partition).WithHint("wait for it")
		}
		c.mender.job = job
		c.mu.Unlock()
		c.signal()
		select {
		case got := <-job.done:
			if got.err != nil {
				return fmt.Errorf("partition %d: %w", c.partition, got.err)
			}
			done(got.report)
		case <-ctx.Done():
			c.mu.Lock()
			if c.mender.job == job {
				c.mender.job = nil
			}
			c.mu.Unlock()
			return ctx.Err()
		}
	}
	return nil
}
