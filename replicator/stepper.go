package replicator

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/homing-im/homing/region"
)

// Stepper is a [Replicator] without goroutines: the steps that a replicator's
// goroutines take, each taken when its caller says so. It is for who replays
// them from a seed, by a clock of their own ([Options].Now). It is not safe for
// concurrent use.
type Stepper struct {
	r     *Replicator
	steps []Step
}

// Step is one of them.
type Step struct {
	Name string // such as "replay hk/full/3"; those of one replicator differ
	Do   func(context.Context)
}

// NewStepper makes one. The caller closes it.
func NewStepper(o Options) (*Stepper, error) {
	r, err := assemble(o)
	if err != nil {
		return nil, err
	}
	s := &Stepper{r: r}
	r.replay.begin = func(context.Context, *origin) {}
	s.collect()
	return s, nil
}

// Steps returns what there may be to do, sorted by name. It changes when a new
// world is followed. A step that has nothing to do does nothing.
func (s *Stepper) Steps() []Step { return s.steps }

// Lag is [Replicator.Lag].
func (s *Stepper) Lag() []Lag { return s.r.replay.Lag() }

// Held is [Replicator.Held].
func (s *Stepper) Held(home region.ID, p region.Partition) (Mark, bool) { return s.r.Held(home, p) }

// JournalHandler is [Replicator.JournalHandler].
func (s *Stepper) JournalHandler() http.Handler { return s.r.JournalHandler() }

// Close closes the queues. What a crash would lose is lost.
func (s *Stepper) Close() error {
	for _, o := range s.r.replay.origins {
		for _, g := range o.groups {
			_ = g.queue.Close()
		}
	}
	for _, q := range s.r.opened {
		_ = q.Close()
	}
	return nil
}

func (s *Stepper) collect() {
	r := s.r
	steps := []Step{
		{"keep held", r.keeper.hold},
		{"keep trim", r.keeper.trim},
		{"keep watermark", r.keeper.watermark},
		{"replay follow", s.follow},
	}
	for _, l := range r.shipper.lanes {
		steps = append(steps, Step{fmt.Sprintf("ship %d", l.partition), l.once(r.options.Now)})
	}
	for id, o := range r.replay.origins {
		steps = append(steps, Step{fmt.Sprintf("heads %s", id), o.ask})
		for i, g := range o.groups {
			steps = append(steps, Step{fmt.Sprintf("fetch %s/%d", id, i), g.once()})
		}
		for _, c := range o.cursors {
			steps = append(steps, Step{fmt.Sprintf("replay %s/%s/%d", c.origin, c.stream, c.partition), c.step})
		}
	}
	slices.SortFunc(steps, func(a, b Step) int { return strings.Compare(a.Name, b.Name) })
	s.steps = steps
}

// follow replays what the newest world says.
func (s *Stepper) follow(ctx context.Context) {
	want := needs(s.r.options.View(), s.r.options.Self)
	same := len(s.r.replay.needs) == len(want)
	for id, n := range want {
		had, ok := s.r.replay.needs[id]
		same = same && ok && had.equal(n)
	}
	if same {
		return
	}
	s.r.replay.follow(ctx, want)
	s.collect()
}

// once is step, which is not taken again before the pause is over.
func (l *lane) once(now func() time.Time) func(context.Context) {
	var again time.Time
	return func(ctx context.Context) {
		if now().Before(again) {
			return
		}
		if _, pause := l.step(ctx); pause > 0 {
			again = now().Add(pause)
		}
	}
}

// once fetches, which is not done again before the pause is over.
func (g *queueGroup) once() func(context.Context) {
	logs, _ := g.logs()
	var again time.Time
	return func(ctx context.Context) {
		began := g.now()
		if began.Before(again) {
			return
		}
		led, err := g.queue.Groups(ctx, logs)
		for i := 0; err == nil && i < len(led); i++ {
			feeds := make([]*feed, 0, len(led[i]))
			for _, f := range g.feeds {
				if slices.Contains(led[i], f.cursor.log()) {
					feeds = append(feeds, f)
				}
			}
			var r rhythm
			sent := g.now()
			number, before := r.send(sent)
			p := g.round(ctx, feeds, number, sent, before)
			r.answered(p)
			err = p.err
		}
		if pause := g.ended(began, err); pause > 0 {
			again = g.now().Add(pause)
		}
	}
}
