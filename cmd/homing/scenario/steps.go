// Package scenario plays the demo's stories: each step does something real and
// checks it, and a failed check names its step.
package scenario

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Step is one step of a story.
type Step struct {
	Name string
	// Limit bounds the step: past it the step has failed.
	Limit time.Duration
	// Run returns what was seen, for the trace, or what was wrong.
	Run func(ctx context.Context) (seen string, err error)
}

// Play runs the steps in order, writes a trace with times to w, and returns
// the first failure, which names the step.
func Play(ctx context.Context, w io.Writer, steps []Step) error {
	began := time.Now()
	for i, s := range steps {
		stepBegan := time.Now()
		stepCtx, cancel := context.WithTimeout(ctx, s.Limit)
		seen, err := s.Run(stepCtx)
		cancel()
		took := time.Since(stepBegan).Round(100 * time.Microsecond)
		if err != nil {
			fmt.Fprintf(w, "%2d  FAIL  %-12s %9s  %v\n", i+1, s.Name, took, err)
			return fmt.Errorf("step %d, %s: %w", i+1, s.Name, err)
		}
		fmt.Fprintf(w, "%2d  ok    %-12s %9s  %s\n", i+1, s.Name, took, seen)
	}
	fmt.Fprintf(w, "all %d steps ok in %s\n", len(steps), time.Since(began).Round(time.Millisecond))
	return nil
}

// eventually calls f until it returns nil or ctx ends, and then returns what f
// said last.
func eventually(ctx context.Context, f func(context.Context) error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
