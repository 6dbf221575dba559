package authority

import (
	"strconv"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/dns/steer"
)

type metrics struct {
	responses    *prometheus.CounterVec
	answers      *prometheus.CounterVec
	first        *prometheus.CounterVec
	pools        *prometheus.CounterVec
	logDropped   prometheus.Counter
	shadow       *prometheus.CounterVec
	malformed    *prometheus.CounterVec
	badRequests  prometheus.Counter
	socketErrors prometheus.Counter
	limited      *prometheus.CounterVec
	misses       prometheus.Counter
	transfers    *prometheus.CounterVec

	answeredUDP, answeredHTTP prometheus.Counter // of responses
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_responses_total",
			Help: "Answers by transport and response code.",
		}, []string{"transport", "rcode"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_steered_total",
			Help: "Steered answers by the rule that gave them; all transports.",
		}, []string{"rule"}),
		first: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_first_choice_total",
			Help: "Steered answers by the POP or region that stands first in them; all transports.",
		}, []string{"member"}),
		pools: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_pool_total",
			Help: "Steered answers with a POP or region in them, at any place, by the rule whose pool it was chosen from; all transports.",
		}, []string{"rule", "member"}),
		shadow: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_shadow_total",
			Help: "Questions answered by the present server: the same here, or by the first that differs (rcode, answer, ttl, scope); unanswered by it; dropped.",
		}, []string{"outcome"}),
		logDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "homing_dns_query_log_dropped_total",
			Help: "Lines of the query log that were not written, because what writes them was behind or failed.",
		}),
		malformed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_malformed_total",
			Help: "Packets that were dropped or rejected before they were looked up, by what was wrong.",
		}, []string{"transport", "what"}),
		badRequests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "homing_dns_http_bad_requests_total",
			Help: "HTTPDNS requests with a bad parameter.",
		}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_rate_limited_total",
			Help: "Answers over UDP beyond the rate of a client's network, or longer than it has credit for, by what became of them; they count as responses, too.",
		}, []string{"action"}),
		misses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "homing_dns_memory_misses_total",
			Help: "Questions over UDP and HTTPDNS that steering had to be asked about before they could be answered from memory.",
		}),
		transfers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "homing_dns_transfers_total",
			Help: "Zone transfers by what they consisted of: the whole zone, the changes since a serial, or nothing because there are none.",
		}, []string{"what"}),
		socketErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "homing_dns_socket_errors_total",
			Help: "Reads, writes and accepts that failed.",
		}),
	}
	m.answeredUDP = m.responses.WithLabelValues(string(overUDP), rcodeName(dns.RcodeSuccess))
	m.answeredHTTP = m.responses.WithLabelValues(string(overHTTP), rcodeName(dns.RcodeSuccess))
	if r != nil {
		r.MustRegister(m.responses, m.answers, m.first, m.pools, m.logDropped, m.shadow, m.malformed, m.badRequests, m.socketErrors, m.limited, m.misses, m.transfers)
	}
	return m
}

// steered are the counters that an answer of steering counts in, each once.
func (m *metrics) steered(a *steer.Answer) []prometheus.Counter {
	out := []prometheus.Counter{m.answers.WithLabelValues(a.Rule)}
	for i := range a.Endpoints {
		name := a.Endpoints[i].Name()
		if i == 0 {
			out = append(out, m.first.WithLabelValues(name))
		}
		out = append(out, m.pools.WithLabelValues(a.Rule, name))
	}
	return out
}

// rcodeName names a response code; 16 is BADSIG in the library's table, which
// this server never says.
func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers {
		return "BADVERS"
	}
	if name, ok := dns.RcodeToString[rcode]; ok {
		return name
	}
	return strconv.Itoa(rcode)
}
