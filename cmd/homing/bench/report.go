package bench

import (
	"fmt"
	"io"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// StoreReport is what `homing bench store -o json` prints.
type StoreReport struct {
	Machine Machine `json:"machine"`
	Options Options `json:"options"`
	Write   Rate    `json:"write"` // rows, as fast as the callers can
	Read    Rate    `json:"read"`  // rows
	Half    Rate    `json:"half"`  // rows, at half the rate of Write; delays are of batches, from when they were due
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
	CPU       float64 `json:"cpu_micros_per_row"` // of this process, callers included
	Cores     float64 `json:"cores"`              // that this process got, of Machine.CPUs
	Written   float64 `json:"disk_bytes_per_row"` // that this process wrote; 0 where it cannot be told
	P50       float64 `json:"p50_millis"`         // within a sixteenth
	P99       float64 `json:"p99_millis"`         // within a sixteenth
	P999      float64 `json:"p999_millis"`        // within a sixteenth
}

func (r *StoreReport) print(out io.Writer) error {
	fmt.Fprintf(out, "%d CPUs, %s, %s; load before the run %.1f; a small write and its fsync take %.0f µs\n", r.Machine.CPUs, r.Machine.OS, r.Machine.Go, r.Machine.Load, r.Machine.Fsync)
	fmt.Fprintf(out, "%d callers, %d owners, batches of %d rows (%d new), values of %d bytes, %s each\n\n", r.Options.Callers, r.Options.Owners, r.Options.Rows, r.Options.Fresh, r.Options.Value, r.Options.Duration)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\trows/s\tcpu µs/row\tcores\tdisk B/row\tp50 ms\tp99 ms\tp999 ms\t")
	for _, l := range []struct {
		name string
		r    Rate
	}{{"durable writes", r.Write}, {"point reads", r.Read}, {"writes at half load", r.Half}} {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%.0f\t%.2f\t%.2f\t%.2f\t\n", l.name, l.r.PerSecond, l.r.CPU, l.r.Cores, l.r.Written, l.r.P50, l.r.P99, l.r.P999)
	}
	return w.Flush()
}

// used is what the process has used at a moment.
type used struct {
	at      time.Time
	cpu     time.Duration
	written uint64
}

func usage() used {
	u := used{at: time.Now()}
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.cpu = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	if b, err := os.ReadFile("/proc/self/io"); err == nil {
		_, rest, _ := strings.Cut(string(b), "\nwrite_bytes: ")
		number, _, _ := strings.Cut(rest, "\n")
		u.written, _ = strconv.ParseUint(number, 10, 64)
	}
	return u
}

func newRate(before, after used, delays []histogram, rows int) Rate {
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
	}
	return r
}

func machine() Machine {
	m := Machine{CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(b), " ")
		m.Load, _ = strconv.ParseFloat(first, 64)
	}
	return m
}

// probeFsync returns the median of small writes to a file, in microseconds.
func probeFsync(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	var all []time.Duration
	for range 101 {
		start := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(start))
	}
	slices.Sort(all)
	return float64(all[len(all)/2].Nanoseconds()) / 1000, nil
}

// histogram counts durations in buckets a sixteenth wide.
type histogram struct {
	n       uint64
	buckets [40 * 16]uint32
}

func (h *histogram) add(d time.Duration) {
	n := uint64(max(d, 16))
	shift := bits.Len64(n) - 5 // keeps five bits, the highest of which is set
	h.buckets[min(shift*16+int(n>>shift)-16, len(h.buckets)-1)]++
	h.n++
}

func (h *histogram) merge(o *histogram) {
	for i := range h.buckets {
		h.buckets[i] += o.buckets[i]
	}
	h.n += o.n
}

// quantile returns the upper end of the bucket that holds the quantile, in
// milliseconds.
func (h *histogram) quantile(q float64) float64 {
	left := uint64(q * float64(h.n))
	for i, n := range h.buckets {
		if left < uint64(n) {
			return float64(uint64(i%16+17)<<(i/16)) / 1e6
		}
		left -= uint64(n)
	}
	return 0
}
