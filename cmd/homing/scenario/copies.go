package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/kafka"
)

// queued: the command crosses by sh's queue, whose sequences link up.
func (h *hello) queued(ctx context.Context) (string, error) {
	q, err := kafka.New(kafka.Options{Brokers: []string{h.at.Regions["sh"].Queue}, ClientID: "homing-scenario"})
	if err != nil {
		return "", err
	}
	defer func() { _ = q.Close() }()
	w := h.demo.View().World
	p := region.PartitionOf(h.alice.UIN, w.Partitions)
	var last uint64
	var read int
	found := false
	full := replicator.TopicPartition{Topic: journal.Topic("sh", journal.Full), Partition: p}
	// The shipper is at most a moment behind the commit.
	err = eventually(ctx, func(ctx context.Context) error {
		offset := int64(0)
		last, read, found = 0, 0, false
		for {
			got, err := q.Fetch(ctx, []replicator.FetchAt{{TopicPartition: full, Offset: offset, MaxBytes: 1 << 20}}, 200*time.Millisecond)
			if err != nil {
				return err
			}
			if len(got) != 1 || got[0].Err != nil {
				return fmt.Errorf("%s: %v", full.Topic, got)
			}
			if len(got[0].Messages) == 0 {
				break
			}
			for _, m := range got[0].Messages {
				offset = m.Offset + 1
				b, err := journal.Decode(m.Value)
				if err != nil {
					return err
				}
				if b.First() <= last {
					continue // shipped twice, which is allowed
				}
				if b.First() != last+1 {
					return fmt.Errorf("record %d follows %d in %s/%d", b.First(), last, full.Topic, p)
				}
				last = b.Last()
				for _, r := range b.Records {
					read++
					if r.Command != nil && r.Command.To == "hk" && r.Command.Target == h.bob.UIN {
						found = true
					}
				}
			}
		}
		if !found {
			return fmt.Errorf("the command for Bob is not in %s/%d", full.Topic, p)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s/%d: records 1 to %d, dense, %d read, the command for Bob among them", full.Topic, p, last, read), nil
}

// copies: hk's copy of sh, and every shared copy, is equal by digest.
func (h *hello) copies(ctx context.Context) (string, error) {
	w := h.demo.View().World
	compared := 0
	err := eventually(ctx, func(ctx context.Context) error {
		compared = 0
		for _, from := range w.Regions {
			for _, to := range w.Regions {
				if from.ID == to.ID {
					continue
				}
				full := len(from.Backups) > 0 && from.Backups[0] == to.ID
				n, err := equal(h.demo.Node(string(from.ID)).Store(), h.demo.Node(string(to.ID)).Store(), from.ID, full)
				if err != nil {
					return fmt.Errorf("%s -> %s: %w", from.ID, to.ID, err)
				}
				compared += n
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d digests of partitions compared, all equal", compared), nil
}

func equal(origin, replica store.Store, home region.ID, full bool) (int, error) {
	for p := range region.Partition(origin.Partitions()) {
		a, b := origin.Sums(p, home), replica.Sums(p, home)
		if a.SharedSum != b.SharedSum || a.SharedRows != b.SharedRows {
			return 0, fmt.Errorf("partition %d: %d shared rows here, %d there, or different ones", p, a.SharedRows, b.SharedRows)
		}
		if full && (a.OwnSum != b.OwnSum || a.OwnRows != b.OwnRows) {
			return 0, fmt.Errorf("partition %d: %d own rows here, %d there, or different ones", p, a.OwnRows, b.OwnRows)
		}
	}
	return origin.Partitions(), nil
}
