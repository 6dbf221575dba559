package pebble

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	commit prometheus.Histogram
	group  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_ids_commit_seconds", Help: "Time to make a group of claims and allotments durable.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15),
		}),
		group: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_ids_group_operations", Help: "Claims and allotments that shared one fsync.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
	}
	if r != nil {
		r.MustRegister(m.commit, m.group)
	}
	return m
}
