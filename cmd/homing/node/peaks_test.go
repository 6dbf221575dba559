package node

import (
	"testing"
	"time"
)

// A peak counts for a week.
func TestPeak(t *testing.T) {
	var k peak
	monday := time.Date(2026, 11, 16, 9, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		after time.Duration
		n     int
		want  int
	}{
		{0, 10, 10},
		{time.Minute, 7, 10},
		{3 * time.Hour, 30, 30},
		{24 * time.Hour, 20, 30},
		{(peakHours + 3) * time.Hour, 5, 20},
		{(2*peakHours + 3) * time.Hour, 1, 1},
	} {
		now := monday.Add(c.after)
		k.add(now, c.n)
		if got := k.most(now); got != c.want {
			t.Errorf("after %s: %d, want %d", c.after, got, c.want)
		}
	}
}
