package pebble

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
	sync       prometheus.Histogram
	failures   prometheus.Counter
	unfiltered prometheus.Counter

	recent, absent, engine prometheus.Counter // row look-ups of commits
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		commits:    counter("homing_store_commits_total", "Batches committed and durable."),
		writes:     counter("homing_store_row_writes_total", "Rows written and durable, by commits and replay."),
		journal:    counter("homing_store_journal_bytes_total", "Bytes appended to the journal."),
		failures:   counter("homing_store_failures_total", "Failed writes that made the store read-only until restart."),
		mismatches: counter("homing_store_mismatches_total", "Rows or watermarks in which this replica differed from an origin."),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_store_refusals_total", Help: "Commits refused, by kind of error.",
		}, []string{"kind"}),
		group: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_store_group_commits", Help: "Commits that shared one fsync.", Buckets: prometheus.ExponentialBuckets(1, 2, 14),
		}),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_store_fsync_seconds", Help: "Wait for the fsync of a group.", Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16),
		}),
	}
	found := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "homing_store_row_lookups_total", Help: "Rows that commits write over, by what knew them: recent rows, the filter of absent rows, the engine.",
	}, []string{"by"})
	m.recent, m.absent, m.engine = found.WithLabelValues("recent"), found.WithLabelValues("absent"), found.WithLabelValues("engine")
	m.unfiltered = counter("homing_store_filters_dropped_total", "Partitions whose rows do not fit the filter's memory since the store was opened; their new rows are looked up in the engine.")
	if r != nil {
		r.MustRegister(found, m.unfiltered, m.commits, m.writes, m.journal, m.mismatches, m.refusals, m.group, m.sync, m.failures)
	}
	return m
}

func (m *metrics) lookups(l lookups) {
	m.recent.Add(float64(l.recent))
	m.absent.Add(float64(l.absent))
	m.engine.Add(float64(l.engine))
}

func (m *metrics) refused(err error) { m.refusals.WithLabelValues(region.KindOf(err).String()).Inc() }
