package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/embedded"
	"github.com/homing-im/homing/replicator/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func broker(t *testing.T, topics ...string) *embedded.Broker {
	t.Helper()
	b, err := embedded.Start(embedded.Options{Listen: "127.0.0.1:0", Dir: t.TempDir(), Topics: topics, Partitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func queue(t *testing.T, addr string) *kafka.Queue {
	t.Helper()
	q, err := kafka.New(kafka.Options{Brokers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

func log(topic string, p int) replicator.TopicPartition {
	return replicator.TopicPartition{Topic: topic, Partition: region.Partition(p)}
}

func run(topic string, p, first, n int) replicator.Run {
	r := replicator.Run{TopicPartition: log(topic, p)}
	for i := range n {
		r.Messages = append(r.Messages, replicator.Message{Key: fmt.Append(nil, first+i), Value: fmt.Append(nil, "value ", first+i)})
	}
	return r
}

func TestProduceThenFetchManyLogsAtOnce(t *testing.T) {
	b := broker(t, "a", "b")
	q := queue(t, b.Addr())
	ctx := context.Background()
	base, err := q.Produce(ctx, []replicator.Run{run("a", 0, 1, 3), run("a", 3, 1, 1), run("b", 0, 1, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(base) != "[0 0 0]" {
		t.Fatalf("base offsets %v", base)
	}
	base, err = q.Produce(ctx, []replicator.Run{run("a", 0, 4, 2)})
	if err != nil || base[0] != 3 {
		t.Fatalf("second run begins at %v, %v", base, err)
	}
	groups, err := q.Groups(ctx, []replicator.TopicPartition{log("a", 0), log("a", 3), log("b", 0), log("missing", 0)})
	if err != nil || len(groups) != 1 || len(groups[0]) != 3 {
		t.Fatalf("groups %v, %v", groups, err)
	}
	got, err := q.Fetch(ctx, []replicator.FetchAt{
		{TopicPartition: log("a", 0), Offset: 1, MaxBytes: 1 << 20},
		{TopicPartition: log("a", 3), Offset: 0, MaxBytes: 1 << 20},
		{TopicPartition: log("b", 0), Offset: 2, MaxBytes: 1 << 20},
	}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[replicator.TopicPartition]string{}
	for _, f := range got {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		for _, m := range f.Messages {
			seen[f.TopicPartition] += fmt.Sprintf("%d:%s=%s ", m.Offset, m.Key, m.Value)
		}
	}
	if want := "1:2=value 2 2:3=value 3 3:4=value 4 4:5=value 5 "; seen[log("a", 0)] != want {
		t.Errorf("a/0 has %q, want %q", seen[log("a", 0)], want)
	}
	if seen[log("a", 3)] != "0:1=value 1 " || seen[log("b", 0)] != "" {
		t.Errorf("others have %v", seen)
	}
	bounds, err := q.Bounds(ctx, log("a", 0))
	if err != nil || bounds != (replicator.Bounds{Start: 0, End: 5}) {
		t.Errorf("bounds %v, %v", bounds, err)
	}
}

func TestLongPollWakesAtOnce(t *testing.T) {
	b := broker(t, "a")
	reader, writer := queue(t, b.Addr()), queue(t, b.Addr())
	ctx := context.Background()
	if _, err := writer.Produce(ctx, []replicator.Run{run("a", 1, 1, 1)}); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		fetched []replicator.Fetched
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		var at []replicator.FetchAt
		for p := range 4 {
			at = append(at, replicator.FetchAt{TopicPartition: log("a", p), Offset: int64(p & 1), MaxBytes: 1 << 20})
		}
		at = at[:3] // partition 3 is empty: offset 1 would be out of range
		f, err := reader.Fetch(ctx, at, 30*time.Second)
		answers <- answer{f, err}
	}()
	select {
	case a := <-answers:
		t.Fatalf("the fetch did not wait: %+v", a)
	case <-time.After(100 * time.Millisecond): // time for the poll to arrive; too short only weakens the test
	}
	start := time.Now()
	if _, err := writer.Produce(ctx, []replicator.Run{run("a", 2, 7, 1)}); err != nil {
		t.Fatal(err)
	}
	a := <-answers
	if a.err != nil {
		t.Fatal(a.err)
	}
	t.Logf("woken after %v", time.Since(start))
	n := 0
	for _, f := range a.fetched {
		n += len(f.Messages)
	}
	if n != 1 || time.Since(start) > 5*time.Second {
		t.Errorf("%d messages after %v", n, time.Since(start))
	}
}

func TestErrorsOfLogsAreTheirOwn(t *testing.T) {
	b := broker(t, "a")
	q := queue(t, b.Addr())
	ctx := context.Background()
	if _, err := q.Produce(ctx, []replicator.Run{run("a", 0, 1, 1)}); err != nil {
		t.Fatal(err)
	}
	got, err := q.Fetch(ctx, []replicator.FetchAt{
		{TopicPartition: log("a", 0), Offset: 0, MaxBytes: 1 << 20},
		{TopicPartition: log("a", 1), Offset: 99, MaxBytes: 1 << 20},
	}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range got {
		switch f.Partition {
		case 0:
			if f.Err != nil || len(f.Messages) != 1 {
				t.Errorf("a/0: %+v", f)
			}
		case 1:
			if !errors.Is(f.Err, replicator.ErrOffsetOutOfRange) {
				t.Errorf("a/1: %v", f.Err)
			}
		}
	}
	if _, err := q.Fetch(ctx, []replicator.FetchAt{{TopicPartition: log("missing", 0), MaxBytes: 1}}, time.Second); !errors.Is(err, replicator.ErrNoTopic) {
		t.Errorf("fetch of a missing topic: %v", err)
	}
	if _, err := q.Produce(ctx, []replicator.Run{run("missing", 0, 1, 1)}); !errors.Is(err, replicator.ErrNoTopic) {
		t.Errorf("produce to a missing topic: %v", err)
	}
	if err := q.MakeTopics(ctx, 4, "a", "missing"); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Produce(ctx, []replicator.Run{run("missing", 3, 1, 1)}); err != nil {
		t.Errorf("produce to the topic made: %v", err)
	}
}

func TestLargestMessage(t *testing.T) {
	b := broker(t, "a")
	q := queue(t, b.Addr())
	ctx := context.Background()
	value := make([]byte, 2<<20)
	if _, err := q.Produce(ctx, []replicator.Run{{TopicPartition: log("a", 0), Messages: []replicator.Message{{Key: []byte("k"), Value: value}}}}); err != nil {
		t.Fatal(err)
	}
	got, err := q.Fetch(ctx, []replicator.FetchAt{{TopicPartition: log("a", 0), MaxBytes: 1}}, time.Second)
	if err != nil || len(got) != 1 || len(got[0].Messages) != 1 || len(got[0].Messages[0].Value) != len(value) {
		t.Fatalf("fetched %d logs, %v", len(got), err)
	}
}

func TestSurvivesARestartOfTheBroker(t *testing.T) {
	dir := t.TempDir()
	start := func(listen string) *embedded.Broker {
		b, err := embedded.Start(embedded.Options{Listen: listen, Dir: dir, Topics: []string{"a"}, Partitions: 4})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := start("127.0.0.1:0")
	q := queue(t, b.Addr())
	ctx := context.Background()
	if _, err := q.Produce(ctx, []replicator.Run{run("a", 0, 1, 1)}); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	if _, err := q.Produce(ctx, []replicator.Run{run("a", 0, 2, 1)}); err == nil {
		t.Fatal("produced to a broker that is gone")
	}
	b = start(b.Addr())
	defer b.Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		base, err := q.Produce(ctx, []replicator.Run{run("a", 0, 2, 1)})
		if err == nil {
			if base[0] != 1 {
				t.Errorf("the log came back with %d messages, want 1", base[0])
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // poll until the condition holds
	}
}

// TestCallsAfterCloseLeakNothing: a reader may be in the middle of a retry when
// its queue is closed. The leak check of TestMain looks at what is left.
func TestCallsAfterCloseLeakNothing(t *testing.T) {
	b := broker(t, "a")
	q := queue(t, b.Addr())
	_ = q.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := q.Fetch(ctx, []replicator.FetchAt{{TopicPartition: log("a", 0), MaxBytes: 1}}, time.Second); err == nil {
		t.Error("fetched from a closed queue")
	}
	if _, err := q.Produce(ctx, []replicator.Run{run("a", 0, 1, 1)}); err == nil {
		t.Error("produced to a closed queue")
	}
}
