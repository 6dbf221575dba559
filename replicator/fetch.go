package replicator

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// fetchWait is how long a fetch without news may take. Only an idle queue
	// lets it pass, so it costs nothing to be long.
	fetchWait = 2 * time.Second

	// fetchSoon is the wait while some log is left out of the fetch and wants in
	// shortly.
	fetchSoon = 20 * time.Millisecond

	// reseekAfter is after how many failed fetches all cursors search their place
	// anew. What fails may be one rotten record batch, and fails all logs fetched
	// with it: the journal carries its reader past it, and past it the search
	// lands.
	reseekAfter = 3

	// regroupAfter is how long a fetch loop goes on while some log has no leader.
	regroupAfter = 2 * time.Second
)

// queueGroup reads one of an origin's queue groups: one cluster of brokers.
type queueGroup struct {
	queue   Queue
	feeds   []*feed // one per cursor of the origin
	gate    *gate
	logger  *slog.Logger
	failing atomic.Bool // the queue, when it was last asked
}

// fetch keeps one long poll per broker that leads any of the logs.
func (g *queueGroup) fetch(ctx context.Context) {
	logs := make([]TopicPartition, len(g.feeds))
	byLog := make(map[TopicPartition]*feed, len(g.feeds))
	for i, f := range g.feeds {
		logs[i] = f.cursor.log()
		byLog[logs[i]] = f
	}
	var retry backOff
	failures := 0
	for g.gate.pass(ctx) {
		began := time.Now()
		led, err := g.queue.Groups(ctx, logs)
		if err == nil {
			err = g.poll(ctx, led, byLog)
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > 2*fetchWait { // it went well for a while
			failures = 0
			retry.reset()
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrRegroup) && !errors.Is(err, ErrNoTopic) {
			if failures++; failures == 1 {
				g.failing.Store(true)
				g.logger.Warn("queue does not answer; the origin's journal is asked instead", "error", err)
			}
			if failures%reseekAfter == 0 {
				for _, f := range g.feeds {
					f.seek()
				}
			}
		}
		if !wait(ctx, retry.next()) {
			return
		}
	}
}

// poll runs one loop per broker that leads logs until one fails or the leaders
// have to be asked for again.
func (g *queueGroup) poll(ctx context.Context, led [][]TopicPartition, byLog map[TopicPartition]*feed) error {
	n := 0
	for _, logs := range led {
		n += len(logs)
	}
	var until time.Time
	if n < len(byLog) {
		until = time.Now().Add(regroupAfter)
	}
	if n == 0 {
		return ErrNoTopic
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(led))
	for _, logs := range led {
		feeds := make([]*feed, len(logs))
		for i, l := range logs {
			feeds[i] = byLog[l]
		}
		go func() { errs <- g.loop(ctx, feeds, until) }()
	}
	err := <-errs
	cancel()
	for range len(led) - 1 {
		<-errs
	}
	return err
}

func (g *queueGroup) loop(ctx context.Context, feeds []*feed, until time.Time) error {
	byLog := make(map[TopicPartition]*feed, len(feeds))
	asked := make(map[TopicPartition]int64, len(feeds))
	for _, f := range feeds {
		byLog[f.cursor.log()] = f
	}
	for until.IsZero() || time.Now().Before(until) {
		if !g.gate.pass(ctx) {
			return ctx.Err()
		}
		patience := fetchWait
		now := time.Now()
		at := make([]FetchAt, 0, len(feeds))
		clear(asked)
		for _, f := range feeds {
			offset, ok, soon := f.want(now)
			if ok {
				log := f.cursor.log()
				at = append(at, FetchAt{TopicPartition: log, Offset: offset, MaxBytes: fetchBytes})
				asked[log] = offset
			} else if soon {
				patience = fetchSoon
			}
		}
		if len(at) == 0 {
			if !wait(ctx, patience) {
				return ctx.Err()
			}
			continue
		}
		got, err := g.queue.Fetch(ctx, at, patience)
		if err != nil {
			return err
		}
		if g.failing.CompareAndSwap(true, false) {
			g.logger.Info("queue is back")
		}
		for _, f := range got {
			if offset, ok := asked[f.TopicPartition]; ok {
				byLog[f.TopicPartition].hand(offset, f)
			}
		}
	}
	return nil
}
