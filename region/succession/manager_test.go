package succession_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/storetest"
	"github.com/homing-im/homing/region/succession"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 4

// world is what the managers of a test follow.
type world struct {
	mu      sync.Mutex
	view    *region.View
	change  region.Change
	changed chan struct{}
}

func (w *world) set(ch region.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view = region.NewView(&region.World{Version: ch.Term.Counter, Regions: []region.Region{{ID: "sh"}}}, region.Hash{}, nil)
	w.change = ch
	if w.changed != nil {
		close(w.changed)
	}
	w.changed = make(chan struct{})
}

func (w *world) manager(t *testing.T, s store.Store) *succession.Manager {
	t.Helper()
	m, err := succession.New(succession.Options{Self: s.Region(), Store: s,
		View:    func() *region.View { w.mu.Lock(); defer w.mu.Unlock(); return w.view },
		Changed: func() <-chan struct{} { w.mu.Lock(); defer w.mu.Unlock(); return w.changed },
		Change:  func(region.ID) (region.Change, bool) { w.mu.Lock(); defer w.mu.Unlock(); return w.change, true }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	until := time.Now().Add(20 * time.Second)
	for !f() {
		if time.Now().After(until) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func copyAll(t *testing.T, from, to store.Store) {
	t.Helper()
	ctx := context.Background()
	for p := range region.Partition(partitions) {
		at, err := to.Position(ctx, from.Region(), journal.Full, p)
		if err != nil {
			t.Fatal(err)
		}
		batches, err := from.Journal(ctx, p, journal.Full, at.Seq+1, 1<<20)
		if err != nil || len(batches) == 0 {
			continue
		}
		if _, err := to.Apply(ctx, journal.Full, batches); err != nil {
			t.Fatal(err)
		}
	}
}

func term(n uint64) region.Term { return region.Term{Counter: n, Raised: region.ShortHash{byte(n)}} }

func fence(t *testing.T, n uint64, stores ...store.Store) {
	t.Helper()
	for _, s := range stores {
		if err := s.Fence(context.Background(), "sh", term(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSwitchAndReturn plays a planned change, a forced one, and the return, over
// stores: who admits, and what the reports say.
func TestSwitchAndReturn(t *testing.T) {
	now := func() time.Time { return time.UnixMilli(1_700_000_000_000) }
	sh := storetest.NewMemory(storetest.Config{Region: "sh", Partitions: partitions, Now: now})
	hk := storetest.NewMemory(storetest.Config{Region: "hk", Partitions: partitions, Now: now})
	w := &world{}
	w.set(region.Change{Home: "sh", Acting: "sh", Term: term(1)})
	a, b := w.manager(t, sh), w.manager(t, hk)
	admits := func(m *succession.Manager, n uint64) bool {
		for p := range region.Partition(partitions) {
			if m.Admit("sh", term(n), p) != nil {
				return false
			}
		}
		return true
	}
	if !admits(a, 1) {
		t.Fatal("the home does not admit in the beginning")
	}
	of := func(m *succession.Manager) succession.HomeReport {
		for _, h := range m.Report().Homes {
			return h
		}
		return succession.HomeReport{}
	}

	// Planned: hk takes over only behind sh's ends.
	fence(t, 2, sh, hk)
	w.set(region.Change{Home: "sh", Before: "sh", Acting: "hk", Term: term(2)})
	eventually(t, "sh ends its term", func() bool { return of(a).Handed == partitions })
	if admits(b, 2) {
		t.Fatal("hk admits without sh's ends")
	}
	copyAll(t, sh, hk)
	eventually(t, "hk takes over", func() bool { return admits(b, 2) })
	if r := of(b); !r.Complete() || r.Ended != partitions || r.Opened != partitions {
		t.Errorf("report after a planned change: %+v", r)
	}

	// Forced back: sh takes over with what it has, hk's tail is an open range.
	copyAll(t, hk, sh)
	ctx := context.Background()
	var u region.UIN = 7
	p := region.PartitionOf(u, partitions)
	if _, err := hk.Commit(ctx, &store.Batch{Owner: u, Home: "sh", Epoch: region.Epoch{Term: term(2)}, Writes: []store.Write{{Table: 1, Row: []byte("a"), Value: []byte("tail")}}}); err != nil {
		t.Fatal(err)
	}
	fence(t, 3, sh)
	forced := region.Change{Home: "sh", Before: "hk", Acting: "sh", Term: term(3), Forced: true}
	hkWorld := &world{}
	hkWorld.set(region.Change{Home: "sh", Before: "sh", Acting: "hk", Term: term(2)})
	_ = b.Close()
	b = hkWorld.manager(t, hk) // cut off: it does not hear
	w.set(forced)
	eventually(t, "sh takes over", func() bool { return admits(a, 3) })
	if r := of(a); len(r.Open) != partitions || r.Open[p].After == 0 || r.Open[p].Origin != "hk" {
		t.Errorf("report after a forced change: %+v", r)
	}
	if !admits(b, 2) {
		t.Error("hk, which has not heard, does not admit any more")
	}

	// The cut-off region hears, and its end closes the range.
	fence(t, 3, hk)
	hkWorld.set(forced)
	eventually(t, "hk ends its term", func() bool { return of(b).Handed == partitions })
	copyAll(t, hk, sh)
	if r := of(a); !r.Complete() {
		t.Errorf("report after the return: %+v", r)
	}
	if row, err := sh.Get(ctx, u, 1, []byte("a")); err != nil || row.Version != 0 {
		t.Errorf("the tail was replayed into rows: %+v, %v", row, err)
	}
}
