package core

import (
	"fmt"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// Sync tells how much of what a client sent the backup holds: never more than
// it does, all of it soon, and nothing of what was cut off.
func TestHeldByTheBackup(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	held := func(m *v1.Mark) error {
		r, err := u.core("sh").Sync(ctx, alice.Caller, &v1.SyncRequest{MaxBytes: 1})
		if err == nil && (r.Held.GetIncarnation() != m.Incarnation || r.Held.GetSequence() < m.Sequence) {
			err = fmt.Errorf("held %v, sent at %v", r.Held, m)
		}
		return err
	}
	first := u.send(alice, bob.UIN, "1", "one")
	if first.Mark.GetIncarnation() == 0 || first.Mark.GetSequence() == 0 {
		t.Fatalf("no mark: %v", first)
	}
	u.eventually("hk has it", func() error { return held(first.Mark) })
	if n, err := u.sites["hk"].store.Position(ctx, "sh", "full", region.PartitionOf(alice.UIN, partitions)); err != nil || n.Seq < first.Mark.Sequence {
		t.Errorf("held at %v, and the backup is at %d, %v", first.Mark, n.Seq, err)
	}

	u.cut.Store(region.ID("sh"), true)
	second := u.send(alice, bob.UIN, "2", "two")
	if second.Mark.Sequence <= first.Mark.Sequence {
		t.Errorf("marks %v, %v", first.Mark, second.Mark)
	}
	if err := held(second.Mark); err == nil {
		t.Error("held, though the backup is cut off")
	}
	// A repeat is told a mark that covers the first try.
	if again := u.send(alice, bob.UIN, "2", "two"); !again.Repeated || again.Mark.Sequence < second.Mark.Sequence {
		t.Errorf("%v after %v", again, second)
	}
	r, err := u.core("hk").Sync(ctx, bob.Caller, &v1.SyncRequest{MaxBytes: 1})
	if err != nil || r.Held != nil {
		t.Errorf("a region that does not know its backup says %v, %v", r.GetHeld(), err)
	}
}
