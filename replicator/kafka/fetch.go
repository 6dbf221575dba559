package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
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

	m, err := q.transport.RoundTrip(ctx, q.addr, &carefulFetch{Request: req, clientID: q.options.ClientID, correlationID: q.fetches.Add(1), inflater: q.inflater})
	if err != nil {
		var leaders *fetch.Error
		if errors.As(err, &leaders) && !errors.Is(err, protocol.ErrNoTopic) && !errors.Is(err, protocol.ErrNoPartition) {
			return nil, fmt.Errorf("kafka: fetch: %w: %w", replicator.ErrRegroup, err)
		}
		return nil, q.failed(fmt.Errorf("fetch: %w", err))
	}
	res, ok := m.(*fetch.Response)
	if !ok {
		return nil, fmt.Errorf("kafka: fetch was answered with %T", m)
	}
	if res.ErrorCode != 0 {
		return nil, q.failed(kafka.Error(res.ErrorCode))
	}
	out := make([]replicator.Fetched, 0, len(at))
	for i := range res.Topics {
		t := &res.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			f := replicator.Fetched{TopicPartition: replicator.TopicPartition{Topic: t.Topic, Partition: partition(int(p.Partition))}}
			from, asked := offsets[f.TopicPartition]
			if !asked {
				continue
			}
			if p.ErrorCode != 0 {
				f.Err = q.failed(kafka.Error(p.ErrorCode))
			} else {
				f.Bounds = replicator.Bounds{Start: p.LogStartOffset, End: p.HighWatermark}
				f.Messages, f.Err = messages(p.RecordSet.Records, from)
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// messages copies what the broker sent. A broker answers with whole record
// batches, so messages before the offset asked for may come first.
func messages(r protocol.RecordReader, from int64) ([]replicator.Message, error) {
	if r == nil {
		return nil, nil
	}
	var out []replicator.Message
	for {
		rec, err := r.ReadRecord()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("kafka: record batch: %w", err)
		}
		m := replicator.Message{Offset: rec.Offset}
		if m.Key, err = take(rec.Key); err == nil {
			m.Value, err = take(rec.Value)
		}
		if err != nil {
			return out, fmt.Errorf("kafka: record at offset %d: %w", rec.Offset, err)
		}
		if m.Offset >= from {
			out = append(out, m)
		}
	}
}

func take(b protocol.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer func() { _ = b.Close() }()
	return protocol.ReadAll(b)
}

func partition(n int) region.Partition { return region.Partition(n) }
