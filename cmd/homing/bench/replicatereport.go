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
	Zstd  bool   `json:"zstd"`  // what is in the queue is compressed
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
	Queue     float64 `json:"queue_p99_millis"`         // of a batch: from durable to acknowledged by the queue
	Cross     float64 `json:"cross_p99_millis"`         // from there to the other region
	Store     float64 `json:"store_p99_millis"`         // from there to applied
	Late      float64 `json:"distance_late_p99_millis"` // what the proxy that makes the distance added to half a round trip
	Produce   float64 `json:"produce_p99_millis"`       // one request of the shipper
	Fetch     float64 `json:"fetch_p99_millis"`         // one question of the replay, the round trip included
	Apply     float64 `json:"apply_p99_millis"`         // one transaction
	Cores     float64 `json:"cores"`                    // of committing and copying, both regions, without the brokers
	Bare      *Bare   `json:"bare"`                     // of the queue by itself, at the same rate
	WANBytes  float64 `json:"wan_bytes_per_user_byte"`  // received by the region that copies, for each byte of keys and values
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
	fmt.Fprintf(out, "%d batches of 4 rows of %d bytes, %d partitions; RTT %s\n\n", o.Batches, o.Value, o.Partitions, o.RTT)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name string, figure func(q *QueueReport) string) {
		fmt.Fprintf(w, "%-46s", name)
		for i := range r.Queues {
			fmt.Fprint(w, "\t", figure(&r.Queues[i]))
		}
		fmt.Fprintln(w, "\t")
	}
	number := func(name, format string, of func(q *QueueReport) float64) {
		line(name, func(q *QueueReport) string { return fmt.Sprintf(format, of(q)) })
	}
	line("queue", func(q *QueueReport) string { return variant{q.Queue, q.Zstd}.name() })
	number("committed, rows/s: the store's own rate", "%.0f", func(q *QueueReport) float64 { return q.Own.PerSecond })
	number("processor time of a row, µs", "%.2f", func(q *QueueReport) float64 { return q.Own.CPU })
	speed := func(name string, of func(*QueueReport) *Speed) {
		part := func(unit, format string, figure func(*Speed) float64) {
			line(name+", "+unit, func(q *QueueReport) string {
				s := of(q)
				if s == nil {
					return "-"
				}
				return fmt.Sprintf(format, figure(s))
			})
		}
		part("batches/s", "%.0f", func(s *Speed) float64 { return s.PerSecond })
		part("batches per CPU second", "%.0f", func(s *Speed) float64 { return s.PerCPUSecond })
	}
	speed("shipped", func(q *QueueReport) *Speed { return &q.Ship })
	speed("copied to nothing", func(q *QueueReport) *Speed { return &q.Null })
	speed("MirrorMaker 2", func(q *QueueReport) *Speed { return q.Peer })
	line("copied to nothing, times MirrorMaker 2 by CPU", func(q *QueueReport) string {
		if q.Peer == nil {
			return "-"
		}
		return fmt.Sprintf("%.1f", q.TimesPeer)
	})
	speed("applied", func(q *QueueReport) *Speed { return &q.Apply })
	number("applied, % of the store's own row rate", "%.0f", func(q *QueueReport) float64 { return 100 * q.ApplyOfOwn })
	number("applied, % of it by processor time", "%.0f", func(q *QueueReport) float64 { return 100 * q.ApplyOfOwnCPU })
	number("gap fills", "%.0f", func(q *QueueReport) float64 { return float64(q.Null.Fills + q.Apply.Fills) })
	number("half load, batches/s", "%.0f", func(q *QueueReport) float64 { return q.Half.PerSecond })
	number("half load, cores", "%.2f", func(q *QueueReport) float64 { return q.Half.Cores })
	number("lag p50, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.P50 })
	number("lag p99, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.P99 })
	number("lag p99 beyond the round trip, ms", "%+.0f", func(q *QueueReport) float64 { return q.Half.OverRTT })
	number("of a batch: to the queue p99, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.Queue })
	number("of a batch: across p99, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.Cross })
	number("of a batch: into the store p99, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.Store })
	number("of a request: produce p99, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.Produce })
	number("of a request: fetch p99, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.Fetch })
	number("of a request: transaction p99, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.Apply })
	number("the distance is late by p99, ms", "%.1f", func(q *QueueReport) float64 { return q.Half.Late })
	number("the queue by itself: lag p50, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.Bare.P50 })
	number("the queue by itself: lag p99, ms", "%.0f", func(q *QueueReport) float64 { return q.Half.Bare.P99 })
	number("bytes over the ocean for each byte of users", "%.2f", func(q *QueueReport) float64 { return q.Half.WANBytes })
	number("records missed in an outage", "%.0f", func(q *QueueReport) float64 { return float64(q.CatchUp.Missed) })
	number("made up for in s", "%.2f", func(q *QueueReport) float64 { return q.CatchUp.Seconds })
	number("at times what was committed meanwhile", "%.1f", func(q *QueueReport) float64 { return q.CatchUp.TimesIngest })
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Skipped) > 0 {
		fmt.Fprintf(out, "\nnot measured: %s\n", strings.Join(r.Skipped, "; "))
	}
	return nil
}
