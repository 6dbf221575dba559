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
		took   time.Duration
		n      int
		gained uint64
		round  time.Duration
	}{
		{0, 8, 0, scanRound},
		{2 * ms, 8, 0, scanRound},          // small: once a second
		{10 * ms, 8, 0, 1600 * ms},         // a twentieth of a processor
		{40 * ms, 8, scanBusy, scanWithin}, // up to a fifth
		{50 * ms, 8, 0, scanWithin},        //
		{51 * ms, 8, 0, 51 * 20 * 8 * ms},  // larger: a twentieth, whatever it takes
		{5 * ms, 64, 0, scanWithin},
		{time.Second, 64, 0, 64 * 20 * time.Second},
		{2 * ms, 8, scanBusy + 1, scanRound}, // busy: a twentieth
		{40 * ms, 8, scanBusy + 1, 40 * 20 * 8 * ms},
	} {
		if round := time.Duration(c.n) * (c.took + scanPause(c.took, c.n, c.gained)); round != c.round {
			t.Errorf("%d looks of %v, %d records: a round takes %v, want %v", c.n, c.took, c.gained, round, c.round)
		}
	}
}
