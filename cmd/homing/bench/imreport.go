package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// IMReport is what `homing bench im -o json` prints.
type IMReport struct {
	Machine Machine    `json:"machine"`
	Options IMOptions  `json:"options"`
	Tries   []IMResult `json:"tries,omitempty"`
	Found   *IMFound   `json:"found,omitempty"` // of --find
	Idle    *IMIdle    `json:"idle,omitempty"`
}

// IMResult is what one rate gave. Rates are of the time in which messages were
// sent, the warm-up left out; counts are of the whole run.
type IMResult struct {
	Rate         float64 `json:"offered_per_second"`
	Sent         float64 `json:"sent_per_second"`         // less than offered when the generator is late
	Acknowledged float64 `json:"acknowledged_per_second"` // durable at the sender's
	Delivered    float64 `json:"delivered_per_second"`    // pushed to a recipient
	CPU          float64 `json:"cpu_micros_per_delivery"` // of the region's process; 0 where it cannot be told
	Cores        float64 `json:"cores"`                   // that the region's process got
	BenchCPU     float64 `json:"bench_cpu_micros_per_delivery"`
	BenchCores   float64 `json:"bench_cores"`
	Memory       int64   `json:"memory_bytes"` // anonymous memory of the region's process at the end

	Delay Quantiles `json:"delay"` // from due to the recipient's push
	Ack   Quantiles `json:"ack"`   // from due to the sender's answer

	Stored *IMStored `json:"stored,omitempty"` // where bench started the region

	Lost       int   `json:"lost"`       // acknowledged, and neither pushed nor found by sync
	Synced     int   `json:"synced"`     // found by sync only
	Duplicates int64 `json:"duplicates"` // pushed more than once
	Disorder   int64 `json:"disorder"`   // pushed after a later one of the same sender
	Refused    int64 `json:"refused"`    // answered with an error
	Unanswered int64 `json:"unanswered"` // not answered at all
	Unsendable int64 `json:"unsendable"` // writes that failed
	Bare       int64 `json:"bare"`       // notices without their message
}

// Quantiles are in milliseconds, within a sixteenth.
type Quantiles struct {
	P50  float64 `json:"p50_millis"`
	P99  float64 `json:"p99_millis"`
	P999 float64 `json:"p999_millis"`
}

func quantiles(hs []histogram) Quantiles {
	var all histogram
	for i := range hs {
		all.merge(&hs[i])
	}
	return Quantiles{P50: all.quantile(0.5), P99: all.quantile(0.99), P999: all.quantile(0.999)}
}

// IMIdle is what idle connections cost. Memory is anonymous memory (RssAnon) of
// the region's process.
type IMIdle struct {
	Connections   int     `json:"connections"`
	Connected     float64 `json:"connected_per_second"`
	Before        int64   `json:"before_bytes"`
	Peak          int64   `json:"peak_bytes"` // when all had just connected
	After         int64   `json:"after_bytes"`
	PerConnection float64 `json:"bytes_per_connection"`
}

func (r *IMReport) print(out io.Writer) error {
	o := &r.Options
	fmt.Fprintf(out, "%d CPUs, %s, %s; load before the run %.1f; a small write and its fsync take %.0f µs\n", r.Machine.CPUs, r.Machine.OS, r.Machine.Go, r.Machine.Load, r.Machine.Fsync)
	how := "plain"
	if o.TLS {
		how = "TLS"
	}
	if o.Queue {
		how += ", with a queue"
	}
	if i := r.Idle; i != nil {
		fmt.Fprintf(out, "%d idle connections, %s: %.1f KB each (%.0f MB before, %.0f MB after, %.0f MB at the peak); %.0f connected a second\n",
			i.Connections, how, i.PerConnection/1e3, float64(i.Before)/1e6, float64(i.After)/1e6, float64(i.Peak)/1e6, i.Connected)
		return nil
	}
	what := fmt.Sprintf("%d users, 1:1", o.Users)
	if o.Echo {
		what += ", echoed by a bare server"
	}
	if o.Kind == kindGroup {
		what = fmt.Sprintf("%d users in groups of %d", o.Users, o.Members)
	}
	fmt.Fprintf(out, "%s, %d bytes, %s, %d partitions, %.0f s each\n\n", what, o.Bytes, how, o.Partitions, o.DurationSeconds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "offered/s\tsent/s\tacked/s\tdelivered/s\tcpu µs\tcores\tbench µs\tp50 ms\tp99 ms\tp999 ms\tack p50\tack p99\tlost\tsynced\tdoubled\tdisorder\trefused\tunanswered\t")
	for i := range r.Tries {
		t := &r.Tries[i]
		fmt.Fprintf(w, "%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%.2f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%d\t%d\t%d\t%d\t%d\t%d\t\n", t.Rate, t.Sent, t.Acknowledged, t.Delivered, t.CPU, t.Cores, t.BenchCPU,
			t.Delay.P50, t.Delay.P99, t.Delay.P999, t.Ack.P50, t.Ack.P99, t.Lost, t.Synced, t.Duplicates, t.Disorder, t.Refused, t.Unanswered)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if s := r.Tries[len(r.Tries)-1].Stored; s != nil {
		fmt.Fprintf(out, "\nstored for a message: %.2f rows of state in %.2f commits, %.0f bytes of journal; %.0f bytes were written to the disk\n", s.Rows, s.Commits, s.Journal, s.Disk)
	}
	if r.Found != nil {
		r.Found.print(out, r)
	}
	return nil
}
