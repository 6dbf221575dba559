package replicator

import (
	"testing"
	"time"
)

// TestGroupChoice tells stories: at each second the group written to fails or
// works, and the next is given.
func TestGroupChoice(t *testing.T) {
	type event struct {
		second int
		works  bool
		now    int // afterwards
	}
	const fails, works = false, true
	for name, story := range map[string]struct {
		groups int
		events []event
	}{
		"one group has nowhere to go": {1, []event{{0, fails, 0}, {100, fails, 0}, {101, works, 0}}},
		"a short failure changes nothing": {2, []event{
			{0, fails, 0}, {4, fails, 0}, {5, works, 0}, {6, fails, 0}, {10, fails, 0}, {11, fails, 1},
		}},
		"the first is tried again, and stays when it works": {2, []event{
			{0, fails, 0}, {5, fails, 1}, {6, works, 1}, {64, works, 1}, {65, works, 0}, {66, works, 0}, {70, fails, 0}, {75, fails, 1},
		}},
		"a try that fails is over at once, and the next comes later": {2, []event{
			{0, fails, 0}, {5, fails, 1}, {65, works, 0}, {66, fails, 1}, {126, works, 1}, {185, works, 1}, {186, works, 0}, {187, fails, 1}, {426, works, 1}, {427, works, 0},
		}},
		"round and round while all fail": {3, []event{
			{0, fails, 0}, {5, fails, 1}, {6, fails, 1}, {11, fails, 2}, {12, fails, 2}, {17, fails, 0}, {18, fails, 0}, {23, fails, 1},
		}},
	} {
		c := groupChoice{groups: story.groups, patience: 5 * time.Second, again: time.Minute}
		start := time.Unix(1_800_000_000, 0)
		for _, e := range story.events {
			at, before := start.Add(time.Duration(e.second)*time.Second), c.now
			changed := c.worked
			if !e.works {
				changed = c.failed
			}
			if said := changed(at); said != (c.now != before) || c.now != e.now {
				t.Fatalf("%s: at second %d the group is %d (changed: %v), want %d", name, e.second, c.now, said, e.now)
			}
		}
	}
}
