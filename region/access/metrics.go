package access

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region/wire"
)

type metrics struct {
	rejected  *prometheus.CounterVec   // by reason
	requests  *prometheus.CounterVec   // by front, method, result
	seconds   *prometheus.HistogramVec // by method
	cutOff    *prometheus.CounterVec   // by reason
	redirects *prometheus.CounterVec   // by front
	messages  prometheus.Counter
	accepted  *prometheus.CounterVec // by front

	good sync.Map // of goodKey to *good: what nearly every request counts
}

type goodKey struct {
	front  string
	method wire.Method
}

// good are the metrics of a method's good answers.
type good struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

// served counts a request.
func (m *metrics) served(front string, method wire.Method, result string, took time.Duration) {
	if result != resultOK {
		m.requests.WithLabelValues(front, method.String(), result).Inc()
		m.seconds.WithLabelValues(method.String()).Observe(took.Seconds())
		return
	}
	g, known := m.good.Load(goodKey{front, method})
	if !known {
		g, _ = m.good.LoadOrStore(goodKey{front, method}, &good{
			requests: m.requests.WithLabelValues(front, method.String(), resultOK), seconds: m.seconds.WithLabelValues(method.String())})
	}
	g.(*good).requests.Inc()
	g.(*good).seconds.Observe(took.Seconds())
}

const resultOK = "ok"

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		rejected:  counter("homing_access_rejected_total", "Connections and requests refused before they reached the core, by reason.", "reason"),
		requests:  counter("homing_access_requests_total", "Requests answered, by front, method and result (ok or the error's kind).", "front", "method", "result"),
		cutOff:    counter("homing_access_cut_off_total", "Connections the server ended, by reason.", "reason"),
		redirects: counter("homing_access_redirects_total", "Clients sent to another region, by front.", "front"),
		accepted:  counter("homing_access_accepted_total", "Connections accepted, by front.", "front"),
		messages:  prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_access_messages_total", Help: "Messages sent by clients of this region and stored."}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "homing_access_request_seconds", Help: "Time from a request read to its answer queued.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"method"}),
	}
	return m, register(r, m.rejected, m.requests, m.cutOff, m.redirects, m.accepted, m.messages, m.seconds)
}

func register(r prometheus.Registerer, cs ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
