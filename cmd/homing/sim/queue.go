package sim

import (
	"context"
	"errors"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
)

// cluster is the queue of one region: brokers that may do to a log whatever the
// replicator says it can bear.
type cluster struct {
	of   region.ID
	down bool
	logs map[replicator.TopicPartition]*topicLog
}

type topicLog struct {
	start    int64
	messages []replicator.Message
	late     []replicator.Message // written, but after what comes next
}

func (l *topicLog) end() int64 { return l.start + int64(len(l.messages)) }

func (l *topicLog) put(m []replicator.Message) {
	for _, m := range m {
		m.Offset = l.end()
		l.messages = append(l.messages, m)
	}
}

// pipe is a queue as one region reaches it.
type pipe struct {
	r    *run
	from region.ID
	to   *cluster
}

var errBroker = errors.New("the broker does not answer")

// reach says whether a request arrives.
func (q *pipe) reach(what string) error {
	if q.to.down || !q.r.linked(q.from, q.to.of) || q.r.weather && q.r.dice.hits(what+string(q.from), 25) {
		return errBroker
	}
	return nil
}

// MakeTopics implements replicator.Queue.
func (q *pipe) MakeTopics(_ context.Context, partitions int, topics ...string) error {
	if err := q.reach("topics"); err != nil {
		return err
	}
	for _, t := range topics {
		for p := range partitions {
			at := replicator.TopicPartition{Topic: t, Partition: region.Partition(p)}
			if q.to.logs[at] == nil {
				q.to.logs[at] = &topicLog{}
			}
		}
	}
	return nil
}

// Produce implements replicator.Queue.
func (q *pipe) Produce(_ context.Context, runs []replicator.Run) ([]int64, error) {
	if err := q.reach("produce"); err != nil {
		return nil, err
	}
	base := make([]int64, len(runs))
	var failed error
	for i, run := range runs {
		l := q.to.logs[run.TopicPartition]
		if l == nil {
			return nil, replicator.ErrNoTopic
		}
		what := "log" + run.Topic
		if q.r.weather && q.r.dice.hits(what+"late", 20) { // refused, and written nevertheless, some time
			l.late = append(l.late, run.Messages...)
			failed = errBroker
			continue
		}
		base[i] = l.end()
		l.put(run.Messages)
		if len(l.late) > 0 && q.r.dice.hits(what+"arrives", 2) {
			l.put(l.late)
			l.late = nil
		}
		if !q.r.weather {
			continue
		}
		switch q.r.dice.pick(what, 40) {
		case 0, 1: // written twice
			l.put(run.Messages)
			q.r.stats.Repeated++
		case 2, 3: // written, and not said so
			failed = errBroker
		case 4:
			q.r.alter(l, what)
		}
	}
	if failed != nil {
		return nil, failed
	}
	return base, nil
}

// alter changes the newest message's content under the same link, as a broken
// disk or somebody with access to the brokers may.
func (r *run) alter(l *topicLog, what string) {
	m := &l.messages[len(l.messages)-1]
	b, err := journal.Decode(m.Value)
	if err != nil {
		return
	}
	b.UnixMilli++
	for i := range b.Records {
		if row := b.Records[i].Row; row != nil && len(row.Value) > 0 {
			row.Value = append([]byte(nil), row.Value...)
			row.Value[len(row.Value)-1] ^= 1
		}
	}
	m.Value = journal.Encode(b)
	r.stats.Altered++
	r.note("a message of %s is altered", what)
}

// Groups implements replicator.Queue.
func (q *pipe) Groups(_ context.Context, logs []replicator.TopicPartition) ([][]replicator.TopicPartition, error) {
	if err := q.reach("groups"); err != nil {
		return nil, err
	}
	var led []replicator.TopicPartition
	for _, l := range logs {
		if q.to.logs[l] != nil {
			led = append(led, l)
		}
	}
	if len(led) == 0 {
		return nil, nil
	}
	return [][]replicator.TopicPartition{led}, nil
}

// Fetch implements replicator.Queue.
func (q *pipe) Fetch(_ context.Context, at []replicator.FetchAt, _ time.Duration) ([]replicator.Fetched, error) {
	if err := q.reach("fetch"); err != nil {
		return nil, err
	}
	out := make([]replicator.Fetched, 0, len(at))
	for _, a := range at {
		f := replicator.Fetched{TopicPartition: a.TopicPartition}
		l := q.to.logs[a.TopicPartition]
		switch {
		case l == nil:
			f.Err = replicator.ErrNoTopic
		case a.Offset < l.start || a.Offset > l.end():
			f.Err = replicator.ErrOffsetOutOfRange
		default:
			f.Bounds = replicator.Bounds{Start: l.start, End: l.end()}
			most := 1 << 20
			if q.r.weather {
				most = 1 + int(q.r.dice.pick("some"+a.Topic, 5))
			}
			size := 0
			for _, m := range l.messages[a.Offset-l.start:] {
				if len(f.Messages) >= most || size > 0 && size+len(m.Value) > a.MaxBytes {
					break
				}
				f.Messages = append(f.Messages, m)
				size += len(m.Value)
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// Bounds implements replicator.Queue.
func (q *pipe) Bounds(_ context.Context, log replicator.TopicPartition) (replicator.Bounds, error) {
	if err := q.reach("bounds"); err != nil {
		return replicator.Bounds{}, err
	}
	l := q.to.logs[log]
	if l == nil {
		return replicator.Bounds{}, replicator.ErrNoTopic
	}
	return replicator.Bounds{Start: l.start, End: l.end()}, nil
}

// Close implements replicator.Queue.
func (q *pipe) Close() error { return nil }

// forget is a disaster of the queue: a log comes back empty, without its end, or
// without its beginning.
func (r *run) forget(c *cluster) {
	for _, at := range sortedLogs(c.logs) {
		l := c.logs[at]
		n := len(l.messages)
		switch r.dice.IntN(6) {
		case 0:
			*l = topicLog{}
		case 1:
			l.messages = l.messages[:n-min(n, r.dice.IntN(4))]
		case 2:
			gone := min(n, r.dice.IntN(8))
			l.start, l.messages = l.start+int64(gone), l.messages[gone:]
		case 3: // the middle
			if n > 3 {
				i := r.dice.IntN(n - 2)
				rest := append([]replicator.Message(nil), l.messages[i+1:]...)
				l.messages = l.messages[:i]
				l.put(rest)
			}
		}
	}
	r.stats.QueueLosses++
	r.note("the queue of %s loses a part of its logs", c.of)
}
