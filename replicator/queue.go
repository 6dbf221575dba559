package replicator

import (
	"context"
	"errors"
	"time"

	"github.com/homing-im/homing/region"
)

// Errors of a queue. They are wrapped; test with errors.Is. Anything else is a
// broker that cannot be reached or does not answer well, and is retried.
var (
	// ErrOffsetOutOfRange: the partition's log does not reach the offset. It was
	// trimmed, or came back shorter.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrNoTopic: the broker does not have the topic or the partition.
	ErrNoTopic = errors.New("no such topic or partition")
	// ErrRegroup: the partitions asked for together do not, or no longer, have
	// one leader: ask for Groups again.
	ErrRegroup = errors.New("partition leaders changed")
)

// TopicPartition names one log of the queue.
type TopicPartition struct {
	Topic     string
	Partition region.Partition
}

// Message is one entry of a log.
type Message struct {
	Offset int64 // ignored by Produce
	Key    []byte
	Value  []byte
}

// Run is messages for one log, in order.
type Run struct {
	TopicPartition
	Messages []Message
}

// FetchAt asks for a log from an offset on.
type FetchAt struct {
	TopicPartition
	Offset   int64
	MaxBytes int
}

// Fetched is what a log had. Messages start at or after the offset asked for
// and belong to the caller.
type Fetched struct {
	TopicPartition
	Messages []Message
	Bounds   Bounds // zero when Err is set
	Err      error  // of this log alone
}

// Bounds is the extent of a log: Start is the offset of its oldest message, End
// the offset the next one will get. Start equals End when it is empty.
type Bounds struct {
	Start, End int64
}

// Queue is a sync queue: logs of messages, in one cluster of brokers. Methods
// are safe for concurrent use, block until answered, and return when ctx ends.
type Queue interface {
	// MakeTopics makes the topics that are missing, each with that many
	// partitions. It is idempotent.
	MakeTopics(ctx context.Context, partitions int, topics ...string) error

	// Produce appends each run to its log, in order, and returns the offset each
	// run begins at once all replicas that count have it. After an error any
	// part of the runs may have been written, or be written later. A log must
	// have one caller at a time.
	Produce(ctx context.Context, runs []Run) ([]int64, error)

	// Groups splits logs into sets that one Fetch can ask for: those with the
	// same leader. Logs that nobody leads, such as of a topic that does not
	// exist yet, are left out.
	Groups(ctx context.Context, logs []TopicPartition) ([][]TopicPartition, error)

	// Fetch returns as soon as any of the logs has messages, and otherwise, with
	// none, after wait; a log in error makes it return at once.
	Fetch(ctx context.Context, at []FetchAt, wait time.Duration) ([]Fetched, error)

	// Bounds returns the extent of a log.
	Bounds(ctx context.Context, log TopicPartition) (Bounds, error)

	// Close breaks the connections. Calls under way fail.
	Close() error
}
