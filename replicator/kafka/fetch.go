package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/replicator"
)

// maxFetchBytes bounds the answer to one fetch, over all its logs.
const maxFetchBytes = 8 << 20

// Fetch is one long poll over all the logs. kafka.Client.Fetch asks for one
// partition only, and a connection per partition is what a region with many
// partitions cannot afford; the transport below it takes the whole request.
func (q *Queue) Fetch(ctx context.Context, at []replicator.FetchAt, wait time.Duration) ([]replicator.Fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+answerTimeout)
	defer cancel()

	req := &fetch.Request{
		ReplicaID: -1, SessionID: -1, SessionEpoch: -1,
		MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: maxFetchBytes,
	}
	topics := make(map[string]int)
	offsets := make(map[replicator.TopicPartition]int64, len(at))
	for _, a := range at {
		i, ok := topics[a.Topic]
		if !ok {
			i = len(req.Topics)
			topics[a.Topic] = i
			req.Topics = append(req.Topics, fetch.RequestTopic{Topic: a.Topic})
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, fetch.RequestPartition{
			Partition: int32(a.Partition), CurrentLeaderEpoch: -1, LogStartOffset: -1,
			FetchOffset: a.Offset, PartitionMaxBytes: int32(a.MaxBytes),
		})
		offsets[a.TopicPartition] = a.Offset
	}

	m, err := q.transport.RoundTrip(ctx, q.addr, &carefulFetch{Request: req, offsets: offsets, frames: &q.frames, inflater: q.inflater, clientID: q.options.ClientID, correlationID: q.fetches.Add(1)})
	if err != nil {
		var leaders *fetch.Error
		if errors.As(err, &leaders) && !errors.Is(err, protocol.ErrNoTopic) && !errors.Is(err, protocol.ErrNoPartition) {
			return nil, fmt.Errorf("kafka: fetch: %w: %w", replicator.ErrRegroup, err)
		}
		return nil, q.failed(fmt.Errorf("fetch: %w", err))
	}
	res, ok := m.(*answer)
	if !ok {
		return nil, fmt.Errorf("kafka: fetch was answered with %T", m)
	}
	if res.code != 0 {
		return nil, q.failed(kafka.Error(res.code))
	}
	out := make([]replicator.Fetched, 0, len(at))
	for i := range res.logs {
		l := &res.logs[i]
		f := replicator.Fetched{TopicPartition: replicator.TopicPartition{Topic: l.topic, Partition: partition(l.partition)}}
		if l.code != 0 {
			f.Err = q.failed(kafka.Error(l.code))
		} else {
			f.Bounds, f.Messages = l.bounds, l.messages
		}
		out = append(out, f)
	}
	return out, nil
}

func partition(n int) region.Partition { return region.Partition(n) }
