package replicator

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one region's replicator. Labels are regions and streams,
// of which a world has few; never an owner.
type metrics struct {
	shipped      *prometheus.CounterVec // stream
	shipErrors   prometheus.Counter
	resets       prometheus.Counter
	groupChanges prometheus.Counter
	batches      *prometheus.CounterVec // origin, stream
	rows         *prometheus.CounterVec
	duplicates   *prometheus.CounterVec
	fills        *prometheus.CounterVec
	rereads      *prometheus.CounterVec
	quarantined  *prometheus.CounterVec
	mismatches   *prometheus.CounterVec
	opaque       *prometheus.CounterVec
	unreadable   *prometheus.CounterVec
	halted       *prometheus.CounterVec
	mendings     *prometheus.CounterVec
	damaged      prometheus.Gauge
	watermarks   prometheus.Counter
	trimmed      prometheus.Counter
	overBudget   *prometheus.GaugeVec // region
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_replicator_" + name, Help: help})
	}
	byStream := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_replicator_" + name, Help: help}, []string{"origin", "stream"})
	}
	return &metrics{
		shipped:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_replicator_shipped_batches_total", Help: "Batches put into the region's own queue."}, []string{"stream"}),
		shipErrors:   counter("ship_errors_total", "Times a partition's shipping halted because the queue refused or did not answer."),
		resets:       counter("queue_resets_total", "Times a log of the own queue came back shorter than it was."),
		groupChanges: counter("queue_group_changes_total", "Times a partition went on in another queue group."),
		batches:      byStream("applied_batches_total", "Batches of other regions applied or executed."),
		rows:         byStream("applied_rows_total", "Rows of other regions written."),
		duplicates:   byStream("duplicate_batches_total", "Queue messages whose batch was had before."),
		fills:        byStream("gap_fills_total", "Answers of the origin's journal that closed a gap of the queue."),
		rereads:      byStream("rereads_total", "Times so much came early that it was dropped and read again."),
		quarantined:  byStream("quarantined_messages_total", "Queue messages that are not the batch the origin wrote."),
		mismatches:   byStream("mismatches_total", "Rows or watermarks in which this replica differs from its origin. Must be 0."),
		opaque:       byStream("newer_records_total", "Records of a newer version that are kept, and have no effect here. 0 unless an upgrade is under way."),
		unreadable:   byStream("unreadable_answers_total", "Answers of an origin's journal in a format that this region does not read: a stream of a partition waits for an upgrade. Must be 0."),
		halted:       byStream("halts_total", "Times a stream of a partition stopped because the histories differ. Must be 0."),
		mendings:     byStream("mendings_total", "Partitions of replicas that were begun or repaired by comparison with their origin."),
		damaged:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "homing_replicator_damaged_partitions", Help: "Homes in partitions whose rows were changed behind the store's back. Must be 0."}),
		watermarks:   counter("watermarks_total", "Watermark records written."),
		trimmed:      counter("trimmed_records_total", "Records of the own journal forgotten because all who need them have applied them."),
		overBudget:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "homing_replicator_over_budget_partitions", Help: "Partitions whose journal is trimmed without a region that is past its budget of bytes."}, []string{"region"}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.shipped, m.shipErrors, m.resets, m.groupChanges, m.batches, m.rows, m.duplicates, m.fills, m.rereads,
		m.quarantined, m.mismatches, m.opaque, m.unreadable, m.halted, m.mendings, m.damaged, m.watermarks, m.trimmed, m.overBudget}
}

// lagCollector reads the lag when it is asked for.
type lagCollector struct {
	lag     func() []Lag
	records *prometheus.Desc
	seconds *prometheus.Desc
}

func newLagCollector(lag func() []Lag) *lagCollector {
	labels := []string{"origin", "stream"}
	return &lagCollector{
		lag:     lag,
		records: prometheus.NewDesc("homing_replicator_lag_records", "Sequences of the origin's journal not applied here, when it last told.", labels, nil),
		seconds: prometheus.NewDesc("homing_replicator_lag_seconds", "Everything the origin had this long ago is applied here.", labels, nil),
	}
}

func (c *lagCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.records
	ch <- c.seconds
}

func (c *lagCollector) Collect(ch chan<- prometheus.Metric) {
	for _, l := range c.lag() {
		ch <- prometheus.MustNewConstMetric(c.records, prometheus.GaugeValue, float64(l.Records), string(l.Origin), string(l.Stream))
		ch <- prometheus.MustNewConstMetric(c.seconds, prometheus.GaugeValue, l.Seconds, string(l.Origin), string(l.Stream))
	}
}
