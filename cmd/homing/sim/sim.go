package sim

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"
)

// Options say which seeds to play.
type Options struct {
	First uint64 // seed
	Seeds int
	Trace bool // of every seed, not only of those that fail
	Out   io.Writer
	Moves bool // of users, too; see the package comment
	Jobs  int  // seeds at a time; 0 is one for each processor
}

// Result is what happened.
type Result struct {
	Seeds  int
	Failed []uint64 // seeds
	Stats  Stats
	Took   time.Duration
}

// Play plays seeds until ctx ends or one has failed, and prints the trace of the
// first that did. It blocks.
func Play(ctx context.Context, o Options) Result {
	if o.Jobs <= 0 {
		o.Jobs = runtime.GOMAXPROCS(0)
	}
	began := time.Now()
	var mu sync.Mutex
	var playing sync.WaitGroup
	var failed *run
	result := Result{Stats: Stats{Answers: map[string]int{}}}
	next := 0
	for range o.Jobs {
		playing.Go(func() {
			for {
				mu.Lock()
				if next == o.Seeds || ctx.Err() != nil || failed != nil {
					mu.Unlock()
					return
				}
				seed := o.First + uint64(next)
				next++
				mu.Unlock()
				r := play(seed, o.Moves)
				mu.Lock()
				result.Seeds++
				result.Stats.add(&r.stats)
				if r.failure != nil {
					result.Failed = append(result.Failed, seed)
					if failed == nil || seed < failed.dice.seed {
						failed = r
					}
				}
				if o.Trace {
					r.print(o.Out, len(r.notes))
				}
				mu.Unlock()
			}
		})
	}
	playing.Wait()
	if failed != nil && !o.Trace {
		failed.print(o.Out, 60)
	}
	result.Took = time.Since(began)
	return result
}

// play plays one seed. A panic of what it steps is a failure of the seed.
func play(seed uint64, moves bool) (r *run) {
	r = newRun(seed)
	r.moving = moves
	defer func() {
		if p := recover(); p != nil {
			stack := make([]byte, 4<<10)
			r.fail(0, "panic: %v\n%s", p, stack[:runtime.Stack(stack, false)])
		}
	}()
	r.all()
	return r
}

// print writes the last lines of the trace.
func (r *run) print(out io.Writer, lines int) {
	notes := r.notes[max(0, len(r.notes)-lines):]
	_, _ = fmt.Fprintf(out, "seed %d, the last %d of %d lines:\n", r.dice.seed, len(notes), len(r.notes))
	for _, n := range notes {
		_, _ = fmt.Fprintln(out, n)
	}
	if r.failure != nil {
		_, _ = fmt.Fprintf(out, "again: homing sim --seed %d --seeds 1 --trace\n", r.dice.seed)
	}
}

func (s *Stats) add(t *Stats) {
	for _, n := range []struct {
		to   *int
		from int
	}{{&s.Steps, t.Steps}, {&s.Acknowledged, t.Acknowledged}, {&s.Crashes, t.Crashes}, {&s.Lost, t.Lost}, {&s.Switchovers, t.Switchovers},
		{&s.Failovers, t.Failovers}, {&s.Failbacks, t.Failbacks}, {&s.Tail, t.Tail}, {&s.Conflicts, t.Conflicts},
		{&s.GapFills, t.GapFills}, {&s.Duplicates, t.Duplicates}, {&s.Refused, t.Refused}, {&s.Repeated, t.Repeated}, {&s.Altered, t.Altered},
		{&s.Moves, t.Moves}, {&s.Forks, t.Forks}, {&s.Handles, t.Handles}, {&s.Poison, t.Poison}, {&s.QueueLosses, t.QueueLosses}, {&s.Cuts, t.Cuts}} {
		*n.to += n.from
	}
	for k, n := range t.Answers {
		s.Answers[k] += n
	}
}
