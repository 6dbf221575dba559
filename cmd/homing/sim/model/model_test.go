package model

import (
	"strings"
	"testing"
)

// TestSmallWorlds searches all of them. `homing sim --model` searches larger ones.
func TestSmallWorlds(t *testing.T) {
	r := Search(Small, Production)
	if r.What != "" {
		t.Fatalf("%s: invariant %d: %s\n%s\n%s", Small, r.Invariant, r.What, strings.Join(r.Way, "\n"), r.At)
	}
	if r.States < 1000 || r.Rests < 100 {
		t.Errorf("%d states, %d at rest: the worlds are too small to show anything", r.States, r.Rests)
	}
	t.Logf("%s: %d states, %d steps, %d at rest, %d deep", Small, r.States, r.Steps, r.Rests, r.Depth)
}

// TestRulesAreNeeded turns one rule after the other off: the search finds what
// breaks.
func TestRulesAreNeeded(t *testing.T) {
	twice := Small // both sides write the setting
	twice.Settings, twice.Messages, twice.Changes = 2, 0, 1
	for name, m := range map[string]struct {
		off       func(*Rules)
		invariant int
		bounds    Bounds
	}{
		"epoch test":  {func(r *Rules) { r.EpochTest = false }, 1, Small},
		"end of term": {func(r *Rules) { r.EndOfTerm = false }, 3, Small},
		"tail":        {func(r *Rules) { r.Tail = false }, 4, Small},
		"early":       {func(r *Rules) { r.Early = false }, 6, twice},
		"known":       {func(r *Rules) { r.Known = false }, 4, Small},
		"setting":     {func(r *Rules) { r.Setting = false }, 6, Small},
		"plan":        {func(r *Rules) { r.Plan = false }, 3, Small},
	} {
		rules := Production
		m.off(&rules)
		r := Search(m.bounds, rules)
		if r.What == "" {
			t.Errorf("without the rule %q nothing breaks in %d states", name, r.States)
			continue
		}
		if r.Invariant != m.invariant {
			t.Errorf("without the rule %q invariant %d breaks, not %d", name, r.Invariant, m.invariant)
		}
		t.Logf("without the rule %q, after %d states: invariant %d: %s\n  %s", name, r.States, r.Invariant, r.What, strings.Join(r.Way, "\n  "))
	}
}
