package sim

import (
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestSeeds plays some seeds; make test plays 2,000 more with the built program.
func TestSeeds(t *testing.T) {
	var trace strings.Builder
	r := Play(t.Context(), Options{First: 1_000_349, Seeds: 12, Out: &trace})
	if len(r.Failed) > 0 {
		t.Fatalf("seed %d fails:\n%s", r.Failed[0], trace.String())
	}
	s := &r.Stats
	for what, n := range map[string]int{"crashes": s.Crashes, "failovers": s.Failovers, "forks of worlds": s.Forks, "tails": s.Tail, "gap fills": s.GapFills,
		"altered messages": s.Altered, "duplicates": s.Duplicates, "acknowledged writes": s.Acknowledged,
		"handles": s.Handles, "newer commands": s.Poison} {
		if n == 0 {
			t.Errorf("12 seeds went through no %s: the weather is too good", what)
		}
	}
}

// TestSeedIsTheRun plays a seed twice: the traces are the same, line by line.
func TestSeedIsTheRun(t *testing.T) {
	for seed := range uint64(3) {
		one, two := play(seed+1, true), play(seed+1, true)
		if !slices.Equal(one.notes, two.notes) {
			for i := range one.notes {
				if i >= len(two.notes) || one.notes[i] != two.notes[i] {
					t.Fatalf("seed %d: line %d is %q, and then another one", seed+1, i, one.notes[i])
				}
			}
			t.Fatalf("seed %d: %d lines, and then %d", seed+1, len(one.notes), len(two.notes))
		}
		if one.stats.Steps != two.stats.Steps || fmt.Sprint(one.worlds[len(one.worlds)-1].Hash) != fmt.Sprint(two.worlds[len(two.worlds)-1].Hash) {
			t.Fatalf("seed %d: %d steps, and then %d", seed+1, one.stats.Steps, two.stats.Steps)
		}
	}
}

// TestStepsAreProduction checks that what is stepped is the code that runs in
// regions: the functions themselves, by their names in the program.
func TestStepsAreProduction(t *testing.T) {
	r := newRun(1)
	r.round(0)
	for _, s := range r.sites {
		steps := s.stepper.Steps()
		if len(steps) < 10 {
			t.Fatalf("%s has %d steps", s.id, len(steps))
		}
		for _, st := range steps {
			name := runtime.FuncForPC(reflect.ValueOf(st.Do).Pointer()).Name()
			if !strings.HasPrefix(name, "github.com/homing-im/homing/replicator.") {
				t.Errorf("step %q of %s is %s", st.Name, s.id, name)
			}
		}
		name := runtime.FuncForPC(reflect.ValueOf(s.round).Pointer()).Name()
		if !strings.HasPrefix(name, "github.com/homing-im/homing/region/core.") {
			t.Errorf("commands of %s are run by %s", s.id, name)
		}
	}
}

// TestFailurePrints checks that a seed that fails says so, shortly.
func TestFailurePrints(t *testing.T) {
	r := newRun(7)
	for i := range 100 {
		r.note("line %d", i)
	}
	r.fail(3, "message %d is gone", 1)
	var out strings.Builder
	r.print(&out, 60)
	text := out.String()
	for _, want := range []string{"invariant 3: message 1 is gone", "homing sim --seed 7 --seeds 1 --trace", "line 99"} {
		if !strings.Contains(text, want) {
			t.Errorf("the trace lacks %q:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "\n"); n > 63 {
		t.Errorf("the trace has %d lines", n)
	}
}

func BenchmarkSeed(b *testing.B) {
	for i := range b.N {
		if r := Play(b.Context(), Options{First: uint64(i), Seeds: 1, Out: io.Discard, Jobs: 1}); len(r.Failed) > 0 {
			b.Fatalf("seed %d fails", i)
		}
	}
}
