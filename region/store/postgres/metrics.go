package postgres

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
)

type metrics struct {
	commits    prometheus.Counter
	writes     prometheus.Counter
	journal    prometheus.Counter
	refusals   *prometheus.CounterVec
	mismatches prometheus.Counter
	group      prometheus.Histogram
	seconds    prometheus.Histogram
	failures   prometheus.Counter
	reconnects prometheus.Counter
	unknown    *prometheus.CounterVec
}

// newMetrics has the embedded engine's names with another word: a name is made
// in one place, and a region has one engine.
func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		commits:    counter("homing_store_postgres_commits_total", "Batches committed and durable."),
		writes:     counter("homing_store_postgres_row_writes_total", "Rows written and durable, by commits and replay."),
		journal:    counter("homing_store_postgres_journal_bytes_total", "Bytes appended to the journal."),
		failures:   counter("homing_store_postgres_failures_total", "Failures that made the store read-only until restart."),
		mismatches: counter("homing_store_postgres_mismatches_total", "Rows or watermarks in which this replica differed from an origin."),
		reconnects: counter("homing_store_postgres_connections_lost_total", "Connections to a database that broke under the committer."),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_store_postgres_unknown_commits_total", Help: "Transactions whose outcome was unknown, by what it turned out to be.",
		}, []string{"outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_store_postgres_refusals_total", Help: "Commits refused, by kind of error.",
		}, []string{"kind"}),
		group: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_store_postgres_group_commits", Help: "Operations that shared one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 14),
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_store_postgres_transaction_seconds", Help: "Time of a group's transaction.", Buckets: prometheus.ExponentialBuckets(250e-6, 2, 16),
		}),
	}
	if r != nil {
		r.MustRegister(m.commits, m.writes, m.journal, m.mismatches, m.refusals, m.group, m.seconds, m.failures, m.reconnects, m.unknown)
	}
	return m
}

func (m *metrics) refused(err error) { m.refusals.WithLabelValues(region.KindOf(err).String()).Inc() }
