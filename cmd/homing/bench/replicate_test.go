package bench_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/bench"
)

// TestReplicate runs all of it on the embedded broker, shortly: every figure is
// there, and those that do not depend on the machine are right.
func TestReplicate(t *testing.T) {
	var out bytes.Buffer
	cmd := bench.NewCommand(&out)
	cmd.SetArgs([]string{"replicate", "--queue", "embedded", "--batches", "500", "--duration", "300ms", "--rtt", "40ms", "--callers", "16", "--partitions", "4", "-o", "json", "--dir", t.TempDir()})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	var r bench.ReplicateReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Queues) != 1 || r.Options.RTT != 40*time.Millisecond {
		t.Fatalf("%+v", r)
	}
	q := r.Queues[0]
	for name, s := range map[string]bench.Speed{"shipped": q.Ship, "copied to nothing": q.Null, "applied": q.Apply} {
		if s.Batches < 500 || s.Batches > 500+16 || s.Rows != 4*s.Batches || s.PerSecond <= 0 || s.PerCPUSecond <= 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if q.Own.PerSecond <= 0 || q.ApplyOfOwn <= 0 || q.ApplyOfOwnCPU <= 0 {
		t.Errorf("own %+v, applied %v of it, %v by processor time", q.Own, q.ApplyOfOwn, q.ApplyOfOwnCPU)
	}
	if q.Half.Samples == 0 || q.Half.P99 < 20 { // half a round trip is the least there is
		t.Errorf("lag: %+v", q.Half)
	}
	for name, of := range map[string]float64{"to the queue": q.Half.Queue, "across": q.Half.Cross, "into the store": q.Half.Store, "of a request": q.Half.Fetch} {
		if of <= 0 || of > q.Half.P99*1.5 && name != "of a request" {
			t.Errorf("lag p99 %v ms, of that %s %v ms", q.Half.P99, name, of)
		}
	}
	if b := q.Half.Bare; b == nil || b.Samples == 0 || b.P99 < 20 || b.P99 < b.P50 {
		t.Errorf("the queue by itself: %+v", b)
	}
	if q.Half.WANBytes <= 0 || q.CatchUp.Missed == 0 || q.CatchUp.TimesIngest <= 0 {
		t.Errorf("%v bytes over the ocean for each of users; %+v", q.Half.WANBytes, q.CatchUp)
	}
}

// TestReplicateArguments: mistakes are told before anything is measured.
func TestReplicateArguments(t *testing.T) {
	for args, want := range map[string]string{
		"--queue rabbit": "want embedded or kafka",
		"--batches 1":    "at least 100",
		"--rtt -1s":      "more than 0",
		"--partitions 0": "at least 1",
		"-o yaml":        "want json",
	} {
		cmd := bench.NewCommand(new(bytes.Buffer))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetErr(new(bytes.Buffer))
		cmd.SetArgs(append([]string{"replicate"}, strings.Fields(args)...))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
