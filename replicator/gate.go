package replicator

import (
	"context"
	"sync"
)

// gate holds goroutines back while it is shut.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil when open; closed when it opens
}

// Pause shuts the gate.
func (g *gate) Pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
}

// Resume opens the gate.
func (g *gate) Resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// Paused says whether the gate is shut.
func (g *gate) Paused() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut != nil
}

// pass waits until the gate is open; false when ctx ended first.
func (g *gate) pass(ctx context.Context) bool {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut == nil {
		return ctx.Err() == nil
	}
	select {
	case <-shut:
		return true
	case <-ctx.Done():
		return false
	}
}
