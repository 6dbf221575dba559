package bench

import (
	"context"
	"sync"
	"time"

	"github.com/homing-im/homing/replicator"
)

// stages says where the time between durable here and applied there goes. It
// counts while it is switched on.
type stages struct {
	mu     sync.Mutex
	on     bool
	stages [stageCount]histogram
}

type stage int

const (
	stageProduce stage = iota // one request to the region's own queue
	stageFetch                // one question to the other region's queue, and its answer
	stageApply                // one transaction in the store
	stageCount
)

func (s *stages) count(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
}

func (s *stages) add(at stage, since time.Time) {
	took := time.Since(since)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on {
		s.stages[at].add(took)
	}
}

func (s *stages) p99(at stage) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stages[at].quantile(0.99)
}

// timedQueue notes how long requests take.
type timedQueue struct {
	replicator.Queue
	stages *stages
}

func (q timedQueue) Produce(ctx context.Context, runs []replicator.Run) ([]int64, error) {
	defer q.stages.add(stageProduce, time.Now())
	return q.Queue.Produce(ctx, runs)
}

func (q timedQueue) Fetch(ctx context.Context, at []replicator.FetchAt, wait time.Duration) ([]replicator.Fetched, error) {
	defer q.stages.add(stageFetch, time.Now())
	return q.Queue.Fetch(ctx, at, wait)
}
