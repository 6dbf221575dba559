//go:build unix

package replicator_test

import (
	"fmt"
	"path/filepath"
	"testing"

	testchild "github.com/homing-im/homing/deploy/test/child"
	"github.com/homing-im/homing/replicator"
)

// queueGroups has a first queue group killed, and wants the second to carry on:
// without the origins' journals, so that order is restored over both. Then the
// first comes back and is preferred again, and the second may go.
func queueGroups(t *testing.T, first brokers, killFirst func()) {
	second := &child{address: testchild.Address(), dir: filepath.Join(t.TempDir(), "queue")}
	t.Cleanup(func() { second.kill(0) })
	for _, b := range []brokers{first, second} {
		if err := b.start(); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorldOn(t, first.replication(), func() string { return first.addresses() + ";" + second.address }, "sh", "hk")
	w.spare = second.address
	(&disaster{testWorld: w, brokers: first, admin: admin(t, first)}).wipe() // what the world before left
	w.hurry = true
	w.onDisk()
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
	journals := func(up bool) {
		for _, r := range w.regions {
			r.down.set(!up)
		}
	}
	// in waits until everything is shipped, and every partition that ships does
	// so to a group.
	in := func(group int) {
		t.Helper()
		eventually(t, func() error {
			moved := 0
			for _, r := range w.regions {
				for _, s := range r.Shipper().Status() {
					if s.Shipped != s.Head || s.Error != "" {
						return fmt.Errorf("%s/%d shipped %d of %d in group %d: %s", r.id, s.Partition, s.Shipped, s.Head, s.Group, s.Error)
					}
					if s.Group == group {
						moved++
					}
				}
			}
			if moved < 2*partitions {
				return fmt.Errorf("%d partitions ship to group %d", moved, group)
			}
			return nil
		})
	}
	traffic(40)
	w.settle()
	in(0)

	journals(false)
	traffic(20)
	killFirst()
	traffic(40)
	in(1)
	if first.durable() {
		w.settle() // what only the dead group has comes again by the second
	}
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	// The first group is tried when something is shipped after a while.
	eventually(t, func() error {
		traffic(1)
		for _, r := range w.regions {
			for _, s := range r.Shipper().Status() {
				if s.Group != 0 {
					return fmt.Errorf("%s/%d ships to group %d", r.id, s.Partition, s.Group)
				}
			}
		}
		return nil
	})
	second.kill(0)
	traffic(20)
	in(0)
	journals(true)
	w.settle()
	w.executedOnce(n)
	for _, r := range w.regions {
		for _, l := range r.Lag() {
			if l.State == replicator.StateDiverged || l.Quarantined > 0 {
				t.Errorf("%s of %s at %s: %s, %d quarantined", l.Stream, l.Origin, r.id, l.State, l.Quarantined)
			}
		}
	}
}

// TestQueueGroups has two embedded brokers in processes of their own.
func TestQueueGroups(t *testing.T) {
	first := &child{address: testchild.Address(), dir: filepath.Join(t.TempDir(), "queue")}
	t.Cleanup(func() { first.kill(0) })
	queueGroups(t, first, func() { first.kill(0) })
}

// TestApacheKafkaQueueGroups has three brokers of Apache Kafka, of which one is
// left, and an embedded broker for that day.
func TestApacheKafkaQueueGroups(t *testing.T) {
	c := needApache(t)
	queueGroups(t, c, func() {
		c.kill(0)
		c.kill(1)
	})
}
