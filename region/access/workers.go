package access

import (
	"context"
	"slices"
	"sync"
)

// maxIdleWorkers is how many goroutines wait for more work. Their stacks stay,
// so it bounds what a busy minute leaves behind, at about 8 KiB each.
const maxIdleWorkers = 256

// workers runs functions in goroutines that are used again: a new goroutine
// begins with a small stack, and growing it costs as much as a request's own
// work. The one that became idle last is used first. Its stack is still grown and
// in the cache; in turn, all would be shrunk by each collection and grow again.
type workers struct {
	ctx   context.Context
	tasks *sync.WaitGroup // counts the goroutines

	mu   sync.Mutex
	idle []*worker // the last became idle last
}

type worker struct {
	jobs chan func() // capacity 1: whoever takes the worker out of idle does not wait
}

// newWorkers makes workers that end with ctx.
func newWorkers(ctx context.Context, tasks *sync.WaitGroup) *workers {
	return &workers{ctx: ctx, tasks: tasks}
}

// do runs f at once. It does not block.
func (w *workers) do(f func()) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		one := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		one.jobs <- f
		return
	}
	w.mu.Unlock()
	w.tasks.Go(func() { w.run(f) })
}

func (w *workers) run(f func()) {
	one := &worker{jobs: make(chan func(), 1)}
	for {
		f()
		f = nil
		if !w.rest(one) {
			return
		}
		select {
		case f = <-one.jobs:
		case <-w.ctx.Done():
			if w.leave(one) {
				return
			}
			f = <-one.jobs // it was taken a moment ago
		}
	}
}

// rest makes a worker idle; false when enough are.
func (w *workers) rest(one *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.idle) >= maxIdleWorkers {
		return false
	}
	w.idle = append(w.idle, one)
	return true
}

// leave takes an idle worker out; false when it has been given something to do.
func (w *workers) leave(one *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.idle, one)
	if i < 0 {
		return false
	}
	w.idle = slices.Delete(w.idle, i, i+1)
	return true
}
