package bench

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
)

// stages says where the time between durable here and applied there goes: of
// requests, and of each batch from one place to the next. It counts while it is
// switched on.
type stages struct {
	mu     sync.Mutex
	on     bool
	stages [stageCount]histogram
	queued map[region.Partition]*passing // has it in the queue
	come   map[region.Partition]*passing // has it in the other region
}

type stage int

const (
	stageProduce stage = iota // one request to the region's own queue
	stageFetch                // one question to the other region's queue, and its answer
	stageApply                // one transaction in the store
	stageQueue                // of a batch: from durable to acknowledged by the queue
	stageCross                // from there to the other region
	stageStore                // from there to applied
	stageCount
)

func (s *stages) count(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
	s.queued, s.come = map[region.Partition]*passing{}, map[region.Partition]*passing{}
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

// applied takes when a batch was durable and when it was applied.
func (s *stages) applied(p region.Partition, b pending, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queued, ok := s.queued[p].at(b.seq)
	come, ok2 := s.come[p].at(b.seq)
	if !s.on || !ok || !ok2 {
		return
	}
	s.stages[stageQueue].add(queued.Sub(b.at))
	s.stages[stageCross].add(come.Sub(queued))
	s.stages[stageStore].add(now.Sub(come))
}

// passed notes that everything up to the message with a key has come to a place.
func (s *stages) passed(place map[region.Partition]*passing, p region.Partition, key []byte) {
	_, last, _ := bytes.Cut(key, []byte("-"))
	seq, err := strconv.ParseUint(string(last), 10, 64)
	if err != nil {
		return
	}
	if place[p] == nil {
		place[p] = new(passing)
	}
	place[p].add(seq, time.Now())
}

// passing is when the records of a partition came to a place.
type passing struct{ moments []pending }

func (p *passing) add(seq uint64, now time.Time) {
	if n := len(p.moments); n == 0 || p.moments[n-1].seq < seq {
		p.moments = append(p.moments, pending{seq, now})
	}
}

// at returns when a record came there. It is asked for ascending ones, nearly, and
// forgets those of long before.
func (p *passing) at(seq uint64) (time.Time, bool) {
	if p == nil {
		return time.Time{}, false
	}
	if len(p.moments) > 1024 && p.moments[512].seq < seq {
		p.moments = append(p.moments[:0], p.moments[512-16:]...)
	}
	for _, m := range p.moments {
		if m.seq >= seq {
			return m.at, true
		}
	}
	return time.Time{}, false
}

// timedQueue notes how long requests take, and when messages pass.
type timedQueue struct {
	replicator.Queue
	stages *stages
}

func (q timedQueue) Produce(ctx context.Context, runs []replicator.Run) ([]int64, error) {
	start := time.Now()
	base, err := q.Queue.Produce(ctx, runs)
	q.stages.add(stageProduce, start)
	q.stages.mu.Lock()
	defer q.stages.mu.Unlock()
	for _, r := range runs {
		if q.stages.on && err == nil && r.Topic == journal.Topic("sh", journal.Full) {
			q.stages.passed(q.stages.queued, r.Partition, r.Messages[len(r.Messages)-1].Key)
		}
	}
	return base, err
}

func (q timedQueue) Fetch(ctx context.Context, at []replicator.FetchAt, wait time.Duration) ([]replicator.Fetched, error) {
	start := time.Now()
	got, err := q.Queue.Fetch(ctx, at, wait)
	q.stages.add(stageFetch, start)
	q.stages.mu.Lock()
	defer q.stages.mu.Unlock()
	for _, f := range got {
		if n := len(f.Messages); q.stages.on && n > 0 && f.Topic == journal.Topic("sh", journal.Full) {
			q.stages.passed(q.stages.come, f.Partition, f.Messages[n-1].Key)
		}
	}
	return got, err
}
