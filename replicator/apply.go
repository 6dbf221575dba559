package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// applyBatches bounds one transaction.
const applyBatches = 256

// errDiverged: the origin's history is not the one applied here.
var errDiverged = errors.New("histories differ")

// errElsewhere: the store's position is not where this replay left it.
var errElsewhere = errors.New("position moved")

func divergedf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDiverged, fmt.Sprintf(format, args...))
}

// applier puts batches, which come in order, into the store or the executor,
// and moves the position.
type applier struct {
	spot
	self     region.ID
	replica  Replica
	executor Executor
	merger   Merger
	metrics  *metrics
	logger   *slog.Logger
	now      func() time.Time
	did      func(batches int, done *store.Applied)
	retry    backOff

	// acts says whether this region acts for a home, and the term of whoever does.
	// When another one does by now, it merges the tail, and this one waits for
	// nobody: left is told that the rows are to be had by comparison only.
	acts func(home region.ID) (bool, region.Term)
	left func()

	pending  []*journal.Batch
	position journal.Position
	due      time.Time // when the position of a command stream has to be stored; zero when it is
}

func (a *applier) begin(p journal.Position) {
	a.pending, a.due = nil, time.Time{}
	a.position = journal.Position{Origin: a.origin, Stream: a.stream, Partition: a.partition,
		Incarnation: p.Incarnation, Seq: p.Seq, Chain: p.Chain, UnixMilli: p.UnixMilli}
}

func (a *applier) add(run []*journal.Batch) { a.pending = append(a.pending, run...) }

// apply applies all that is pending. On error, what was not applied stays.
func (a *applier) apply(ctx context.Context) error {
	if _, commands := a.stream.To(); commands {
		return a.execute(ctx)
	}
	for len(a.pending) > 0 {
		run, tail, err := a.split(a.pending[:min(len(a.pending), applyBatches)])
		if err != nil {
			return err
		}
		left := false
		if tail { // first the effects, then the position: repeating them changes nothing
			mine := slices.DeleteFunc(slices.Clone(run), func(b *journal.Batch) bool { is, _ := a.acts(b.Home); return !is })
			if len(mine) > 0 {
				if err := a.merger.Merge(ctx, mine); err != nil {
					return err
				}
			}
			left = len(mine) < len(run)
		}
		done, err := a.replica.Apply(ctx, a.stream, run)
		if err != nil {
			return translate(err)
		}
		if left {
			a.left()
		}
		a.pending = a.pending[len(run):]
		a.retry.reset()
		a.metrics.batches.WithLabelValues(string(a.origin), string(a.stream)).Add(float64(done.Batches))
		a.metrics.rows.WithLabelValues(string(a.origin), string(a.stream)).Add(float64(done.Rows))
		a.did(len(run), &done)
		a.report(done.Mismatches)
		a.reportOpaque(done.Opaque)
		if last := run[len(run)-1].Last(); done.Position.Seq < last {
			return fmt.Errorf("%w: applied up to %d, the store says %d", errElsewhere, last, done.Position.Seq)
		}
	}
	a.pending = nil
	return nil
}

// split returns the batches up to where a tail begins or ends, and whether they
// are one: see [store.Turn.Tail]. It is an error when the first is early, or of a
// tail of which the world does not yet say who merges it.
func (a *applier) split(run []*journal.Batch) (some []*journal.Batch, tail bool, err error) {
	turns := a.replica.Turns(a.partition)
	for i, b := range run {
		t := turns[b.Home]
		early, is := t.Early(a.self, b), t.Tail(b)
		switch waits := early || is && a.contested(b.Home, &t); {
		case waits && i == 0 && early:
			return nil, false, region.Errorf(region.Unavailable, "%s writes for %s at term %s, and this region has not ended its own", a.origin, b.Home, b.Epoch.Term).
				WithHint("it learns of the newer world by itself; a fork has to be resolved")
		case waits && i == 0:
			return nil, false, region.Errorf(region.Unavailable, "%s wrote for %s at term %s, and this region took it over at %s, of a world that lost a fork", a.origin, b.Home, b.Epoch.Term, t.Opened).
				WithHint("resolve the fork")
		case i == 0:
			tail = is
		case waits, is != tail:
			return run[:i], tail, nil
		}
	}
	return run, tail, nil
}

