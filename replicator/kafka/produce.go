package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"

	"github.com/homing-im/homing/replicator"
)

// zstdAbove is from how many bytes on the messages of a run are compressed: below,
// what a frame itself takes is not worth it.
const zstdAbove = 512

// Produce sends one request per broker that leads any of the runs, one after
// the other, and returns when all have answered. Like [Queue.Fetch] it speaks to
// the transport itself, so that the streams of a partition share a round trip.
func (q *Queue) Produce(ctx context.Context, runs []replicator.Run) ([]int64, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	select {
	case q.producing <- struct{}{}:
		defer func() { <-q.producing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, produceTimeout+answerTimeout)
	defer cancel()

	logs := make([]replicator.TopicPartition, len(runs))
	for i, r := range runs {
		logs[i] = r.TopicPartition
	}
	leaders, err := q.leaders(ctx, logs)
	if err != nil {
		return nil, err
	}
	byLeader := make(map[int][]int)
	for i, id := range leaders {
		if id < 0 {
			return nil, q.failed(fmt.Errorf("produce to %s/%d: %w", logs[i].Topic, logs[i].Partition, protocol.ErrNoTopic))
		}
		byLeader[id] = append(byLeader[id], i)
	}
	base := make([]int64, len(runs))
	for _, members := range byLeader {
		if err := q.produce(ctx, runs, members, base); err != nil {
			return nil, err
		}
	}
	return base, nil
}

func (q *Queue) produce(ctx context.Context, runs []replicator.Run, members []int, base []int64) error {
	req := &produce.Request{Acks: int16(kafka.RequireAll), Timeout: int32(produceTimeout.Milliseconds())}
	topics := make(map[string]int)
	index := make(map[replicator.TopicPartition]int, len(members))
	for _, m := range members {
		run := runs[m]
		i, ok := topics[run.Topic]
		if !ok {
			i = len(req.Topics)
			topics[run.Topic] = i
			req.Topics = append(req.Topics, produce.RequestTopic{Topic: run.Topic})
		}
		records := make([]protocol.Record, len(run.Messages))
		size := 0
		for k, msg := range run.Messages {
			size += len(msg.Key) + len(msg.Value)
			records[k] = protocol.Record{Key: protocol.NewBytes(msg.Key), Value: protocol.NewBytes(msg.Value)}
		}
		set := protocol.RecordSet{Records: protocol.NewRecordReader(records...)}
		if q.options.Zstd && size >= zstdAbove {
			set.Attributes = protocol.Zstd
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, produce.RequestPartition{Partition: int32(run.Partition), RecordSet: set})
		index[run.TopicPartition] = m
	}
	m, err := q.transport.RoundTrip(ctx, q.addr, req)
	if err != nil {
		return q.failed(fmt.Errorf("produce: %w", err))
	}
	res, ok := m.(*produce.Response)
	if !ok {
		return fmt.Errorf("kafka: produce was answered with %T", m)
	}
	for i := range res.Topics {
		t := &res.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			log := replicator.TopicPartition{Topic: t.Topic, Partition: partition(int(p.Partition))}
			at, asked := index[log]
			if !asked {
				continue
			}
			if p.ErrorCode != 0 {
				err := error(kafka.Error(p.ErrorCode))
				if p.ErrorMessage != "" {
					err = fmt.Errorf("%w (%s)", err, p.ErrorMessage)
				}
				return q.failed(fmt.Errorf("produce to %s/%d: %w", log.Topic, log.Partition, err))
			}
			base[at] = p.BaseOffset
			delete(index, log)
		}
	}
	if len(index) > 0 {
		return q.failed(errors.New("produce: the broker left a log out of its answer"))
	}
	return nil
}
