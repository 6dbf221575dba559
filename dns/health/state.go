package health

import "time"

// State is what is known about one member. The zero value is "unknown".
type State struct {
	Up      bool      `json:"up"`
	Checked bool      `json:"checked"` // at least once
	Streak  int       `json:"streak"`  // outcomes in a row that were like the last one
	Good    bool      `json:"good"`    // outcome of the last check
	Since   time.Time `json:"since"`   // when Up last changed; zero when it never did
	Error   string    `json:"error,omitempty"`
}

// Thresholds say how many outcomes in a row change the state. They keep one
// lost packet from moving thousands of clients.
type Thresholds struct {
	Rise int // successes until a member that was down is up again
	Fall int // failures until a member that was up is down
}

// newcomerPause is the pause before the second check of a member that was not
// there at the first; it doubles up to the interval. Nodes that start together
// so see each other within a moment of listening, however rare their checks are.
const newcomerPause = 100 * time.Millisecond

// Pause returns how long to wait from the start of one check to the next.
func (s State) Pause(interval time.Duration) time.Duration {
	if !s.Since.IsZero() || s.Streak > 16 {
		return interval
	}
	return min(interval, newcomerPause<<s.Streak)
}

// Step returns the state after a check that ended at a time, with nil for
// success. It is pure; the caller's clock only dates the change.
func (s State) Step(t Thresholds, err error, at time.Time) State {
	good := err == nil
	next := State{Up: s.Up, Checked: true, Streak: 1, Good: good, Since: s.Since}
	if s.Checked && s.Good == good {
		next.Streak = s.Streak + 1
	}
	if err != nil {
		next.Error = err.Error()
	}
	neverUp := s.Since.IsZero() // a newcomer need not rise from a fall it never had
	switch {
	case !s.Up && good && (neverUp || next.Streak >= t.Rise):
		next.Up, next.Since = true, at
	case s.Up && !good && next.Streak >= t.Fall:
		next.Up, next.Since = false, at
	}
	return next
}
