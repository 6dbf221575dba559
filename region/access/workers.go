package access

import (
	"context"
	"sync"
	"sync/atomic"
)

// maxIdleWorkers is how many goroutines wait for more work. Their stacks stay,
// so it bounds what a busy minute leaves behind, at about 8 KiB each.
const maxIdleWorkers = 256

// workers runs functions in goroutines that are used again: a new goroutine
// begins with a small stack, and growing it costs as much as a request's own
// work.
type workers struct {
	jobs  chan func()
	idle  atomic.Int32
	ctx   context.Context
	tasks *sync.WaitGroup // counts the goroutines
}

// newWorkers makes workers that end with ctx.
func newWorkers(ctx context.Context, tasks *sync.WaitGroup) *workers {
	return &workers{jobs: make(chan func()), ctx: ctx, tasks: tasks}
}

// do runs f at once. It does not block.
func (w *workers) do(f func()) {
	select {
	case w.jobs <- f:
	default:
		w.tasks.Go(func() { w.run(f) })
	}
}

func (w *workers) run(f func()) {
	for {
		f()
		f = nil
		if w.idle.Add(1) > maxIdleWorkers {
			w.idle.Add(-1)
			return
		}
		select {
		case f = <-w.jobs:
			w.idle.Add(-1)
		case <-w.ctx.Done():
			w.idle.Add(-1)
			return
		}
	}
}
