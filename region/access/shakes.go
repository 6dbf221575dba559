package access

import (
	"context"
	"time"
)

const (
	// maxShakes is how many TLS handshakes are worked on at the same time. Worked on
	// all at once, those of a storm would all take longer than any client waits.
	maxShakes = 256
	// shakeWait is how long one may wait for its turn: half of a client's patience.
	// Whoever waited longer would be gone before its handshake is done, so it is
	// closed, which costs nothing, and comes back.
	shakeWait = 4 * time.Second
)

// shakes lets TLS handshakes in, in the order they came.
type shakes chan struct{}

// enter blocks until it is this one's turn; it is false when that takes too long,
// or ctx ended.
func (s shakes) enter(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(shakeWait)
	defer t.Stop()
	select {
	case s <- struct{}{}:
		return true
	case <-t.C:
		return false
	case <-ctx.Done():
		return false
	}
}

func (s shakes) leave() { <-s }
