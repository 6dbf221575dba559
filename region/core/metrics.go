package core

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
)

type metrics struct {
	requests  *prometheus.CounterVec // method, outcome
	messages  *prometheus.CounterVec // kind: own, user, group, system
	own       prometheus.Counter     // of messages
	commands  *prometheus.CounterVec // method, outcome: applied, repeated, refused, dead, blocked
	delay     prometheus.Histogram
	paced     *prometheus.CounterVec // by: user, device
	removed   prometheus.Counter
	conflicts prometheus.Counter
	missing   prometheus.Counter
	loop      *prometheus.CounterVec // outcome

	known sync.Map // of pair to prometheus.Counter: those of requests and commands that were counted before
}

// pair names a counter by its vector and its two labels.
type pair struct {
	of            *prometheus.CounterVec
	what, outcome string
}

// counter is WithLabelValues, which hashes its labels, for what every message
// counts.
func (m *metrics) counter(of *prometheus.CounterVec, what, outcome string) prometheus.Counter {
	key := pair{of, what, outcome}
	c, ok := m.known.Load(key)
	if !ok {
		c, _ = m.known.LoadOrStore(key, of.WithLabelValues(what, outcome))
	}
	return c.(prometheus.Counter)
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_core_requests_total",
			Help: "Requests, by method and by ok or the kind of error."}, []string{"method", "outcome"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_core_messages_total",
			Help: "Messages put into an inbox: the sender's own copy, from a user, from a group, written by a region."}, []string{"kind"}),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_core_commands_total",
			Help: "Commands executed, by what became of them."}, []string{"method", "outcome"}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "homing_core_command_delay_seconds",
			Help:    "From a command's commit at its origin, by the origin's clock, to its effect being durable here.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600}}),
		paced: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_core_paced_total",
			Help: "Messages refused because their user or device sent too fast."}, []string{"by"}),
		removed: prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_core_messages_removed_total",
			Help: "Messages removed from inboxes because they were older than the region keeps them."}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_core_conflicts_total",
			Help: "Commits tried again because a precondition did not hold."}),
		missing: prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_core_tickets_without_device_total",
			Help: "Tickets accepted from another issuer although the device's row is not here: it was lost or is late."}),
		loop: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_core_command_rounds_total",
			Help: "Rounds of executing this region's own commands, by ok or the kind of error."}, []string{"outcome"}),
	}
	m.own = m.messages.WithLabelValues("own")
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.messages, m.commands, m.delay, m.paced, m.removed, m.conflicts, m.missing, m.loop} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return region.KindOf(err).String()
}

// count is deferred by every method that a client may call.
func (m *metrics) count(method string, err *error) {
	m.counter(m.requests, method, outcome(*err)).Inc()
}
