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
	now     func() time.Time
	failing atomic.Bool // the queue, when it was last asked

	// Of the fetch loop:
	failures int
	retry    backOff
}

// fetch keeps one long poll per broker that leads any of the logs.
func (g *queueGroup) fetch(ctx context.Context) {
	logs, byLog := g.logs()
	for g.gate.pass(ctx) {
		began := g.now()
		led, err := g.queue.Groups(ctx, logs)
		if err == nil {
			err = g.poll(ctx, led, byLog)
		}
		if ctx.Err() != nil {
			return
		}
		if pause := g.ended(began, err); pause > 0 && !wait(ctx, pause) {
			return
		}
	}
}

func (g *queueGroup) logs() ([]TopicPartition, map[TopicPartition]*feed) {
	logs := make([]TopicPartition, len(g.feeds))
	byLog := make(map[TopicPartition]*feed, len(g.feeds))
	for i, f := range g.feeds {
		logs[i] = f.cursor.log()
		byLog[logs[i]] = f
	}
	return logs, byLog
}

// ended takes how fetching that began at a time ended, and says how long to
// leave the queue alone.
func (g *queueGroup) ended(began time.Time, err error) time.Duration {
	if g.now().Sub(began) > 2*fetchWait { // it went well for a while
		g.failures = 0
		g.retry.reset()
	}
	if err == nil {
		return 0
	}
	if !errors.Is(err, ErrRegroup) && !errors.Is(err, ErrNoTopic) {
		if g.failures++; g.failures == 1 {
			g.failing.Store(true)
			g.logger.Warn("queue does not answer; the origin's journal is asked instead", "error", err)
		}
		if g.failures%reseekAfter == 0 {
			for _, f := range g.feeds {
				f.seek()
			}
		}
	}
	return g.retry.next()
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
		until = g.now().Add(regroupAfter)
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

// loop keeps fetching from one broker, until one fetch fails or it is time to ask
// for the leaders again.
func (g *queueGroup) loop(ctx context.Context, feeds []*feed, until time.Time) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan polled, maxUnderWay)
	var r rhythm
	defer func() {
		if err != nil {
			cancel()
		}
		for range r.under {
			<-answers
		}
		cancel()
	}()
	for until.IsZero() || g.now().Before(until) {
		if !g.gate.pass(ctx) {
			return ctx.Err()
		}
		var timer <-chan time.Time
		if at, ok := r.next(g.now()); ok {
			in := at.Sub(g.now())
			if in <= 0 {
				sent := g.now()
				number, before := r.send(sent)
				go func() { answers <- g.round(ctx, feeds, number, sent, before) }()
				continue
			}
			timer = time.After(in)
		}
		select {
		case a := <-answers:
			r.answered(a)
			if a.err != nil {
				return a.err
			}
			if a.idle > 0 && !wait(ctx, a.idle) {
				return ctx.Err()
			}
		case <-timer:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// polled is how a fetch went.
type polled struct {
	number  int // see [rhythm]
	took    time.Duration
	idle    time.Duration // the feeds want nothing; ask them again after this
	news    bool          // there were messages
	answers []answered    // that no feed has taken yet
	err     error
}

// answered is what one log had for one question.
type answered struct {
	question
	Fetched
}

// round fetches once what the feeds want. Sent is now; before is when the newest
// of the fetches under way was sent, zero when there is none.
func (g *queueGroup) round(ctx context.Context, feeds []*feed, number int, sent, before time.Time) polled {
	p := polled{number: number}
	asked := make(map[TopicPartition]question, len(feeds))
	patience := fetchWait
	at := make([]FetchAt, 0, len(feeds))
	for _, f := range feeds {
		q, ok, soon := f.want(sent, before)
		if ok {
			log := f.cursor.log()
			at = append(at, FetchAt{TopicPartition: log, Offset: q.offset, MaxBytes: fetchBytes})
			asked[log] = q
		} else if soon {
			patience = fetchSoon
		}
	}
	if len(at) == 0 {
		p.idle = patience
		return p
	}
	var got []Fetched
	if got, p.err = g.queue.Fetch(ctx, at, patience); p.err != nil {
		return p
	}
	p.took = g.now().Sub(sent)
	if g.failing.CompareAndSwap(true, false) {
		g.logger.Info("queue is back")
	}
	for _, f := range got {
		if q, ok := asked[f.TopicPartition]; ok {
			p.answers = append(p.answers, answered{q, f})
			p.news = p.news || len(f.Messages) > 0
		}
	}
	return p
}
