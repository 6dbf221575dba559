// Package kafka is the sync queue on Apache Kafka, or on anything that speaks
// its protocol. It is the only importer of kafka-go.
//
// It guarantees that a produce returns only after all replicas that count have
// the messages (acks=all), in the order given, and that a message is never
// skipped silently: an offset outside the log is an error, not a jump. It uses
// neither Writer nor Reader nor consumer groups, because a Writer sends on after
// a failed batch and a Reader jumps over what retention took.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/homing-im/homing/replicator"
)

const (
	// answerTimeout is what a request may take beyond the time it asks the
	// broker to wait. A deadline below a fetch's transfer time fails for ever.
	answerTimeout = 15 * time.Second

	// produceTimeout bounds a produce, which waits for replicas.
	produceTimeout = 10 * time.Second

	// maxProducing bounds produce requests under way, and so connections: with
	// many partitions the rest wait, and lose nothing, because a broker
	// serialises its disk anyway.
	maxProducing = 16

	// maxMessageBytes is the topic's max.message.bytes. A run of messages
	// travels as one record batch; the shipper keeps a run to 1 MiB unless a
	// single batch of the journal is larger, which is 2 MiB at most.
	maxMessageBytes = "4194304"
)

// Options are what a Queue needs.
type Options struct {
	// Brokers are host:port of the cluster's bootstrap brokers; an entry may be
	// several, separated by commas.
	Brokers []string
	// ClientID is what the brokers' logs show; "homing" when empty.
	ClientID string
	// Replication is the replication factor of topics made: 3 in production
	// (with min.insync.replicas 2), 1 on one broker. 0 is 1.
	Replication int
	// Zstd has what is produced compressed, a run of messages at a time. The
	// attributes of Kafka's record batch say so, which every reader since Kafka 2.1
	// understands; what is fetched is inflated whatever this says.
	Zstd bool
	// TLS connects by it; nil is plain. Its ServerName is best left empty: every
	// broker then has to show a certificate for its own name.
	TLS *tls.Config
	// SCRAM is what the brokers ask for; nil is nothing.
	SCRAM *SCRAM
	// Dial connects; nil is the system's way. TLS, if any, goes over what it
	// returns.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger is told of connections lost and made again.
	Logger *slog.Logger
}

// Queue is a cluster of brokers. It connects on first use and again after
// every failure.
type Queue struct {
	options   Options
	addr      net.Addr
	client    *kafka.Client
	transport *kafka.Transport
	producing chan struct{}
	fetches   atomic.Int32 // correlation IDs
	frames    sync.Pool    // of *[]byte: memory for the answers to fetches
	inflater  *zstd.Decoder
	cancel    context.CancelFunc // ends the library's goroutines, also those of calls that come after Close

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}

	reasoned time.Time // when the reason of a refusal was last looked for
	why      error     // what it was
}

var _ replicator.Queue = (*Queue)(nil)

// New returns a queue. It does not connect yet.
func New(o Options) (*Queue, error) {
	var brokers []string
	for _, b := range o.Brokers {
		brokers = append(brokers, strings.Split(b, ",")...)
	}
	if len(brokers) == 0 {
		return nil, errors.New("kafka: no broker address")
	}
	for _, b := range brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return nil, fmt.Errorf("kafka: broker address: %w", err)
		}
	}
	if o.ClientID == "" {
		o.ClientID = "homing"
	}
	if o.Replication == 0 {
		o.Replication = 1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	mechanism, err := o.SCRAM.mechanism()
	if err != nil {
		return nil, err
	}
	inflater, err := newInflater()
	if err != nil {
		return nil, err
	}
	q := &Queue{
		options:   o,
		inflater:  inflater,
		addr:      kafka.TCP(brokers...),
		producing: make(chan struct{}, maxProducing),
		conns:     make(map[net.Conn]struct{}),
	}
	q.frames.New = func() any { return new([]byte) }
	var ctx context.Context
	ctx, q.cancel = context.WithCancel(context.Background())
	q.transport = &kafka.Transport{
		Context:     ctx,
		Dial:        q.dial,
		ClientID:    o.ClientID,
		DialTimeout: 5 * time.Second,
		IdleTimeout: 30 * time.Second,
		TLS:         o.TLS,
		SASL:        mechanism,
	}
	q.client = &kafka.Client{Addr: q.addr, Transport: q.transport}
	return q, nil
}

// MakeTopics makes the topics that are missing.
func (q *Queue) MakeTopics(ctx context.Context, partitions int, topics ...string) error {
	if len(topics) == 0 {
		return nil
	}
	req := &kafka.CreateTopicsRequest{}
	for _, t := range topics {
		req.Topics = append(req.Topics, kafka.TopicConfig{
			Topic: t, NumPartitions: partitions, ReplicationFactor: q.options.Replication,
			ConfigEntries: []kafka.ConfigEntry{{ConfigName: "max.message.bytes", ConfigValue: maxMessageBytes}},
		})
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	res, err := q.client.CreateTopics(ctx, req)
	if err != nil {
		return q.failed(err)
	}
	for topic, err := range res.Errors {
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("kafka: make topic %s: %w", topic, err)
		}
	}
	return nil
}

