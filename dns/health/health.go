package health

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
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
	Check       CheckFunc           // Default(nil, false)
	Logger      *slog.Logger        // nil is silent
	Registry    prometheus.Registerer
}

// Checker checks the members of the newest world until it is closed.
type Checker struct {
	o    Options
	log  *slog.Logger
	now  func() time.Time
	stop context.CancelFunc
	done chan struct{} // closed when the loop has ended and all checks with it

	snapshot atomic.Pointer[Snapshot]

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the snapshot changes

	checks *prometheus.CounterVec
	up     *prometheus.GaugeVec
}

// Snapshot is the health at one moment. It never changes and implements
// [steer.Health]. The zero value knows nobody.
type Snapshot struct {
	pops    map[region.POPID]bool
	regions map[region.ID]bool
	report  map[Target]State
}

var _ steer.Health = (*Snapshot)(nil)

// POP says whether the POP can take clients.
func (s *Snapshot) POP(id region.POPID) bool { return s.pops[id] }

// Region says whether the region's own listener can take clients.
func (s *Snapshot) Region(id region.ID) bool { return s.regions[id] }

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
		o.Check = Default(nil, false)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Checker{
		o: o, log: o.Logger, now: time.Now, stop: stop,
		done: make(chan struct{}), changed: make(chan struct{}),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_health_checks_total",
			Help: "Checks of POPs and regions by member and outcome.",
		}, []string{"member", "outcome"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "homing_dns_health_up_bool",
			Help: "Whether this observer sees the POP or region up.",
		}, []string{"member"}),
	}
	if o.Registry != nil {
		o.Registry.MustRegister(c.checks, c.up)
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
}

// Report lists what was seen of all members, by name.
func (c *Checker) Report() []Status {
	s := c.Health()
	out := make([]Status, 0, len(s.report))
	for t, state := range s.report {
		out = append(out, Status{Member: t.String(), State: state})
	}
	slices.SortFunc(out, func(a, b Status) int {
		if a.Member < b.Member {
			return -1
		}
		return 1
	})
	return out
}

type outcome struct {
	target Target
	err    error
}

// loop owns all state: members, who is being checked, and the snapshot. Checks
// run in goroutines of their own, at most Concurrency at a time, and report
// here.
func (c *Checker) loop(ctx context.Context) {
	defer close(c.done)
	var (
		states   = make(map[Target]State)
		due      = make(map[Target]time.Time)
		busy     = make(map[Target]bool)
		outcomes = make(chan outcome)
		tick     = time.NewTicker(max(c.o.Interval/10, time.Millisecond))
	)
	defer tick.Stop()
	defer func() {
		for len(busy) > 0 { // their context has ended, so they end soon
			delete(busy, (<-outcomes).target)
		}
	}()
	for {
		now := c.now()
		members := c.members()
		if forget(states, members) {
			c.publish(states)
		}
		for _, t := range members {
			if busy[t] || len(busy) >= c.o.Concurrency || now.Before(due[t]) {
				continue
			}
			busy[t], due[t] = true, now.Add(jitter(c.o.Interval))
			go func() {
				ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
				defer cancel()
				outcomes <- outcome{t, c.o.Check(ctx, t)}
			}()
		}
		maps.DeleteFunc(due, func(t Target, _ time.Time) bool { return !busy[t] && !slices.Contains(members, t) })
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case o := <-outcomes:
			delete(busy, o.target)
			if ctx.Err() == nil && slices.Contains(c.members(), o.target) {
				c.take(states, o)
			}
		}
	}
}

func (c *Checker) members() []Target {
	if v := c.o.View(); v != nil {
		return targets(v.World)
	}
	return nil
}

// forget drops the states of those who are no members any more.
func forget(states map[Target]State, members []Target) bool {
	before := len(states)
	maps.DeleteFunc(states, func(t Target, _ State) bool { return !slices.Contains(members, t) })
	return len(states) != before
}

func (c *Checker) take(states map[Target]State, o outcome) {
	was := states[o.target]
	is := was.Step(Thresholds{Rise: c.o.Rise, Fall: c.o.Fall}, o.err, c.now())
	states[o.target] = is
	member, result := o.target.String(), "success"
	if o.err != nil {
		result = "failure"
	}
	c.checks.WithLabelValues(member, result).Inc()
	if is.Up != was.Up {
		c.log.Info("health changed", "member", member, "up", is.Up, "streak", is.Streak, "err", o.err)
	}
	c.publish(states)
}

// publish makes a snapshot of the states, and tells who waits when somebody
// went up or down.
func (c *Checker) publish(states map[Target]State) {
	old := c.Health()
	s := &Snapshot{pops: make(map[region.POPID]bool), regions: make(map[region.ID]bool), report: maps.Clone(states)}
	c.up.Reset()
	for t, state := range states {
		value := 0.0
		if state.Up {
			value = 1
			if t.POP != "" {
				s.pops[t.POP] = true
			} else {
				s.regions[t.Region] = true
			}
		}
		c.up.WithLabelValues(t.String()).Set(value)
	}
	c.snapshot.Store(s)
	if maps.Equal(old.pops, s.pops) && maps.Equal(old.regions, s.regions) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// jitter spreads checks over time, so that observers do not knock in step.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5)+1))
}
