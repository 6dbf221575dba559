package succession

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

const (
	// pollWaiting is how often a partition is looked at while a home waits.
	// Journals wake it too; this is for what makes no record.
	pollWaiting = 50 * time.Millisecond

	// quietFor is how long nothing may have come from the region before for a
	// forced takeover: several times what a queue takes to deliver.
	quietFor = 400 * time.Millisecond

	// drainAtMost bounds the wait for quiet: a region that is cut off from the
	// operator but not from here must not hold the takeover up.
	drainAtMost = 2 * time.Second

	retryAfter = 200 * time.Millisecond
)

// Store is what a [Manager] needs of the region's store. [store.Store] is one.
type Store interface {
	Partitions() int
	Changed(p region.Partition) <-chan struct{}
	Head(p region.Partition) store.Head
	Turns(p region.Partition) map[region.ID]store.Turn
	Handover(ctx context.Context, p region.Partition, h store.Handover) error
	Position(ctx context.Context, origin region.ID, s journal.Stream, p region.Partition) (journal.Position, error)
}

// Options configure a [Manager]. All but Logger and Registry are required.
type Options struct {
	Self    region.ID
	Store   Store
	View    func() *region.View                        // nil while there is no world
	Changed func() <-chan struct{}                     // closed at the next change of the world; taken before View
	Change  func(home region.ID) (region.Change, bool) // of the newest world

	Logger   *slog.Logger          // nil discards
	Registry prometheus.Registerer // nil: not exported
}

// Manager hands homes over and takes them over, as worlds say. Its methods are
// safe for concurrent use.
type Manager struct {
	o      Options
	log    *slog.Logger
	parts  []*lane
	report *reporter

	handovers *prometheus.CounterVec
	waiting   prometheus.Gauge

	stop    context.CancelFunc
	running sync.WaitGroup
}

// New starts the manager. Close it before the store.
func New(o Options) (*Manager, error) {
	m, err := NewManual(o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	for _, l := range m.parts {
		m.running.Go(func() { l.run(ctx) })
	}
	return m, nil
}

// NewManual makes a manager without goroutines: its caller takes the steps.
func NewManual(o Options) (*Manager, error) {
	if o.Store == nil || o.View == nil || o.Changed == nil || o.Change == nil {
		return nil, errors.New("succession: a store and the world are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{o: o, log: o.Logger.With("part", "succession"), report: newReporter(),
		handovers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_succession_handovers_total", Help: "Partitions of a home that this region handed over or took over."}, []string{"what"}),
		waiting:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "homing_succession_waiting_partitions", Help: "Partitions of homes that this region acts for and may not write yet."}),
	}
	if o.Registry != nil {
		for _, c := range []prometheus.Collector{m.handovers, m.waiting} {
			if err := o.Registry.Register(c); err != nil {
				return nil, err
			}
		}
	}
	m.stop = func() {}
	for p := range o.Store.Partitions() {
		l := &lane{m: m, partition: region.Partition(p), drains: map[region.ID]*drain{}}
		l.publish(o.Store.Turns(l.partition))
		m.parts = append(m.parts, l)
	}
	return m, nil
}

// Step does what there is to do in a partition now, and says how many homes
// wait. It is for who made the manager with [NewManual], and not safe for
// concurrent use. It blocks until what it does is durable.
func (m *Manager) Step(ctx context.Context, p region.Partition, now time.Time) (waits int, err error) {
	return m.parts[p].step(ctx, now)
}

// Close stops the goroutines and waits for them.
func (m *Manager) Close() error {
	m.stop()
	m.running.Wait()
	if m.o.Registry != nil {
		m.o.Registry.Unregister(m.handovers)
		m.o.Registry.Unregister(m.waiting)
	}
	return nil
}

