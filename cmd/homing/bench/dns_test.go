package bench_test

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/bench"
)

// A short run has every figure, peers that are not installed are named, and
// what the servers answered is most of what was asked.
func TestDNSBench(t *testing.T) {
	o := bench.DNSOptions{Against: []string{"gdnsd", "coredns"}, Duration: 400 * time.Millisecond, Rounds: 1, Rules: 50, Overlay: 1000, Networks: 60, Owners: 20_000}
	r, err := bench.DNS(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := 6
	seen := map[string]bench.DNSServer{}
	for _, s := range r.Servers {
		seen[s.Name] = s
		if s.CPUMicros <= 0 || s.PerSecond <= 0 || s.Share < 0.5 || s.Share > 1.01 || s.RSS == 0 || s.OfEcho <= 0 {
			t.Errorf("%+v", s)
		}
	}
	if len(r.Servers)+len(r.Skipped) != want || seen["echo"].OfEcho != 1 || seen["homing-2"].OfOneWorker <= 0 {
		t.Errorf("measured %+v, skipped %+v", r.Servers, r.Skipped)
	}
	if _, err := exec.LookPath("/usr/sbin/gdnsd"); err == nil {
		if seen["gdnsd"].OfGdnsd != 1 || seen["homing"].OfGdnsd <= 0 {
			t.Errorf("beside gdnsd: %+v, skipped %+v", r.Servers, r.Skipped)
		}
	}
	if o := r.Overlay; o == nil || o.Owners != 20_000 || o.Bytes == 0 || o.Bytes > 20*20_000 || o.LookupNanos <= 0 {
		t.Errorf("overlay %+v", r.Overlay)
	}
	if r.Floor == nil || r.Floor.P50 <= 0 || r.Floor.Collections != 0 || r.Collecting == nil || r.Collecting.P50 <= 0 {
		t.Errorf("floor %+v, collecting %+v", r.Floor, r.Collecting)
	}
	if r.Delay == nil || r.Delay.P999 < r.Delay.P50 || r.Delay.PerSecond <= 0 || r.HTTP == nil || r.HTTP.Ratio <= 0 || r.HTTP.CPUMicros <= 0 {
		t.Errorf("delay %+v, HTTP %+v", r.Delay, r.HTTP)
	}
}

func TestDNSBenchRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"dns --against bind":   "want some of gdnsd",
		"dns --duration 1ms":   "want 100ms or more",
		"dns --rounds 0":       "want 1 to 100",
		"dns --rules 10001":    "want 0 to 10000",
		"dns --networks 0":     "want 1 to",
		"dns -o xml":           "want json",
		"dns --owners -1":      "want 0 to 100000000",
		"dns --overlay -1":     "want 0 to 10000000",
		"dns --against gdnsd,": "want some of",
	} {
		var out bytes.Buffer
		cmd := bench.NewCommand(&out)
		cmd.SetArgs(strings.Fields(args))
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		if err := cmd.ExecuteContext(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