// contested says whether this region took a home over at a newer term than that of
// its world, which lost a fork meanwhile. The world that joins the sides may name it
// again: then the tail is its own to merge, and must not be gone.
func (a *applier) contested(home region.ID, t *store.Turn) bool {
	_, term := a.acts(home)
	return term.Compare(t.Opened) < 0
}

func (a *applier) execute(ctx context.Context) error {
	for len(a.pending) > 0 {
		run := a.pending[:min(len(a.pending), applyBatches)]
		if err := a.executor.Execute(ctx, run); err != nil {
			return err
		}
		a.pending = a.pending[len(run):]
		a.retry.reset()
		a.metrics.batches.WithLabelValues(string(a.origin), string(a.stream)).Add(float64(len(run)))
		a.did(len(run), new(store.Applied))
		last := run[len(run)-1]
		a.position.Incarnation, a.position.UnixMilli = last.Incarnation, last.UnixMilli
		a.position.Seq, a.position.Chain = last.Last(), last.Links[0].Chain
		if a.due.IsZero() {
			a.due = a.now().Add(flushAfter)
		}
		if !a.now().Before(a.due) {
			a.flush(ctx)
		}
	}
	a.pending = nil
	if !a.due.IsZero() && !a.now().Before(a.due) {
		a.flush(ctx)
	}
	return nil
}

// flush stores the position of a command stream. A failure is tried again
// later: until then a crash repeats more, without effect.
func (a *applier) flush(ctx context.Context) {
	if a.due.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := a.replica.SetPosition(ctx, a.position); err != nil {
		a.due = a.now().Add(time.Second)
		a.logger.Warn("position not stored; commands would be repeated after a crash", "position", a.position.Seq, "error", err)
		return
	}
	a.due = time.Time{}
}

func (a *applier) report(mismatches []store.Mismatch) {
	if len(mismatches) == 0 {
		return
	}
	a.metrics.mismatches.WithLabelValues(string(a.origin), string(a.stream)).Add(float64(len(mismatches)))
	for _, m := range mismatches[:min(len(mismatches), 10)] {
		what := "row"
		if m.Owner == 0 {
			what = "watermark"
		}
		a.logger.Error("this replica differs from its origin", "what", what, "sequence", m.Seq, "home", m.Home,
			"owner", m.Owner, "table", m.Table, "row", clip(m.Row), "want", fmt.Sprintf("%x", m.Want), "have", fmt.Sprintf("%x", m.Have))
	}
}

// reportOpaque tells of records that are kept, but had no effect here.
func (a *applier) reportOpaque(records []store.Opaque) {
	if len(records) == 0 {
		return
	}
	a.metrics.opaque.WithLabelValues(string(a.origin), string(a.stream)).Add(float64(len(records)))
	for _, o := range records[:min(len(records), 10)] {
		a.logger.Warn("a record of a newer version is kept, and has no effect here", "sequence", o.Seq, "kind", o.Kind, "home", o.Home, "owner", o.Owner)
	}
}

// describeOpaque says what may be missing here.
func describeOpaque(o *store.Opaque) string {
	whose := "the partition"
	if o.Owner != 0 {
		whose = "owner " + o.Owner.String()
	}
	return fmt.Sprintf("the record of %s at sequence %d is of a newer version (kind %d), and has no effect here: upgrade this region, and if rows differ then, homing replicate repair",
		whose, o.Seq, o.Kind)
}

// describe says where a replica differs.
func describe(m *store.Mismatch) string {
	if m.Owner == 0 {
		return fmt.Sprintf("rows of home %s differ from the origin's as of sequence %d", m.Home, m.Seq)
	}
	return fmt.Sprintf("a row of owner %d, table %d, differed from the origin's at sequence %d", m.Owner, m.Table, m.Seq)
}

// translate makes the store's and the journal's ways to say "this does not
// follow" into the replicator's.
func translate(err error) error {
	var gap *store.Gap
	if errors.As(err, &gap) {
		if gap.Chain {
			return fmt.Errorf("%w: %w", errDiverged, err)
		}
		return fmt.Errorf("%w: %w", errElsewhere, err)
	}
	return err
}

// clip shows the beginning of bytes that may be anything.
func clip(b []byte) string { return strconv.QuoteToASCII(string(b[:min(len(b), 40)])) }

func u64(n uint64) string { return strconv.FormatUint(n, 10) }
