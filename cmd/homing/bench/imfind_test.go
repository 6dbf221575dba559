package bench

import (
	"strings"
	"testing"
	"time"
)

// What --find says about the limit follows from what was measured.
func TestFoundSaysTheLimit(t *testing.T) {
	floor := []IMResult{{Rate: 12_000, CPU: 35, BenchCPU: 28}, {Rate: goalRate, CPU: 31, BenchCPU: 29}}
	for name, c := range map[string]struct {
		best     IMResult
		more     IMResult // what more than the best gave
		want     []string
		wantNone []string
	}{
		"too much processor time": {IMResult{Rate: 12_000, Delivered: 11_990, CPU: 100, BenchCPU: 40}, IMResult{Rate: 16_000, Delivered: 15_000, CPU: 85, BenchCPU: 35},
			[]string{"25000/s is not reached", "have 80 µs for a message then, and region and generator took 120 at 15000/s", "alone take 60"}, []string{"something waits"}},
		"something waits": {IMResult{Rate: 12_000, CPU: 40, BenchCPU: 30}, IMResult{}, []string{"25000/s is not reached", "something waits"}, nil},
		"reached":         {IMResult{Rate: 26_000, CPU: 40, BenchCPU: 30}, IMResult{}, []string{"26000 messages/s", "in this run, at 12000/s: 35.0 + 28.0 µs"}, []string{"not reached"}},
	} {
		r := &IMReport{Machine: Machine{CPUs: 2}, Options: IMOptions{Kind: kindDirect, Limit: 100 * time.Millisecond}, Tries: []IMResult{c.more, c.best}}
		var out strings.Builder
		(&IMFound{Best: 2, Floor: floor, Goal: goalRate, Peer: peerRate}).print(&out, r)
		for _, want := range append(c.want, peerName) {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in %q", name, want, out.String())
			}
		}
		for _, no := range c.wantNone {
			if strings.Contains(out.String(), no) {
				t.Errorf("%s: %q in %q", name, no, out.String())
			}
		}
	}
	var out strings.Builder
	(&IMFound{}).print(&out, &IMReport{})
	if !strings.Contains(out.String(), "no rate was good") {
		t.Errorf("nothing found: %q", out.String())
	}
}
