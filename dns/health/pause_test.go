package health

import (
	"errors"
	"testing"
	"time"
)

// Who was never seen is looked for soon and then ever more rarely; whoever was
// seen once is checked at the interval, also while down.
func TestPause(t *testing.T) {
	const interval = 2 * time.Second
	var s State
	want := []time.Duration{100, 200, 400, 800, 1600, 2000, 2000}
	for i, ms := range want {
		if got := s.Pause(interval); got != ms*time.Millisecond {
			t.Errorf("after %d failures: %s, want %d ms", i, got, ms)
		}
		s = s.Step(Thresholds{1, 3}, errors.New("refused"), time.Unix(int64(i), 0))
	}
	for range 100 {
		s = s.Step(Thresholds{1, 3}, errors.New("refused"), time.Unix(50, 0))
	}
	if got := s.Pause(interval); got != interval {
		t.Errorf("after a hundred failures: %s", got)
	}
	s = s.Step(Thresholds{1, 3}, nil, time.Unix(100, 0))
	for range 4 {
		if got := s.Pause(interval); got != interval {
			t.Errorf("seen once: %s", got)
		}
		s = s.Step(Thresholds{1, 3}, errors.New("refused"), time.Unix(101, 0))
	}
	if got := (State{}).Pause(50 * time.Millisecond); got != 50*time.Millisecond {
		t.Errorf("an interval below the first pause: %s", got)
	}
}
