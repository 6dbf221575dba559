package postgres

import (
	"github.com/prometheus/client_golang/prometheus"

	shared "github.com/homing-im/homing/region/store/internal/metrics"
)

type metrics struct {
	*shared.Metrics
	seconds    prometheus.Histogram
	reconnects prometheus.Counter
	unknown    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_store_transaction_seconds", Help: "Time of a group's transaction.", Buckets: prometheus.ExponentialBuckets(250e-6, 2, 16),
		}),
		reconnects: shared.Counter("homing_store_connections_lost_total", "Connections to a database that broke under the committer."),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_store_unknown_commits_total", Help: "Transactions whose outcome was unknown, by what it turned out to be.",
		}, []string{"outcome"}),
	}
	m.Metrics = shared.New(r, m.seconds, m.reconnects, m.unknown)
	return m
}
