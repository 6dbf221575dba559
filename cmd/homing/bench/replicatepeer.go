package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	servers "github.com/homing-im/homing/deploy/test/child"
	"github.com/homing-im/homing/deploy/test/kafkatest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/kafka"
)

// mirrorPatience bounds MirrorMaker's start, and how long it may take over the
// copying.
const mirrorPatience = 5 * time.Minute

// clockTick is what /proc counts processor time in.
const clockTick = 10 * time.Millisecond

// mirror has MirrorMaker 2 copy the same messages on the same brokers, to topics of
// its own. Its processor time counts from the moment a tenth is copied: the start of
// its machine, and making topics, are its own affair.
func mirror(ctx context.Context, b *brokers, r *replicateRun) (_ *Speed, err error) {
	classpath, err := kafkatest.Classpath()
	if err != nil {
		return nil, err
	}
	topic := journal.Topic("sh", journal.Full)
	settings := filepath.Join(b.cluster.Dir, "mm2.properties")
	text := fmt.Sprintf(`clusters = a, b
a.bootstrap.servers = %[1]s
b.bootstrap.servers = %[1]s
a->b.enabled = true
a->b.topics = %[2]s
b->a.enabled = false
tasks.max = 2
replication.factor = 1
checkpoints.topic.replication.factor = 1
heartbeats.topic.replication.factor = 1
offset-syncs.topic.replication.factor = 1
offset.storage.replication.factor = 1
status.storage.replication.factor = 1
config.storage.replication.factor = 1
emit.heartbeats.enabled = false
emit.checkpoints.enabled = false
sync.topic.configs.enabled = false
sync.topic.acls.enabled = false
refresh.groups.enabled = false
refresh.topics.interval.seconds = 5
a.consumer.auto.offset.reset = earliest
b.producer.compression.type = %[3]s
`, b.address, topic, map[bool]string{false: "none", true: "zstd"}[r.worlds.zstd])
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log := filepath.Join(b.cluster.Dir, "mm2.log")
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	cmd := exec.CommandContext(ctx, "java", "-Xmx512m", "-cp", classpath, "org.apache.kafka.connect.mirror.MirrorMaker", settings)
	cmd.Stdout, cmd.Stderr = out, out
	exited, err := servers.Start(cmd)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		<-exited
	}()
	q, err := kafka.New(kafka.Options{Brokers: []string{b.address}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, mirrorPatience)
	defer cancel()

	total := int64(0)
	for p := range region.Partition(r.Partitions) {
		bounds, err := q.Bounds(ctx, replicator.TopicPartition{Topic: topic, Partition: p})
		if err != nil {
			return nil, err
		}
		total += bounds.End
	}
	copied := func() (n int64) {
		for p := range region.Partition(r.Partitions) {
			bounds, err := q.Bounds(ctx, replicator.TopicPartition{Topic: "a." + topic, Partition: p})
			if err == nil { // it is made when MirrorMaker gets to it
				n += bounds.End
			}
		}
		return n
	}
	var before, after used
	var from int64
	for {
		n, cpu := copied(), processorTime(cmd.Process.Pid)
		now := used{at: time.Now(), cpu: cpu}
		if from == 0 && n >= max(total/10, 1) {
			from, before = n, now
		}
		if n >= total {
			after = now
			break
		}
		select {
		case <-exited:
			said, _ := os.ReadFile(log)
			return nil, fmt.Errorf("it ended: %s", said[max(0, len(said)-2000):])
		case <-ctx.Done():
			said, _ := os.ReadFile(log)
			return nil, fmt.Errorf("%d of %d messages copied: %w: %s", n, total, ctx.Err(), said[max(0, len(said)-2000):])
		case <-time.After(20 * time.Millisecond):
		}
	}
	if from >= total {
		return nil, fmt.Errorf("all %d messages were copied between two looks", total)
	}
	s := speed(before, after, uint64(total-from), r.bench.Batch)
	return &s, nil
}

// processorTime is what a process has used, of Linux.
func processorTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick
}
