package replicator_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/kafka"
)

// TestPoisonedQueue writes into a region's queue what the region did not, while it
// is written to. Each is rejected with its reason, and shown; replicas become equal,
// nothing halts, and no command runs twice or not at all.
func TestPoisonedQueue(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	w.start()
	n := 0
	traffic := func(k int) {
		for range k {
			for _, r := range w.regions {
				r.write(n)
			}
			n++
		}
	}
	traffic(40)
	w.settle()
	sh, hk := w.regions["sh"], w.regions["hk"]
	q, err := kafka.New(kafka.Options{Brokers: []string{sh.queue}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	log := replicator.TopicPartition{Topic: journal.Topic("sh", journal.Full), Partition: 0}
	// as makes a message of the newest batch, changed, behind it.
	as := func(change func(*journal.Batch)) replicator.Message {
		batches, err := sh.store.Journal(context.Background(), 0, journal.Full, 1, 1<<20)
		if err != nil || len(batches) == 0 {
			t.Fatalf("%d batches, %v", len(batches), err)
		}
		last := batches[len(batches)-1]
		b := *last
		b.Records = append([]journal.Record(nil), last.Records...)
		for i := range b.Records {
			b.Records[i].Seq += uint64(len(b.Records))
		}
		b.Links = append([]journal.Link(nil), last.Links...)
		b.Links[0].Prev = last.Last()
		change(&b)
		return replicator.Message{Key: journal.QueueKey(&b), Value: journal.Encode(&b)}
	}
	produce := func(m replicator.Message) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := q.Produce(ctx, []replicator.Run{{TopicPartition: log, Messages: []replicator.Message{m}}}); err != nil {
			t.Fatal(err)
		}
	}
	good := as(func(*journal.Batch) {})
	newer := bytes.Clone(good.Value)
	newer[0] = journal.Format + 1
	poison := []struct {
		name, reason string
		m            func() replicator.Message
	}{
		{"newer format", "format", func() replicator.Message { return replicator.Message{Key: good.Key, Value: newer} }},
		{"unknown region", "xx", func() replicator.Message { return as(func(b *journal.Batch) { b.Origin = "xx" }) }},
		{"another region", "hk", func() replicator.Message { return as(func(b *journal.Batch) { b.Origin = "hk" }) }},
		{"another partition", "sh/1", func() replicator.Message { return as(func(b *journal.Batch) { b.Partition = 1 }) }},
		{"oversized", "bytes, the limit is", func() replicator.Message {
			return replicator.Message{Key: good.Key, Value: make([]byte, journal.MaxEncoded+1)}
		}},
		{"bad checksum", "do not follow", func() replicator.Message { return as(func(b *journal.Batch) { b.Links[0].Chain[3] ^= 1 }) }},
		{"a key that lies", "key", func() replicator.Message {
			return replicator.Message{Key: []byte("1-999999"), Value: good.Value}
		}},
		{"nothing", "is empty", func() replicator.Message { return replicator.Message{} }},
	}
	for _, p := range poison {
		var produced time.Time
		eventually(t, func() error {
			err := rejected(hk, p.reason)
			// What has to lie behind the newest record is made again when that is
			// no longer the newest: watermarks are written in between.
			if err != nil && time.Since(produced) > 2*time.Second {
				produce(p.m())
				produced = time.Now()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	traffic(40)
	w.settle()
	w.executedOnce(n)
	if shown := hk.Replay().Rejected(); len(shown) != len(poison) {
		t.Errorf("%d messages are shown, %d were bad", len(shown), len(poison))
	}
	if l := hk.lagOf("sh", 0); l.State != replicator.StateLive {
		t.Errorf("the partition is %s %s", l.State, l.Reason)
	}
	// What is remembered is bounded, and it is the newest.
	for i := range 30 {
		produce(replicator.Message{Key: fmt.Append(nil, "bad-", i), Value: []byte("x")})
	}
	eventually(t, func() error {
		list := hk.Replay().Rejected()
		if len(list) == 0 || string(list[len(list)-1].Key) != "bad-29" || time.Since(list[len(list)-1].At) > patience {
			return fmt.Errorf("%d are shown", len(list))
		}
		if len(list) > 8 {
			t.Fatalf("%d are remembered", len(list))
		}
		return nil
	})
}

// rejected says whether a region shows a rejected message with that reason.
func rejected(r *testRegion, reason string) error {
	for _, m := range r.Replay().Rejected() {
		if m.Origin == "sh" && m.Stream == journal.Full && m.Partition == region.Partition(0) && m.Reason != "" && strings.Contains(m.Reason, reason) {
			return nil
		}
	}
	return fmt.Errorf("not among %d rejected", len(r.Replay().Rejected()))
}
