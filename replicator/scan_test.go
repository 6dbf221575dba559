package replicator

import (
	"testing"
	"time"
)

// TestLooks holds that one look which waited long makes no long pause.
func TestLooks(t *testing.T) {
	var l looks
	for i, c := range []struct{ took, want time.Duration }{{900, 0}, {7, 0}, {500, 0}, {8, 7}, {9, 7}, {9, 8}, {500, 8}, {500, 9}, {500, 9}, {500, 500}} {
		if got := l.least(c.took); got != c.want {
			t.Errorf("look %d of %d: %d, want %d", i, c.took, got, c.want)
		}
	}
}

// TestScanPause holds how long a round of looks takes, and how much of a processor.
func TestScanPause(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		took  time.Duration
		n     int
		round time.Duration
	}{
		{0, 8, scanRound},
		{2 * ms, 8, scanRound},         // small: once a second
		{10 * ms, 8, 1600 * ms},        // a twentieth of a processor
		{40 * ms, 8, scanWithin},       // up to a fifth
		{50 * ms, 8, scanWithin},       //
		{51 * ms, 8, 51 * 20 * 8 * ms}, // larger: a twentieth, whatever it takes
		{5 * ms, 64, scanWithin},
		{time.Second, 64, 64 * 20 * time.Second},
	} {
		if round := time.Duration(c.n) * (c.took + scanPause(c.took, c.n)); round != c.round {
			t.Errorf("%d looks of %v: a round takes %v, want %v", c.n, c.took, round, c.round)
		}
	}
}
