package bench

import (
	"strings"
	"testing"
)

// Clients whose server is killed are back soon, by themselves.
func TestStorm(t *testing.T) {
	var r StormReport
	if err := runBench(t, &r, strings.Fields("storm --users 100 --away 300ms --partitions 4")...); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	if r.Back != 100 || r.All <= 0 || r.Half > r.All || r.Attempts == 0 || r.Peak <= 0 {
		t.Errorf("%+v", r)
	}
	t.Logf("all are back after %.1f s", r.All)
}
