package core

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
)

// tail returns what a region wrote for an owner behind a position.
func (u *universe) tail(id region.ID, owner region.UIN, behind uint64) []*journal.Batch {
	u.t.Helper()
	all, err := u.sites[id].store.Journal(ctx, region.PartitionOf(owner, partitions), journal.Full, behind+1, 1<<24)
	must(u.t, err)
	var mine []*journal.Batch
	for _, b := range all {
		if b.Owner == owner {
			mine = append(mine, b)
		}
	}
	return mine
}

// failOver cuts a region off, lets it write on, and has its backup take over. It
// returns what only the old one has of an owner.
func (u *universe) failOver(from, to region.ID, who *user, writes func()) []*journal.Batch {
	u.t.Helper()
	u.eventually("all is quiet", func() error { return u.caughtUp() })
	u.stop() // nothing leaves any region from here on
	u.relay.Wait()
	behind := u.sites[from].store.Head(region.PartitionOf(who.UIN, partitions)).Next - 1
	writes()
	tail := u.tail(from, who.UIN, behind)
	u.setWorld(testWorld(2, map[region.ID]region.ID{from: to}, from, to))
	who.region = to
	return tail
}

// An account that was erased here stays erased, whatever a tail brings of it; that
// its batches were seen is remembered, not what was in them.
func TestTailOfAnErasedAccount(t *testing.T) {
	u := newUniverseWith(t, inMemory, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice := u.register("sh", "Alice")
	u.send(alice, alice.UIN, "1", "note")
	tail := u.failOver("sh", "hk", alice, func() {
		u.send(alice, alice.UIN, "2", "PLAINTEXT")
		_, err := u.core("sh").SetSetting(ctx, alice.Caller, &v1.SetSettingRequest{Setting: &v1.Setting{Name: "x", Value: "PLAINTEXT"}, IdempotencyKey: "s"})
		must(t, err)
		_, err = u.core("sh").UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{Nickname: "PLAINTEXT", IdempotencyKey: "p"})
		must(t, err)
	})
	if len(tail) < 3 {
		t.Fatalf("a tail of %d batches", len(tail))
	}
	must(t, u.erase(alice, false))
	u.eventually("no row is left", func() error { return u.wiped("hk", alice) })
	for range 2 {
		_, err := u.core("hk").Merge(ctx, tail)
		must(t, err)
	}
	if where := u.sites["hk"].holds(t, "PLAINTEXT", alice.UIN, nobody); len(where) > 0 {
		t.Errorf("it came back: %v", where)
	}
	if conflicts, err := u.core("hk").Conflicts(ctx, true); err != nil || len(conflicts) > 0 {
		t.Errorf("%v, %v", conflicts, err)
	}
}

// An erasure that only a tail knows of holds, though the account was changed here
// since: it cannot be taken back.
func TestErasureInATail(t *testing.T) {
	u := newUniverseWith(t, inMemory, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice := u.register("sh", "Alice")
	u.send(alice, alice.UIN, "1", "note")
	tail := u.failOver("sh", "hk", alice, func() { must(t, u.erase(alice, false)) })
	_, err := u.core("hk").UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{About: proto.String("still here"), IdempotencyKey: "p"})
	must(t, err)
	outcomes, err := u.core("hk").Merge(ctx, tail)
	must(t, err)
	if len(outcomes) == 0 || outcomes[0] != TailApplied {
		t.Error(fmt.Sprint(outcomes))
	}
	u.eventually("no row is left", func() error { return u.wiped("hk", alice) })
}
