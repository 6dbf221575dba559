// Package embedded is a Kafka broker inside the process, for worlds that have
// none: kfake over a directory of its own.
//
// It guarantees one process per directory (a lock), an advertised address equal
// to the one it listens on, and that a malformed request costs its sender the
// connection and nobody else anything. It guarantees nothing about what it
// stores: writes are not synced, and a crash may take the log's end, middle or
// all of it. The journal is the truth and the replicator heals the rest.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Options are what a Broker needs.
type Options struct {
	// Listen is host:port. It is also what the broker advertises, so the host
	// must be one that clients can connect to; port 0 takes a free one.
	Listen string
	// Dir holds the logs; it is made when missing, and locked.
	Dir string
	// Topics are made when missing, each with Partitions partitions. Few is
	// fast: one goroutine serves them all.
	Topics     []string
	Partitions int
	// RetainEvery is how often what is older or more than is kept is removed;
	// 0 is a minute.
	RetainEvery time.Duration
	Logger      *slog.Logger
}

// settings of the broker. Messages are as large as the journal's largest batch
// and its surroundings; old ones may go, because the journal answers for them.
var settings = map[string]string{
	"message.max.bytes":   "4194304",
	"log.retention.ms":    "86400000",
	"log.retention.bytes": "268435456", // of a partition
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	guard   *guard
	addr    string
	lock    *lock
	stop    context.CancelFunc
	group   sync.WaitGroup
	once    sync.Once
}

// Start opens the directory and listens. It returns when clients can connect.
// Errors: another process has the directory, the port is taken, the directory
// cannot be read.
func Start(o Options) (*Broker, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("queue listen address %q: %w", o.Listen, err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		return nil, fmt.Errorf("queue listen address %q: want a host that clients can connect to, because the broker advertises it", o.Listen)
	}
	if o.Dir == "" || o.Partitions < 1 {
		return nil, errors.New("the embedded queue needs a directory and a number of partitions")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	l, err := acquire(filepath.Join(o.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("queue directory %s: %w", o.Dir, err)
	}
	b := &Broker{lock: l}
	if err := b.start(o); err != nil {
		l.release()
		return nil, err
	}
	if o.RetainEvery == 0 {
		o.RetainEvery = time.Minute
	}
	var ctx context.Context
	ctx, b.stop = context.WithCancel(context.Background())
	b.group.Go(func() { b.retain(ctx, o.RetainEvery) })
	return b, nil
}

// retain removes what need not be kept. kfake does it by itself only for topics
// with settings of their own, and those once an hour.
func (b *Broker) retain(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			b.cluster.ApplyRetention()
		case <-ctx.Done():
			return
		}
	}
}

func (b *Broker) start(o Options) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	listener, err := lc.Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	b.addr = listener.Addr().String()
	b.guard = &guard{Listener: listener, logger: o.Logger}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ClusterID("homing"),
		kfake.DataDir(filepath.Join(o.Dir, "logs")),
		kfake.DefaultNumPartitions(o.Partitions),
		kfake.SeedTopics(int32(o.Partitions), o.Topics...),
		kfake.BrokerConfigs(settings),
		kfake.WithLogger(logger{o.Logger}),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return b.guard, nil }),
	)
	if err != nil {
		_ = listener.Close()
		return fmt.Errorf("queue directory %s: %w (the journal has everything: the directory may be removed)", o.Dir, err)
	}
	b.cluster = cluster
	for _, t := range o.Topics { // a directory from before the world knew them
		if err := cluster.CreateTopic(t, int32(o.Partitions), nil); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			cluster.Close()
			return fmt.Errorf("queue topic %s: %w", t, err)
		}
	}
	return nil
}

// Addr returns host:port of the listener.
func (b *Broker) Addr() string { return b.addr }

// Cut ends the connections of whoever reads, and refuses them until it is called
// with false: to them it is as if the line to the broker was cut. Writing goes on.
func (b *Broker) Cut(on bool) { b.guard.cut.set(on) }

// Close stops the broker, writes its indexes and unlocks the directory.
func (b *Broker) Close() error {
	b.once.Do(func() {
		b.stop()
		b.group.Wait()
		b.cluster.Close()
		b.lock.release()
	})
	return nil
}

// logger passes the broker's own log on; its requests are debugging detail.
type logger struct{ to *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	at := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		at = slog.LevelError
	case kfake.LogLevelWarn:
		at = slog.LevelWarn
	}
	if l.to.Enabled(context.Background(), at) {
		l.to.Log(context.Background(), at, "queue broker", "what", fmt.Sprintf(format, args...))
	}
}
