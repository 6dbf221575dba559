// Package metrics is what every engine of region/store counts, under the same
// names: a region has one engine, and its curves and alarms need not know which.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
)

// Metrics are an engine's.
type Metrics struct {
	Commits    prometheus.Counter
	Writes     prometheus.Counter
	Journal    prometheus.Counter // bytes
	Mismatches prometheus.Counter
	Failures   prometheus.Counter
	Group      prometheus.Histogram // commits
	refusals   *prometheus.CounterVec
}

// New registers the metrics, and the engine's own; nil registers none.
func New(r prometheus.Registerer, own ...prometheus.Collector) *Metrics {
	m := &Metrics{
		Commits:    Counter("homing_store_commits_total", "Batches committed and durable."),
		Writes:     Counter("homing_store_row_writes_total", "Rows written and durable, by commits and replay."),
		Journal:    Counter("homing_store_journal_bytes_total", "Bytes appended to the journal."),
		Mismatches: Counter("homing_store_mismatches_total", "Rows or watermarks in which this replica differed from an origin."),
		Failures:   Counter("homing_store_failures_total", "Failures that made the store read-only until restart."),
		Group: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_store_group_commits", Help: "Operations that became durable together, by one fsync or transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 14),
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_store_refusals_total", Help: "Commits refused, by kind of error.",
		}, []string{"kind"}),
	}
	if r != nil {
		r.MustRegister(append(own, m.Commits, m.Writes, m.Journal, m.Mismatches, m.Failures, m.Group, m.refusals)...)
	}
	return m
}

// Refused counts a commit that was refused.
func (m *Metrics) Refused(err error) { m.refusals.WithLabelValues(region.KindOf(err).String()).Inc() }

// Counter makes a counter.
func Counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}