// Bounds returns the extent of a log.
func (q *Queue) Bounds(ctx context.Context, log replicator.TopicPartition) (replicator.Bounds, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	p := int(log.Partition)
	res, err := q.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{log.Topic: {kafka.FirstOffsetOf(p), kafka.LastOffsetOf(p)}},
	})
	if err != nil {
		return replicator.Bounds{}, q.failed(err)
	}
	for _, o := range res.Topics[log.Topic] {
		if o.Partition != p {
			continue
		}
		if o.Error != nil {
			return replicator.Bounds{}, q.failed(o.Error)
		}
		if o.FirstOffset < 0 || o.LastOffset < o.FirstOffset {
			break
		}
		return replicator.Bounds{Start: o.FirstOffset, End: o.LastOffset}, nil
	}
	return replicator.Bounds{}, q.failed(fmt.Errorf("kafka: bounds of %s/%d: the broker left them out", log.Topic, log.Partition))
}

// Groups splits the logs by the broker that leads them, and leaves out those
// nobody leads.
func (q *Queue) Groups(ctx context.Context, logs []replicator.TopicPartition) ([][]replicator.TopicPartition, error) {
	leaders, err := q.leaders(ctx, logs)
	if err != nil {
		return nil, err
	}
	index := make(map[int]int)
	var groups [][]replicator.TopicPartition
	for i, l := range logs {
		if leaders[i] < 0 {
			continue
		}
		at, ok := index[leaders[i]]
		if !ok {
			at = len(groups)
			index[leaders[i]] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], l)
	}
	return groups, nil
}

// leaders returns the broker that leads each log, -1 for one nobody leads.
// It answers from the metadata that the transport keeps anyway.
func (q *Queue) leaders(ctx context.Context, logs []replicator.TopicPartition) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	topics := make([]string, 0, len(logs))
	seen := make(map[string]bool)
	for _, l := range logs {
		if !seen[l.Topic] {
			seen[l.Topic] = true
			topics = append(topics, l.Topic)
		}
	}
	res, err := q.client.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, q.failed(err)
	}
	leader := make(map[replicator.TopicPartition]int)
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			if p.Leader.Host != "" {
				leader[replicator.TopicPartition{Topic: t.Name, Partition: partition(p.ID)}] = p.Leader.ID
			}
		}
	}
	out := make([]int, len(logs))
	for i, l := range logs {
		if id, ok := leader[l]; ok {
			out[i] = id
		} else {
			out[i] = -1
		}
	}
	return out, nil
}

// Close breaks all connections. The library's goroutines end as they notice, and may
// be inflating an answer until then; so the inflater, which is memory only, stays.
func (q *Queue) Close() error {
	q.mu.Lock()
	q.closed = true
	conns := make([]net.Conn, 0, len(q.conns))
	for c := range q.conns {
		conns = append(conns, c)
	}
	q.mu.Unlock()
	q.cancel()
	q.transport.CloseIdleConnections()
	for _, c := range conns {
		_ = c.Close()
	}
	return nil
}

// failed translates an error, and forgets the cluster's layout and connections
// when they may be stale: the library would go on with them until its cache
// expires, which after a broker's restart is seconds for nothing.
func (q *Queue) failed(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, kafka.OffsetOutOfRange):
		return fmt.Errorf("kafka: %w", replicator.ErrOffsetOutOfRange)
	}
	q.transport.CloseIdleConnections()
	if errors.Is(err, kafka.BrokerNotAvailable) {
		if why := q.reason(); why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
	}
	switch {
	case errors.Is(err, kafka.UnknownTopicOrPartition), errors.Is(err, protocol.ErrNoTopic), errors.Is(err, protocol.ErrNoPartition):
		return fmt.Errorf("kafka: %w: %w", replicator.ErrNoTopic, err)
	case errors.Is(err, kafka.NotLeaderForPartition), errors.Is(err, kafka.LeaderNotAvailable), errors.Is(err, protocol.ErrNoLeader):
		return fmt.Errorf("kafka: %w: %w", replicator.ErrRegroup, err)
	}
	return fmt.Errorf("kafka: %w", err)
}

// dial keeps book of the connections, so that Close can break long polls that
// the library would wait out.
func (q *Queue) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 3 * time.Second}
	d.SetMultipathTCP(false)
	dial := d.DialContext
	if q.options.Dial != nil {
		dial = q.options.Dial
	}
	c, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	t := &tracked{Conn: c, queue: q}
	q.conns[t] = struct{}{}
	return t, nil
}

type tracked struct {
	net.Conn
	queue *Queue
}

func (t *tracked) Close() error {
	t.queue.mu.Lock()
	delete(t.queue.conns, t)
	t.queue.mu.Unlock()
	return t.Conn.Close()
}
