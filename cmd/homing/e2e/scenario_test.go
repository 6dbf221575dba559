package e2e

import (
	"context"
	"fmt"
	"regexp"
	"testing"
	"time"
)

// A story that cannot fail proves nothing: every sabotage has to be noticed,
// at the step that the broken part serves.
func TestScenarioHello(t *testing.T) {
	tell(t, "hello", []control{
		{"", ""},
		{"dns", "dns"},
		{"epoch", "epoch"},
		{"key", "key"},
		{"pop", "pop"},
		{"replay", "inbox"},
		{"queue", "queue"},
	})
}

// A region hands over and back under traffic: nothing is lost.
func TestScenarioSwitchover(t *testing.T) {
	tell(t, "switchover", []control{{"", ""}, {"operator", "switchover"}})
}

// A region dies with what nobody else has, and comes back.
func TestScenarioDisaster(t *testing.T) {
	tell(t, "disaster", []control{{"", ""}, {"operator", "failover"}, {"disk", "return"}})
}

// The region that acts for one that died dies too, before what that one had alone
// is merged.
func TestScenarioRelapse(t *testing.T) {
	tell(t, "relapse", []control{{"", ""}, {"operator", "failover"}})
}

// A region is cut off, serves on, and what two regions wrote is brought together.
func TestScenarioCutoff(t *testing.T) {
	tell(t, "cutoff", []control{{"", ""}, {"operator", "failover"}, {"deaf", "fence"}})
}

func TestScenarioMove(t *testing.T) {
	tell(t, "move", []control{{"", ""}, {"operator", "move"}})
}

// control is a part that is broken, and the step that has to notice.
type control struct{ sabotage, step string }

func tell(t *testing.T, story string, controls []control) {
	t.Helper()
	for _, s := range controls {
		t.Run("sabotage="+s.sabotage, func(t *testing.T) {
			if s.sabotage != "" {
				t.Parallel() // what a sabotaged story does most is wait for what does not come
			}
			w := &world{t: t, home: t.TempDir()}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			command := fmt.Sprintf("homing demo --scenario %s --port-base %d", story, freeBase(t))
			if s.sabotage != "" {
				command += " --sabotage " + s.sabotage
			}
			out, err := w.sh(ctx, command)
			if s.sabotage == "" {
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				return
			}
			if err == nil || err.Error() != "exit status 1" {
				t.Fatalf("want exit status 1, got %v\n%s", err, out)
			}
			if !regexp.MustCompile(`(?m)^homing: step \d+, ` + s.step + `: `).MatchString(out) {
				t.Errorf("want step %s named in the last line, got\n%s", s.step, out)
			}
		})
	}
}
