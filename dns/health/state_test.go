package health

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// Timelines: '.' is a successful check and 'x' a failed one; the second row is
// what the member is after each, 'U' up and 'D' down.
func TestStep(t *testing.T) {
	for _, c := range []struct {
		name       string
		rise, fall int
		checks     string
		want       string
	}{
		{"one success is enough to begin with", 3, 3, "....", "UUUU"},
		{"unknown stays down while checks fail", 2, 2, "xxx.", "DDDU"},
		{"a single loss moves nobody", 2, 2, "..x..x.", "UUUUUUU"},
		{"falls at the threshold", 2, 3, "..xxx", "UUUUD"},
		{"rises at the threshold", 3, 1, ".x...", "UDDDU"},
		{"a failure restarts the rise", 3, 1, ".x..x...", "UDDDDDDU"},
		{"a success restarts the fall", 2, 2, ".x.x.xx", "UUUUUUD"},
		{"flapping stays where it is", 2, 2, ".xx.x.x.x", "UUDDDDDDD"},
		{"thresholds of one follow every check", 1, 1, ".x.x", "UDUD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s State
			var got strings.Builder
			now := time.Unix(1, 0)
			for i, check := range c.checks {
				var err error
				if check == 'x' {
					err = errors.New("refused")
				}
				was := s
				now = now.Add(time.Second)
				s = s.Step(Thresholds{Rise: c.rise, Fall: c.fall}, err, now)
				got.WriteByte("DU"[map[bool]int{true: 1}[s.Up]])
				if (s.Error != "") != (err != nil) {
					t.Errorf("check %d: error text %q for %v", i, s.Error, err)
				}
				if changed := s.Up != was.Up; changed != s.Since.Equal(now) {
					t.Errorf("check %d: since %v at %v, changed %v", i, s.Since, now, changed)
				}
			}
			if got.String() != c.want {
				t.Errorf("checks %s: got %s, want %s", c.checks, got.String(), c.want)
			}
		})
	}
}
