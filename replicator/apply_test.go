package replicator

import (
	"context"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// turned is a replica of region sh with a turn of its home.
type turned struct {
	Replica
	turn    store.Turn
	applied []int // batches, by call
}

func (r *turned) Turns(region.Partition) map[region.ID]store.Turn {
	return map[region.ID]store.Turn{"sh": r.turn}
}

func (r *turned) Apply(_ context.Context, _ journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	r.applied = append(r.applied, len(batches))
	return store.Applied{Position: journal.Position{Seq: batches[len(batches)-1].Last()}}, nil
}

// What another region writes for a home at a term that this one has not ended its
// own for waits, and so does all behind it; what comes before it does not.
func TestEarlyWaits(t *testing.T) {
	replica, world := &turned{}, region.Term{Counter: 2}
	a := applier{spot: spot{origin: "hk", stream: journal.Full}, self: "sh", replica: replica, metrics: newMetrics(),
		acts: func(region.ID) (bool, region.Term) { return false, world }, did: func(int, *store.Applied) {}}
	run := history(4)
	for i, b := range run {
		b.Owner, b.Home = region.UIN(i+1), "hk"
	}
	run[2].Home, run[2].Epoch.Term.Counter = "sh", 2
	a.add(run)
	for range 2 { // trying again is no progress
		if err := a.apply(t.Context()); region.KindOf(err) != region.Unavailable || len(a.pending) != 2 {
			t.Fatalf("with a batch of a newer term: %v, %d wait", err, len(a.pending))
		}
	}
	replica.turn.Handed.Counter = 2
	if err := a.apply(t.Context()); err != nil || len(a.pending) != 0 {
		t.Fatalf("behind the end of this region's term: %v, %d wait", err, len(a.pending))
	}
	if len(replica.applied) != 2 || replica.applied[0] != 2 || replica.applied[1] != 2 {
		t.Errorf("applied %v batches, want 2 and then 2", replica.applied)
	}
}

// What a region wrote before this one took the home over waits while the world in
// which it did has lost a fork: it is not yet known who merges it.
func TestContestedWaits(t *testing.T) {
	replica, world, left := &turned{turn: store.Turn{Opened: region.Term{Counter: 2}}}, region.Term{Counter: 1}, 0
	a := applier{spot: spot{origin: "hk", stream: journal.Full}, self: "sh", replica: replica, metrics: newMetrics(), left: func() { left++ },
		acts: func(region.ID) (bool, region.Term) { return false, world }, did: func(int, *store.Applied) {}}
	run := history(3)
	run[0].Owner, run[1].Epoch.Term.Counter, run[2].Epoch.Term.Counter = 0, 1, 1
	a.add(run)
	if err := a.apply(t.Context()); region.KindOf(err) != region.Unavailable || len(a.pending) != 2 || left > 0 {
		t.Fatalf("the fork is not resolved: %v, %d wait, left %d times", err, len(a.pending), left)
	}
	world.Counter = 3 // which names another one
	if err := a.apply(t.Context()); err != nil || len(a.pending) != 0 || left != 1 {
		t.Fatalf("it is: %v, %d wait, left %d times", err, len(a.pending), left)
	}
}
