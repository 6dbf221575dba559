package bench

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

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
		u.written = writeBytes(b)
	}
	return u
}

// writeBytes reads what a process had written to disks out of its io file.
func writeBytes(b []byte) uint64 {
	_, rest, _ := strings.Cut(string(b), "\nwrite_bytes: ")
	number, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseUint(number, 10, 64)
	return n
}

func machine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
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

// memory reads what the process takes.
func memory() Memory {
	var m Memory
	var r syscall.Rusage
	if runtime.GOOS == "linux" && syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		m.Peak = r.Maxrss << 10
	}
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.Heap = s.HeapAlloc
	return m
}

// diskUse adds up the files below a directory, in bytes; those that vanish
// meanwhile do not count.
func diskUse(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
