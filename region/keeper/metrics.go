package keeper

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	version  prometheus.Gauge
	hints    prometheus.Counter
	rounds   prometheus.Counter
	forks    prometheus.Counter
	refused  *prometheus.CounterVec
	forged   *prometheus.CounterVec
	entries  prometheus.Gauge
	compared prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		version:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "homing_keeper_world_version", Help: "Version of the newest world."}),
		hints:    prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_keeper_hints_total", Help: "Claims of a newer world or of another one."}),
		rounds:   prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_keeper_fetch_rounds_total", Help: "Rounds of asking other nodes for worlds."}),
		forks:    prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_keeper_forks_total", Help: "Sibling worlds seen; alarm on any."}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_keeper_refused_worlds_total", Help: "Worlds offered and refused, by kind of error."}, []string{"kind"}),
		forged:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_keeper_refused_batches_total", Help: "Overlay batches refused, by kind of error."}, []string{"kind"}),
		entries:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "homing_keeper_overlay_entries", Help: "Owners who live outside their segment's region."}),
		compared: prometheus.NewGauge(prometheus.GaugeOpts{Name: "homing_keeper_compared_voters", Help: "Voters this node has compared worlds with since it started."}),
	}
	register(r, &m.version)
	register(r, &m.hints)
	register(r, &m.rounds)
	register(r, &m.forks)
	register(r, &m.refused)
	register(r, &m.forged)
	register(r, &m.entries)
	register(r, &m.compared)
	return m
}

// register takes over what an earlier keeper of the same registry registered,
// so that a node can be opened again in one process.
func register[C prometheus.Collector](r prometheus.Registerer, c *C) {
	var are prometheus.AlreadyRegisteredError
	if err := r.Register(*c); errors.As(err, &are) {
		if old, ok := are.ExistingCollector.(C); ok {
			*c = old
		}
	}
}