// Admit returns nil when this region has taken the home over, in the partition,
// at the term. It does not block.
//
// Errors: region.Unavailable.
func (m *Manager) Admit(home region.ID, t region.Term, p region.Partition) error {
	if Admits((*m.parts[p].turns.Load())[home], t) {
		return nil
	}
	return region.Errorf(region.Unavailable, "region %s is taking %s over", m.o.Self, home).WithHint("retry; it takes a moment")
}

// lane is the manager's work in one partition.
type lane struct {
	m         *Manager
	partition region.Partition
	turns     atomic.Pointer[map[region.ID]store.Turn]
	drains    map[region.ID]*drain
	waits     int
}

func (l *lane) publish(t map[region.ID]store.Turn) {
	t = maps.Clone(t)
	l.turns.Store(&t)
}

func (l *lane) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		world, grown := l.m.o.Changed(), l.m.o.Store.Changed(l.partition)
		waits, err := l.step(ctx, time.Now())
		l.m.waiting.Add(float64(waits - l.waits))
		l.waits = waits
		pause := time.Hour
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.m.log.Warn("a home cannot change hands now; trying again", "partition", l.partition, "error", err)
			pause, grown = retryAfter, nil
		case waits > 0:
			pause = pollWaiting
		default:
			grown = nil // the journal grows all the time
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-world:
		case <-grown:
		case <-timer.C:
		}
	}
}

// step does what there is to do for every home, and says how many wait.
func (l *lane) step(ctx context.Context, now time.Time) (waits int, err error) {
	v := l.m.o.View()
	if v == nil {
		return 0, nil
	}
	turns := l.m.o.Store.Turns(l.partition)
	l.publish(turns)
	var errs []error
	for _, r := range v.World.Regions {
		c, ok := l.m.o.Change(r.ID)
		if !ok {
			continue
		}
		f := Facts{Self: l.m.o.Self, Change: c, Turn: turns[r.ID]}
		if c.Forced && c.Acting == f.Self && !Admits(f.Turn, c.Term) {
			if f.Drained, err = l.drained(ctx, c, now); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		act := Decide(f)
		if act == Wait {
			waits++
		}
		if act != Take && act != End {
			continue
		}
		if err := l.do(ctx, c, act); err != nil {
			errs = append(errs, err)
		}
	}
	l.publish(l.m.o.Store.Turns(l.partition))
	return waits, errors.Join(errs...)
}

func (l *lane) do(ctx context.Context, c region.Change, act Act) error {
	h := store.Handover{TermRecord: journal.TermRecord{Home: c.Home, Term: c.Term, What: store.EndOfTerm}}
	if act == Take {
		h.What = store.Takeover
		if c.Before != l.m.o.Self {
			h.Before = c.Before
		}
	}
	if err := l.m.o.Store.Handover(ctx, l.partition, h); err != nil {
		return err
	}
	l.m.handovers.WithLabelValues(act.String()).Inc()
	l.m.log.Info("home changes hands", "home", c.Home, "act", act.String(), "partition", l.partition, "term", c.Term.String(), "forced", c.Forced)
	return nil
}

// drain watches what still comes from a region that does not act any more.
type drain struct {
	term  region.Term
	began time.Time
	moved time.Time
	seq   uint64
}

// quiet is the pure step: the position is at seq now.
func (d *drain) quiet(seq uint64, now time.Time) bool {
	if seq != d.seq {
		d.seq, d.moved = seq, now
	}
	return now.Sub(d.moved) >= quietFor || now.Sub(d.began) >= drainAtMost
}

func (l *lane) drained(ctx context.Context, c region.Change, now time.Time) (bool, error) {
	at, err := l.m.o.Store.Position(ctx, c.Before, journal.Full, l.partition)
	if err != nil {
		return false, err
	}
	d := l.drains[c.Home]
	if d == nil || d.term != c.Term {
		d = &drain{term: c.Term, began: now, moved: now, seq: at.Seq}
		l.drains[c.Home] = d
	}
	return d.quiet(at.Seq, now), nil
}
