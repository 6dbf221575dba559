package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// StoreReport is what `homing bench store -o json` prints. With sizes, Write and
// Read are the last one's.
type StoreReport struct {
	Machine  Machine   `json:"machine"`
	Options  Options   `json:"options"`
	Sizes    []Size    `json:"sizes,omitempty"`
	Slowdown *Slowdown `json:"slowdown,omitempty"`
	Write    Rate      `json:"write"`           // rows, as fast as the callers can
	Read     Rate      `json:"read"`            // rows
	Half     Rate      `json:"half"`            // rows, at half the rate of Write; delays are of batches, from when they were due
	Floor    *Floor    `json:"floor,omitempty"` // of engine pebble: what is below the store, at the same rate
	Memory   Memory    `json:"memory"`
	Disk     int64     `json:"disk_bytes"` // that the store takes in the end; 0 where it cannot be told

	// Of engine postgres: the same batches on the same server, afterwards, each in
	// a transaction of its own, and how many times its rate the engine's is.
	Peer      *Rate   `json:"peer,omitempty"`
	TimesPeer float64 `json:"times_peer,omitempty"`
}

// Size is the store measured with a number of rows in it.
type Size struct {
	Rows  uint64 `json:"rows"`
	Fill  Rate   `json:"fill"` // from the size before
	Write Rate   `json:"write"`
	Read  Rate   `json:"read"`
	Disk  int64  `json:"disk_bytes"`
}

// Slowdown is how many times slower the last size is than the first. Processor
// time tells more where the machine does other work, and rates where the disk is
// what is slow.
type Slowdown struct {
	Write    float64 `json:"write"`
	Read     float64 `json:"read"`
	WriteCPU float64 `json:"write_cpu"`
	ReadCPU  float64 `json:"read_cpu"`
}

// Memory is this process's, callers included.
type Memory struct {
	Peak int64  `json:"peak_rss_bytes"` // 0 where it cannot be told
	Heap uint64 `json:"heap_bytes"`     // Go's, in the end, after a collection
}

// Machine is what the figures were measured on.
type Machine struct {
	CPUs  int     `json:"cpus"`
	Go    string  `json:"go"`
	OS    string  `json:"os"`
	Load  float64 `json:"load"`         // of the last minute, before the run; 0 where it cannot be told
	Fsync float64 `json:"fsync_micros"` // median of small writes, each with its fsync
}

// Rate is what was reached. Delays are of calls: a batch, or a read.
type Rate struct {
	PerSecond float64 `json:"rows_per_second"`
	Calls     uint64  `json:"calls"`
	CPU       float64 `json:"cpu_micros_per_row"`  // of this process, callers included
	Cores     float64 `json:"cores"`               // that this process got, of Machine.CPUs
	Written   float64 `json:"disk_bytes_per_row"`  // that this process wrote; 0 where it cannot be told
	Amplify   float64 `json:"write_amplification"` // bytes written for each byte of keys and values
	P50       float64 `json:"p50_millis"`          // within a sixteenth
	P99       float64 `json:"p99_millis"`          // within a sixteenth
	P999      float64 `json:"p999_millis"`         // within a sixteenth

	// Of point reads, which are the median of several readings.
	Least   float64 `json:"least_rows_per_second,omitempty"`
	Most    float64 `json:"most_rows_per_second,omitempty"`
	Settled float64 `json:"settled_seconds,omitempty"` // that flushes and compactions took before; of engine pebble
}

func (r *StoreReport) print(out io.Writer) error {
	o := &r.Options
	fmt.Fprintf(out, "%d CPUs, %s, %s; load before the run %.1f; a small write and its fsync take %.0f µs\n", r.Machine.CPUs, r.Machine.OS, r.Machine.Go, r.Machine.Load, r.Machine.Fsync)
	fmt.Fprintf(out, "%d callers, %d owners, batches of %d rows (%d new), values of %d bytes, %s each\n\n", o.Callers, o.Owners, o.Batch, o.Fresh, o.Value, o.Duration)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\trows/s\tcpu µs/row\tcores\twritten B/row\ttimes\tp50 ms\tp99 ms\tp999 ms\t")
	line := func(name string, r Rate) {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%.0f\t%.1f\t%.2f\t%.2f\t%.2f\t\n", name, r.PerSecond, r.CPU, r.Cores, r.Written, r.Amplify, r.P50, r.P99, r.P999)
	}
	for _, s := range r.Sizes {
		rows := (&Sizes{s.Rows}).String()
		line("filled to "+rows, s.Fill)
		line("writes at "+rows, s.Write)
		line("reads at "+rows, s.Read)
	}
	if len(r.Sizes) == 0 {
		line("durable writes", r.Write)
		line("point reads", r.Read)
	}
	line("writes at half load", r.Half)
	if f := r.Floor; f != nil {
		line("plain Pebble then", f.Plain)
		line("write and fsync then", f.Disk)
	}
	if r.Peer != nil {
		line("single transactions", *r.Peer)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\npoint reads are the median of %d readings, %.0f to %.0f/s, after %.1f s in which what was written before was flushed and compacted\n", readings, r.Read.Least, r.Read.Most, r.Read.Settled)
	fmt.Fprintf(out, "memory: %d MiB at most, of which Go's heap is %d MiB in the end; disk: %d MiB in the end\n", r.Memory.Peak>>20, r.Memory.Heap>>20, r.Disk>>20)
	if r.Peer != nil {
		fmt.Fprintf(out, "durable writes are %.1f times as many as with a transaction for each owner's batch, on %d connections to the same server\n", r.TimesPeer, peerConnections)
	}
	if f := r.Floor; f != nil {
		fmt.Fprintf(out, "at half load the p99 is %.1f times that of plain Pebble batches, and %.1f times that of one file written and synced, at the same rate\n", f.TimesPlain, f.TimesDisk)
	}
	if s := r.Slowdown; s != nil {
		fmt.Fprintf(out, "from %s to %s rows writes are %.2f times slower and take %.2f times the processor time, reads %.2f and %.2f times\n",
			&Sizes{r.Sizes[0].Rows}, &Sizes{r.Sizes[len(r.Sizes)-1].Rows}, s.Write, s.WriteCPU, s.Read, s.ReadCPU)
	}
	return nil
}

// finish adds what is known in the end.
func (r *StoreReport) finish(dir string) {
	r.Disk = diskUse(dir)
	r.Memory = memory()
	if n := len(r.Sizes); n > 1 {
		a, z := &r.Sizes[0], &r.Sizes[n-1]
		r.Slowdown = &Slowdown{
			Write: a.Write.PerSecond / z.Write.PerSecond, WriteCPU: z.Write.CPU / a.Write.CPU,
			Read: a.Read.PerSecond / z.Read.PerSecond, ReadCPU: z.Read.CPU / a.Read.CPU,
		}
	}
}

func newRate(before, after used, delays []histogram, rows int, rowBytes float64) Rate {
	var all histogram
	for i := range delays {
		all.merge(&delays[i])
	}
	seconds := after.at.Sub(before.at).Seconds()
	n := float64(all.n * uint64(rows))
	r := Rate{Calls: all.n, P50: all.quantile(0.5), P99: all.quantile(0.99), P999: all.quantile(0.999)}
	if n > 0 && seconds > 0 {
		cpu := after.cpu - before.cpu
		r.PerSecond = n / seconds
		r.CPU = float64(cpu.Nanoseconds()) / 1000 / n
		r.Cores = cpu.Seconds() / seconds
		r.Written = float64(after.written-before.written) / n
		r.Amplify = r.Written / rowBytes
	}
	return r
}
