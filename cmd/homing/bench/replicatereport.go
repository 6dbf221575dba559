package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// ReplicateReport is what `homing bench replicate -o json` prints.
type ReplicateReport struct {
	Machine Machine          `json:"machine"`
	Options ReplicateOptions `json:"options"`
	Queues  []QueueReport    `json:"queues"`
	Skipped []string         `json:"skipped,omitempty"` // what could not be measured here, and why
}

// QueueReport is what was measured on one queue.
type QueueReport struct {
	Queue string `json:"queue"`
	Own   Rate   `json:"own"`   // rows that the store takes by itself
	Ship  Speed  `json:"ship"`  // journal to queue
	Null  Speed  `json:"null"`  // queue to nothing
	Apply Speed  `json:"apply"` // queue to the other store

	ApplyOfOwn    float64 `json:"apply_of_own"`     // rows applied per second, of those committed
	ApplyOfOwnCPU float64 `json:"apply_of_own_cpu"` // the same by processor time

	Peer      *Speed  `json:"mirrormaker2,omitempty"`
	TimesPeer float64 `json:"times_mirrormaker2,omitempty"` // batches per second of a processor, of null and of MirrorMaker 2

	Capacity float64 `json:"capacity"` // batches a second, when committing, shipping and applying take turns on this machine
	Half     Lagging `json:"half"`
	CatchUp  CatchUp `json:"catch_up"`
}

// Speed is how fast batches were copied. A batch is one message.
type Speed struct {
	Batches      uint64  `json:"batches"`
	Rows         uint64  `json:"rows"`
	Seconds      float64 `json:"seconds"`
	PerSecond    float64 `json:"batches_per_second"`
	PerCPUSecond float64 `json:"batches_per_cpu_second"`
	Cores        float64 `json:"cores"`
	Fills        uint64  `json:"gap_fills"` // answers of the journal that were needed
}

// Lagging is the lag at half of the capacity.
type Lagging struct {
	PerSecond float64 `json:"batches_per_second"`
	Samples   uint64  `json:"samples"`
	P50       float64 `json:"p50_millis"`
	P99       float64 `json:"p99_millis"`
	OverRTT   float64 `json:"p99_over_rtt_millis"`
	Produce   float64 `json:"produce_p99_millis"`      // one request of the shipper
	Fetch     float64 `json:"fetch_p99_millis"`        // one question of the replay, the round trip included
	Apply     float64 `json:"apply_p99_millis"`        // one transaction
	Cores     float64 `json:"cores"`                   // of committing and copying, both regions, without the brokers
	WANBytes  float64 `json:"wan_bytes_per_user_byte"` // received by the region that copies, for each byte of keys and values
}

// CatchUp is what follows an outage, while a fifth of the capacity is committed.
type CatchUp struct {
	Missed      uint64  `json:"missed_records"`
	Seconds     float64 `json:"seconds"`
	TimesIngest float64 `json:"times_ingest"` // records applied for each one committed meanwhile
}

func (r *ReplicateReport) print(out io.Writer) error {
	o := &r.Options
	fmt.Fprintf(out, "%d CPUs, %s, %s; load before the run %.1f; a small write and its fsync take %.0f µs\n", r.Machine.CPUs, r.Machine.OS, r.Machine.Go, r.Machine.Load, r.Machine.Fsync)
	spelled := "not compressed (--zstd)"
	if o.Zstd {
		spelled = "compressed with zstd"
	}
	fmt.Fprintf(out, "%d batches of 4 rows of %d bytes, %d partitions, %s; RTT %s\n", o.Batches, o.Value, o.Partitions, spelled, o.RTT)
	for i := range r.Queues {
		q := &r.Queues[i]
		fmt.Fprintf(out, "\nqueue %s; the store's own rate is %.0f rows/s at %.2f µs of processor time each\n\n", q.Queue, q.Own.PerSecond, q.Own.CPU)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "\tbatches/s\tper CPU second\tcores\tgap fills\t")
		line := func(name string, s *Speed) {
			fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.2f\t%d\t\n", name, s.PerSecond, s.PerCPUSecond, s.Cores, s.Fills)
		}
		line("shipped", &q.Ship)
		line("copied to nothing", &q.Null)
		line("applied", &q.Apply)
		if q.Peer != nil {
			line("MirrorMaker 2", q.Peer)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if q.Peer != nil {
			fmt.Fprintf(out, "copied to nothing: %.1f times MirrorMaker 2's batches for the same processor time\n", q.TimesPeer)
		}
		fmt.Fprintf(out, "applied: %.0f %% of the store's own row rate, %.0f %% by processor time\n", 100*q.ApplyOfOwn, 100*q.ApplyOfOwnCPU)
		fmt.Fprintf(out, "at half load, %.0f batches/s: lag p50 %.0f ms, p99 %.0f ms, which is %+.0f ms of the round trip; %.2f bytes over the ocean for each byte of users\n",
			q.Half.PerSecond, q.Half.P50, q.Half.P99, q.Half.OverRTT, q.Half.WANBytes)
		fmt.Fprintf(out, "  of that p99 of a produce %.0f ms, of a fetch %.0f ms, of a transaction %.0f ms; %.2f cores\n", q.Half.Produce, q.Half.Fetch, q.Half.Apply, q.Half.Cores)
		fmt.Fprintf(out, "after an outage: %d records made up for in %.2f s, at %.1f times what was committed meanwhile\n", q.CatchUp.Missed, q.CatchUp.Seconds, q.CatchUp.TimesIngest)
	}
	if len(r.Skipped) > 0 {
		fmt.Fprintf(out, "\nnot measured: %s\n", strings.Join(r.Skipped, "; "))
	}
	return nil
}
