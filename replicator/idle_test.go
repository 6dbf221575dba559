//go:build unix

package replicator_test

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
)

// TestIdleWorldIsQuiet measures the processor time of three regions, with their
// brokers, that have nothing to do.
func TestIdleWorldIsQuiet(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	w.start()
	for i := range 20 {
		for _, r := range w.regions {
			r.write(i)
		}
	}
	w.settle()
	before := map[string]uint64{}
	for id, r := range w.regions {
		for p := range partitions {
			before[string(id)] += r.store.Head(region.Partition(p)).Next
		}
	}
	spent, start := processorTime(t), time.Now()
	<-time.After(3 * time.Second) // what is measured is this time
	share := (processorTime(t) - spent).Seconds() / time.Since(start).Seconds()
	t.Logf("%.2f %% of one processor, %d goroutines", 100*share, runtime.NumGoroutine())
	if share > 0.15 {
		t.Errorf("an idle world takes %.0f %% of a processor", 100*share)
	}
	// Positions do not answer positions, nor watermarks watermarks: after the
	// watermarks of the last change, and their positions, the journals rest.
	grown := uint64(0)
	for id, r := range w.regions {
		for p := range partitions {
			grown += r.store.Head(region.Partition(p)).Next
		}
		grown -= before[string(id)]
	}
	t.Logf("the journals grew by %d records", grown)
	if limit := uint64(3 * partitions * 5); grown > limit {
		t.Errorf("idle journals grew by %d records, want %d at most", grown, limit)
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
