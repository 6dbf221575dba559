package health

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// Options configure a [Checker]. The zero value of each field but View is the
// default.
type Options struct {
	View        func() *region.View // the newest world; required, may return nil
	Interval    time.Duration       // between two checks of a member; 500 ms
	Timeout     time.Duration       // of one check; 1 s
	Rise        int                 // successes in a row to come up again; 2
	Fall        int                 // failures in a row to go down; 2
	Concurrency int                 // checks under way at once; 64
	Check       CheckFunc           // Default(nil, nil)
	// Measured returns what is known besides health, nil for nothing; another pointer
	// when it has changed. It does not block. May be nil.
	Measured func() *Measured
	// Self is this observer in the world, kind and name: "dns dns-1".
	Self string
	// Tell sends what this observer sees to the others, as [Told] encodes it: at a
	// change, and every second or so. It must not block. Nil tells nobody; what the
	// others tell comes by [Checker.Hear].
	Tell     func([]byte)
	Logger   *slog.Logger // nil is silent
	Registry prometheus.Registerer
}

// Measured is what others have measured. It never changes.
type Measured struct {
	Loads map[steer.Site]uint32 // hundredths of a percent of capacity
	RTTs  map[steer.Path]uint32 // milliseconds
}

// Checker checks the members of the newest world until it is closed.
type Checker struct {
	o    Options
	log  *slog.Logger
	now  func() time.Time
	stop context.CancelFunc
	done chan struct{} // closed when the loop has ended and all checks with it

	snapshot atomic.Pointer[Snapshot]
	council  *council

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the snapshot changes

	checks  *prometheus.CounterVec
	changes *prometheus.CounterVec
	up      *prometheus.GaugeVec
}

// Snapshot is the health at one moment. It never changes and implements
// [steer.Health]. The zero value knows nobody.
type Snapshot struct {
	up       *steer.Up
	measured *Measured
	report   map[Target]State
}

var _ steer.Health = (*Snapshot)(nil)

// POP says whether the POP can take clients.
func (s *Snapshot) POP(id region.POPID) bool { return s.Up().POP(id) }

// Region says whether the region's own listener can take clients.
func (s *Snapshot) Region(id region.ID) bool { return s.Up().Region(id) }

// Up returns who can take clients. Snapshots between which nobody went up or
// down return the same pointer, so that what was decided by it can be kept.
func (s *Snapshot) Up() *steer.Up {
	if s.up == nil {
		return &nobody
	}
	return s.up
}

var nobody steer.Up

// New starts checking. [Checker.Close] ends it.
func New(o Options) *Checker {
	if o.Interval <= 0 {
		o.Interval = 500 * time.Millisecond
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	if o.Rise <= 0 {
		o.Rise = 2
	}
	if o.Fall <= 0 {
		o.Fall = 2
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 64
	}
	if o.Check == nil {
		o.Check = Default(nil, nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Checker{
		o: o, log: o.Logger, now: time.Now, stop: stop,
		done: make(chan struct{}), changed: make(chan struct{}),
		council: &council{self: o.Self, now: time.Now, seats: make(map[string]seat)},
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_health_checks_total",
			Help: "Checks of POPs and regions by member and outcome.",
		}, []string{"member", "outcome"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "homing_dns_health_up_bool",
			Help: "Whether this observer sees the POP or region up.",
		}, []string{"member"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_health_changes_total",
			Help: "How often this observer changed its mind about the POP or region.",
		}, []string{"member"}),
	}
	if o.Registry != nil {
		o.Registry.MustRegister(c.checks, c.up, c.changes)
	}
	c.snapshot.Store(&Snapshot{})
	go c.loop(ctx)
	return c
}

// Close ends all checks and waits for them. The last snapshot stays.
func (c *Checker) Close() {
	c.stop()
	<-c.done
}

// Hear takes what another observer tells, as its Tell was given it. What is
// not meant for this world is passed over. It does not block. Errors are of kind
// region.BadInput.
func (c *Checker) Hear(b []byte) error {
	t, err := DecodeTold(b)
	if err != nil {
		return err
	}
	c.council.hear(c.o.View(), t)
	return nil
}

// Health returns the newest snapshot, never nil.
func (c *Checker) Health() *Snapshot { return c.snapshot.Load() }

// POP says whether the POP is healthy now. With Region it makes the checker
// itself a [steer.Health]; a decision that asks several times should take one
// snapshot by [Checker.Health] instead.
func (c *Checker) POP(id region.POPID) bool { return c.Health().POP(id) }

// Region says whether the region is healthy now.
func (c *Checker) Region(id region.ID) bool { return c.Health().Region(id) }

// Changed returns a channel that is closed at the next change of the snapshot.
// Take the channel first and the snapshot afterwards, to miss nothing.
func (c *Checker) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Status is one member's state, for people and the console.
type Status struct {
	Member string `json:"member"` // "pop pop-1", "region sh"
	State
	Agreed bool `json:"agreed"` // whether the observers together hold it healthy
}

// Report lists what was seen of all members, by name.
func (c *Checker) Report() []Status {
	s := c.Health()
	out := make([]Status, 0, len(s.report))
	for t, state := range s.report {
		out = append(out, Status{Member: t.String(), State: state, Agreed: s.Up().POP(t.POP) || s.Up().Region(t.Region)})
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Member, b.Member) })
	return out
}

type outcome struct {
	target Target
	err    error
}

