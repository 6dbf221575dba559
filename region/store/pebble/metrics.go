package pebble

import (
	"github.com/prometheus/client_golang/prometheus"

	shared "github.com/homing-im/homing/region/store/internal/metrics"
)

type metrics struct {
	*shared.Metrics
	sync       prometheus.Histogram
	unfiltered prometheus.Counter

	recent, absent, engine prometheus.Counter // row look-ups of commits
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_store_fsync_seconds", Help: "Wait for the fsync of a group.", Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16),
		}),
		unfiltered: shared.Counter("homing_store_filters_dropped_total", "Partitions whose rows do not fit the filter's memory since the store was opened; their new rows are looked up in the engine."),
	}
	found := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "homing_store_row_lookups_total", Help: "Rows that commits write over, by what knew them: recent rows, the filter of absent rows, the engine.",
	}, []string{"by"})
	m.recent, m.absent, m.engine = found.WithLabelValues("recent"), found.WithLabelValues("absent"), found.WithLabelValues("engine")
	m.Metrics = shared.New(r, found, m.unfiltered, m.sync)
	return m
}

func (m *metrics) lookups(l lookups) {
	m.recent.Add(float64(l.recent))
	m.absent.Add(float64(l.absent))
	m.engine.Add(float64(l.engine))
}
