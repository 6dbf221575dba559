package accel

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	accepted       *prometheus.CounterVec
	rejected       *prometheus.CounterVec
	upstreamFailed *prometheus.CounterVec
	requests       *prometheus.CounterVec
	goAways        *prometheus.CounterVec
	redirects      prometheus.Counter
	hello          prometheus.Histogram
	rtt            *prometheus.GaugeVec
	regionUp       *prometheus.GaugeVec

	in, out atomic.Uint64 // bytes relayed on long connections
}

func newMetrics(r prometheus.Registerer) *metrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		accepted:       counters("homing_pop_accepted_total", "Client connections accepted, by listener.", "listener"),
		rejected:       counters("homing_pop_rejected_total", "Client connections and requests refused, by reason.", "reason"),
		upstreamFailed: counters("homing_pop_upstream_failures_total", "Failed attempts to reach a region for a client.", "region"),
		requests:       counters("homing_pop_requests_total", "HTTP requests passed on, by listener and region.", "listener", "region"),
		goAways:        counters("homing_pop_goaways_total", "Clients told to reconnect, by reason.", "reason"),
		redirects:      prometheus.NewCounter(prometheus.CounterOpts{Name: "homing_pop_redirects_followed_total", Help: "Redirects of regions followed for a client: this POP's world was stale."}),
		hello: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "homing_pop_hello_seconds", Help: "Time from accepting a client to passing on the region's reply to its HELLO.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
		rtt:      gauges("homing_pop_region_rtt_seconds", "Time of a TCP connect to a region's long listener, smoothed.", "region"),
		regionUp: gauges("homing_pop_region_reachable", "Whether the newest probe reached the region.", "region"),
	}
	if r != nil {
		r.MustRegister(m.accepted, m.rejected, m.upstreamFailed, m.requests, m.goAways, m.redirects, m.hello, m.rtt, m.regionUp)
	}
	return m
}

func (m *metrics) bytesIn(n int)  { m.in.Add(uint64(n)) }
func (m *metrics) bytesOut(n int) { m.out.Add(uint64(n)) }

// watch registers what is read off the POP itself.
func (m *metrics) watch(p *POP, r prometheus.Registerer) {
	if r == nil {
		return
	}
	gauge := func(name, help string, f func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge("homing_pop_connections", "Long connections relayed now.", func() float64 { return float64(p.Status().Connections.Long) })
	gauge("homing_pop_users", "UINs with a long connection now.", func() float64 { return float64(p.Status().Users) })
	for direction, n := range map[string]*atomic.Uint64{"from-client": &m.in, "to-client": &m.out} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "homing_pop_relayed_bytes_total", Help: "Bytes relayed on long connections, by direction.",
			ConstLabels: prometheus.Labels{"direction": direction},
		}, func() float64 { return float64(n.Load()) }))
	}
}