// member is what the loop knows of one target.
type member struct {
	state State
	due   time.Time // of the next check
	busy  bool      // a check is under way
}

// loop owns all members. Checks run in goroutines of their own, at most
// Concurrency at a time, and report here.
func (c *Checker) loop(ctx context.Context) {
	defer close(c.done)
	var (
		view     *region.View
		told     []Opinion // what was told last
		tellAt   time.Time // when to tell it again
		members  = make(map[Target]*member)
		outcomes = make(chan outcome)
		running  = 0
		tick     = time.NewTicker(max(c.o.Interval/10, time.Millisecond))
	)
	defer tick.Stop()
	for {
		if v := c.o.View(); v != nil && (view == nil || v.World != view.World) {
			view, told = v, nil
			c.adopt(members, view.World)
			c.publish(view, members)
		}
		if c.council.changed() || c.measured() != c.Health().measured {
			c.publish(view, members)
		}
		now := c.now()
		if view != nil && c.o.Tell != nil {
			if sees := opinions(view.World, members); !slices.Equal(sees, told) || !now.Before(tellAt) {
				t := Told{Observer: c.o.Self, World: view.World.Version, Hash: view.Hash.Short(), Order: uint64(now.UnixNano()), Opinions: sees}
				c.o.Tell(t.Encode())
				told, tellAt = sees, now.Add(jitter(c.council.pause()))
			}
		}
		for t, m := range members {
			if m.busy || running >= c.o.Concurrency || now.Before(m.due) {
				continue
			}
			m.busy, m.due = true, now.Add(jitter(m.state.Pause(c.o.Interval)))
			running++
			go func() {
				ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
				defer cancel()
				outcomes <- outcome{t, c.o.Check(ctx, t)}
			}()
		}
		select {
		case <-ctx.Done():
			for range running { // the context of the checks has ended, so they end soon
				<-outcomes
			}
			return
		case <-tick.C:
		case o := <-outcomes:
			running--
			if m := members[o.target]; m != nil { // else it left the world meanwhile
				m.busy = false
				if ctx.Err() == nil {
					c.take(o, m)
					c.publish(view, members)
				}
			}
		}
	}
}

// adopt makes the members those of a world. Who is new, or listens elsewhere,
// starts as unknown. (One that leaves and comes back while a check of it is
// under way is checked twice at once; either outcome is about it.)
func (c *Checker) adopt(members map[Target]*member, w *region.World) {
	wanted := make(map[Target]bool)
	for _, t := range targets(w) {
		wanted[t] = true
		if members[t] == nil {
			members[t] = &member{}
		}
	}
	for t := range members {
		if !wanted[t] {
			delete(members, t)
			c.up.DeleteLabelValues(t.String())
		}
	}
}

// take steps a member's state by the outcome of a check.
func (c *Checker) take(o outcome, m *member) {
	was := m.state
	m.state = was.Step(Thresholds{Rise: c.o.Rise, Fall: c.o.Fall}, o.err, c.now())
	name, result := o.target.String(), "success"
	if o.err != nil {
		result = "failure"
	}
	c.checks.WithLabelValues(name, result).Inc()
	up := 0.0
	if m.state.Up {
		up = 1
	}
	c.up.WithLabelValues(name).Set(up)
	if m.state.Up != was.Up {
		c.changes.WithLabelValues(name).Inc()
		c.log.Info("health changed", "member", name, "up", m.state.Up, "err", o.err)
	}
}

// opinions are those of the members, in the world's order.
func opinions(w *region.World, members map[Target]*member) []Opinion {
	all := targets(w)
	out := make([]Opinion, len(all))
	for i, t := range all {
		if m := members[t]; m != nil {
			out[i] = m.state.opinion()
		}
	}
	return out
}

// publish makes a snapshot of the members by what all observers see, and tells
// who waits when somebody went up or down. The view may be nil.
func (c *Checker) publish(view *region.View, members map[Target]*member) {
	var others map[Target][]Opinion
	if view != nil {
		others = c.council.opinions(view, targets(view.World))
	}
	old := c.Health()
	up := &steer.Up{POPs: make(map[region.POPID]bool), Regions: make(map[region.ID]bool), Falls: make(map[steer.Site]int64)}
	s := &Snapshot{up: up, measured: c.measured(), report: make(map[Target]State, len(members))}
	if s.measured != nil {
		up.Loads, up.RTTs = s.measured.Loads, s.measured.RTTs
	}
	for t, m := range members {
		s.report[t] = m.state
		healthy := Agree(m.state.opinion(), others[t]...)
		switch {
		case !healthy && m.state.Since.IsZero(): // never was
		case !healthy && m.state.Up: // the others see it down
			up.Falls[steer.Site{POP: t.POP, Region: t.Region}] = c.now().Unix()
		case !healthy:
			up.Falls[steer.Site{POP: t.POP, Region: t.Region}] = m.state.Since.Unix()
		case t.POP != "":
			up.POPs[t.POP] = true
		default:
			up.Regions[t.Region] = true
		}
	}
	same := old.measured == s.measured && maps.Equal(old.Up().POPs, up.POPs) && maps.Equal(old.Up().Regions, up.Regions)
	if same {
		s.up = old.Up()
	}
	c.snapshot.Store(s)
	if same {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Checker) measured() *Measured {
	if c.o.Measured == nil {
		return nil
	}
	return c.o.Measured()
}

// jitter spreads checks over time, so that observers do not knock in step.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5)+1))
}
