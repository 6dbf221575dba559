package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// DNSReport is what bench dns found. The JSON names are append-only.
type DNSReport struct {
	Options DNSOptions  `json:"options"`
	Machine Machine     `json:"machine"`
	Servers []DNSServer `json:"servers"`
	Skipped []Skipped   `json:"skipped"`
	Notes   []Note      `json:"notes,omitempty"`
	Delay   *DNSDelay   `json:"delay"` // of homing, at half the rate that it reached
	HTTP    *DNSHTTP    `json:"http"`
	// Floor is the delay of echo at the same rate, and Collecting that of homing while
	// its garbage is collected every second.
	Floor      *DNSDelay   `json:"floor,omitempty"`
	Collecting *DNSDelay   `json:"collecting,omitempty"`
	Overlay    *DNSOverlay `json:"overlay,omitempty"`

	runs map[string][]*dnsRun
}

// DNSServer is one server's figures: medians over the rounds.
type DNSServer struct {
	Name      string  `json:"name"`
	CPUMicros float64 `json:"cpuMicros"` // of the process, for a query
	PerSecond float64 `json:"perSecond"` // as the generator and its neighbours let it
	Share     float64 `json:"share"`     // of the questions that were answered
	RSS       uint64  `json:"rss"`       // bytes
	// OfEcho and OfGdnsd are the processor time for a query over theirs; 0 without them.
	OfEcho  float64 `json:"ofEcho,omitempty"`
	OfGdnsd float64 `json:"ofGdnsd,omitempty"`
	// OfOneWorker is that of two workers over that of one.
	OfOneWorker float64 `json:"ofOneWorker,omitempty"`
}

// DNSDelay is in milliseconds, from when a question was due to its answer.
type DNSDelay struct {
	PerSecond float64 `json:"perSecond"`
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
	P999      float64 `json:"p999"`
	Lost      uint64  `json:"lost"`
	Max       float64 `json:"max"`
	// Collections of garbage meanwhile, and how long the server stood still for all
	// of them together; 0 where it does not tell.
	Collections  int     `json:"collections"`
	PausedMillis float64 `json:"pausedMillis"`
	// HeldUpMillis is how long the generator itself was held up, and Uncounted the
	// number of answers then, which are in none of the figures above.
	HeldUpMillis float64 `json:"heldUpMillis"`
	Uncounted    uint64  `json:"uncounted"`
}

// Note says where a peer's job is not quite the same.
type Note struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// DNSHTTP compares HTTPDNS with a net/http handler that returns a constant.
type DNSHTTP struct {
	PerSecond         float64 `json:"perSecond"`
	ConstantPerSecond float64 `json:"constantPerSecond"`
	Ratio             float64 `json:"ratio"` // of the rates
	CPUMicros         float64 `json:"cpuMicros"`
	ConstantCPUMicros float64 `json:"constantCPUMicros"`
}

// Skipped is a peer that was not measured.
type Skipped struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

func (r *DNSReport) add(name string, m *dnsRun) {
	if r.runs == nil {
		r.runs = map[string][]*dnsRun{}
	}
	if !slices.ContainsFunc(r.Servers, func(s DNSServer) bool { return s.Name == name }) {
		r.Servers = append(r.Servers, DNSServer{Name: name})
	}
	r.runs[name] = append(r.runs[name], m)
}

// server is a server's figures, nil when it has none.
func (r *DNSReport) server(name string) *DNSServer {
	for i := range r.Servers {
		if r.Servers[i].Name == name {
			return &r.Servers[i]
		}
	}
	return nil
}

