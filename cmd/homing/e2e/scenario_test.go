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
	for _, s := range []struct{ sabotage, step string }{
		{"", ""},
		{"dns", "dns"},
		{"epoch", "epoch"},
		{"key", "key"},
		{"pop", "pop"},
		{"replay", "inbox"},
		{"queue", "queue"},
	} {
		t.Run("sabotage="+s.sabotage, func(t *testing.T) {
			w := &world{t: t, home: t.TempDir()}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			command := fmt.Sprintf("homing demo --scenario hello --port-base %d", freeBase(t))
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
