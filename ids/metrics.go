package ids

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_ids_requests_total", Help: "Calls of regions, by method and outcome.",
		}, []string{"method", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "homing_ids_request_seconds", Help: "Time to answer a call of a region.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15),
		}, []string{"method"}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.seconds)
	}
	return m
}

func (m *metrics) observe(method string, err error, d time.Duration) {
	outcome := "ok"
	if err != nil {
		outcome = region.KindOf(err).String()
	}
	m.requests.WithLabelValues(method, outcome).Inc()
	m.seconds.WithLabelValues(method).Observe(d.Seconds())
}