func summary(runs []*dnsRun) (s DNSServer) {
	median := func(of func(*dnsRun) float64) float64 {
		var all []float64
		for _, r := range runs {
			all = append(all, of(r))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	s.CPUMicros = median(func(r *dnsRun) float64 { return float64(r.cpu.Nanoseconds()) / 1000 / float64(max(1, r.answered)) })
	s.PerSecond = median(func(r *dnsRun) float64 { return float64(r.answered) / r.took.Seconds() })
	s.Share = median(func(r *dnsRun) float64 { return float64(r.answered) / float64(max(1, r.asked)) })
	s.RSS = uint64(median(func(r *dnsRun) float64 { return float64(r.rss) }))
	return s
}

// settle makes figures and ratios of the runs.
func (r *DNSReport) settle() {
	cpu := map[string]float64{}
	for i, s := range r.Servers {
		r.Servers[i] = summary(r.runs[s.Name])
		r.Servers[i].Name = s.Name
		cpu[s.Name] = r.Servers[i].CPUMicros
	}
	over := func(a, b string) float64 {
		if cpu[b] == 0 {
			return 0
		}
		return cpu[a] / cpu[b]
	}
	for i, s := range r.Servers {
		r.Servers[i].OfEcho, r.Servers[i].OfGdnsd = over(s.Name, "echo"), over(s.Name, "gdnsd")
		if s.Name == "homing-2" {
			r.Servers[i].OfOneWorker = over(s.Name, "homing")
		}
	}
}

func (r *DNSReport) print(out io.Writer) error {
	fmt.Fprintf(out, "%s, %d processors, load %.1f; %d rules, overlay of %d, %d client networks, median of %d rounds of %s\n\n",
		r.Machine.OS, r.Machine.CPUs, r.Machine.Load, r.Options.Rules, r.Options.Overlay, r.Options.Networks, r.Options.Rounds, r.Options.Duration)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "server\tcpu/query\tqueries/s\tanswered\tmemory\tof echo\tof gdnsd\t")
	ratio := func(x float64) string {
		if x == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f", x)
	}
	for _, s := range r.Servers {
		fmt.Fprintf(t, "%s\t%.2f µs\t%.0f\t%.1f %%\t%.0f MB\t%s\t%s\t\n", s.Name, s.CPUMicros, s.PerSecond, 100*s.Share, float64(s.RSS)/1e6, ratio(s.OfEcho), ratio(s.OfGdnsd))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range r.Servers {
		if s.OfOneWorker > 0 {
			fmt.Fprintf(out, "\ntwo workers take %.2f times the processor time of one for a query\n", s.OfOneWorker)
		}
	}
	for _, d := range []struct {
		what string
		*DNSDelay
	}{{"echo", r.Floor}, {"homing", r.Delay}, {"homing, collecting garbage every second", r.Collecting}} {
		if d.DNSDelay == nil {
			continue
		}
		fmt.Fprintf(out, "delay at %.0f/s of %s: median %.3f ms, p99 %.3f ms, p99.9 %.3f ms, longest %.2f ms, %d lost", d.PerSecond, d.what, d.P50, d.P99, d.P999, d.Max, d.Lost)
		if d.DNSDelay != r.Floor {
			fmt.Fprintf(out, "; %d collections, still for %.2f ms in all", d.Collections, d.PausedMillis)
		}
		if d.Uncounted > 0 {
			fmt.Fprintf(out, "; not counted: %d while the generator was held up for %.1f ms", d.Uncounted, d.HeldUpMillis)
		}
		fmt.Fprintln(out)
	}
	if h := r.HTTP; h != nil {
		fmt.Fprintf(out, "HTTPDNS %.0f/s (%.1f µs), a constant net/http handler %.0f/s (%.1f µs): %.2f times its rate\n",
			h.PerSecond, h.CPUMicros, h.ConstantPerSecond, h.ConstantCPUMicros, h.Ratio)
	}
	if o := r.Overlay; o != nil {
		fmt.Fprintf(out, "an overlay of %d takes %.0f MB; %.0f ns to look up, %.0f/s to fill in random order\n", o.Owners, float64(o.Bytes)/1e6, o.LookupNanos, o.PutPerSecond)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "note: %s %s\n", n.Name, n.Text)
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(out, "skipped: %s: %s\n", s.Name, s.Why)
	}
	return nil
}
