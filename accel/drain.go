package accel

import (
	"context"
)

// Drain closes the listeners, tells every long connection to go, each after a
// random part of DrainSpread, and waits until all are gone. HTTP requests under
// way are finished. When ctx ends first, the rest stays served until Close, and
// the error is the context's.
func (p *POP) Drain(ctx context.Context) error {
	p.mu.Lock()
	if !p.draining {
		p.draining = true
		p.idle = make(chan struct{})
	}
	idle := p.idle
	sessions := p.snapshot()
	p.mu.Unlock()
	p.closeListeners()
	for _, s := range sessions {
		s.goAway("drain", p.o.DrainSpread)
	}
	p.finished()
	for _, s := range p.servers {
		if err := s.Shutdown(ctx); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Draining says whether Drain was called.
func (p *POP) Draining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

// finished tells Drain when the last long connection is gone.
func (p *POP) finished() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle == nil || len(p.sessions) > 0 || len(p.opening) > 0 {
		return
	}
	select {
	case <-p.idle:
	default:
		close(p.idle)
	}
}
