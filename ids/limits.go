package ids

import (
	"sync"
	"time"

	"github.com/homing-im/homing/region"
)

// limits is a token bucket per region: rate tokens a second, two seconds' worth
// at most. Only regions of the world get here, so the map stays small.
type limits struct {
	rate float64

	mu      sync.Mutex
	buckets map[region.ID]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimits(rate float64) *limits {
	return &limits{rate: rate, buckets: make(map[region.ID]*bucket)}
}

// allow takes a token, and says whether there was one.
func (l *limits) allow(id region.ID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[id]
	if b == nil {
		b = &bucket{tokens: 2 * l.rate, at: now}
		l.buckets[id] = b
	}
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(2*l.rate, b.tokens+d.Seconds()*l.rate)
		b.at = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
