package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/kafka"
)

const (
	bareTopic = "bench.bare"

	// bareLinger is how far a producer's requests are apart, as the shipper's are.
	bareLinger = 5 * time.Millisecond

	// bareWait is how long a fetch of the consumer waits for a message.
	bareWait = time.Second
)

// Bare is the lag of a queue by itself.
type Bare struct {
	Samples uint64  `json:"samples"`
	P50     float64 `json:"p50_millis"`
	P99     float64 `json:"p99_millis"`
}

// bare measures what the queue takes by itself over a distance: producers and a
// consumer that has one fetch under way, as Kafka's have, with as many messages a
// second as there are batches, as long as those. No store takes part.
func (r *replicateRun) bare(ctx context.Context, brokers string, far *distance, perSecond float64) (_ *Bare, err error) {
	addresses := slices.Collect(strings.SplitSeq(brokers, ","))
	near, err := kafka.New(kafka.Options{Brokers: addresses, Zstd: r.worlds.zstd})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, near.Close()) }()
	across, err := kafka.New(kafka.Options{Brokers: addresses, Dial: far.dial})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, across.Close()) }()
	if err := near.MakeTopics(ctx, r.Partitions, bareTopic); err != nil {
		return nil, err
	}
	length, err := r.messageLength(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const before = 2 * time.Second // leaders are found, connections made
	defer time.AfterFunc(before+r.Duration, cancel).Stop()
	from := time.Now().Add(before)
	lag := histogram{}
	errs := make([]error, r.Partitions+1)
	var group sync.WaitGroup
	for p := range r.Partitions {
		group.Go(func() {
			errs[p] = r.bareProducer(ctx, near, region.Partition(p), perSecond/float64(r.Partitions), length, from)
		})
	}
	group.Go(func() { errs[r.Partitions] = bareConsumer(ctx, across, r.Partitions, from, &lag) })
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Bare{lag.n, lag.quantile(0.5), lag.quantile(0.99)}, nil
}

// messageLength is about how long a message of the region's queue is.
func (r *replicateRun) messageLength(ctx context.Context) (int, error) {
	batches, err := r.sh.Journal(ctx, 0, journal.Full, r.sh.Head(0).First, 64<<10)
	if err != nil || len(batches) == 0 {
		return 0, errors.Join(err, errors.New("the journal of partition 0 is empty"))
	}
	n := 0
	for _, b := range batches {
		n += len(journal.Encode(b))
	}
	return n / len(batches), nil
}

// bareProducer sends what is due, each message with the time at which it was.
// Before from, the partition may have no leader yet.
func (r *replicateRun) bareProducer(ctx context.Context, q *kafka.Queue, p region.Partition, perSecond float64, length int, from time.Time) error {
	start, sent := time.Now(), 0
	for {
		run := replicator.Run{TopicPartition: replicator.TopicPartition{Topic: bareTopic, Partition: p}}
		for ; ; sent++ {
			due := start.Add(time.Duration(float64(sent) / perSecond * float64(time.Second)))
			if due.After(time.Now()) {
				break
			}
			value := slices.Concat(binary.BigEndian.AppendUint64(nil, uint64(due.UnixNano())), r.bench.filler[sent%(len(r.bench.filler)-length):][:max(0, length-8)])
			run.Messages = append(run.Messages, replicator.Message{Value: value})
		}
		if len(run.Messages) > 0 {
			if _, err := q.Produce(ctx, []replicator.Run{run}); err != nil && ctx.Err() == nil && time.Now().After(from) {
				return err
			}
		}
		if !wait(ctx, bareLinger) {
			return nil
		}
	}
}

// bareConsumer takes all messages, and counts those that were due after a time.
func bareConsumer(ctx context.Context, q *kafka.Queue, partitions int, from time.Time, lag *histogram) error {
	at := make([]replicator.FetchAt, partitions)
	for p := range at {
		at[p] = replicator.FetchAt{TopicPartition: replicator.TopicPartition{Topic: bareTopic, Partition: region.Partition(p)}, MaxBytes: 1 << 20}
	}
	for ctx.Err() == nil {
		got, err := q.Fetch(ctx, at, bareWait)
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && now.After(from):
			return err
		case err != nil:
			wait(ctx, bareLinger)
		}
		for _, f := range got {
			if f.Err != nil && now.After(from) {
				return f.Err
			}
			for _, m := range f.Messages {
				at[f.Partition].Offset = m.Offset + 1
				if due := time.Unix(0, int64(binary.BigEndian.Uint64(m.Value))); due.After(from) {
					lag.add(now.Sub(due))
				}
			}
		}
	}
	return nil
}
