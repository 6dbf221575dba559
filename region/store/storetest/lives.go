package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

func testFence(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	try := func(home region.ID, counter uint64) error {
		b := batch(u, put(own, "a", "x"))
		b.Home, b.Epoch = home, at(counter)
		_, err := s.Commit(ctx, b)
		return err
	}
	fence := func(counter uint64) {
		t.Helper()
		if err := s.Fence(ctx, "sh", term(counter)); err != nil {
			t.Fatal(err)
		}
	}
	if err := try("sh", 0); err != nil {
		t.Fatal(err)
	}
	fence(5)
	wantKind(t, try("sh", 4), region.Unavailable)
	wantKind(t, try("sh", 0), region.Unavailable)
	for _, ok := range []error{try("sh", 5), try("sh", 6), try("hk", 1)} {
		if ok != nil {
			t.Fatal(ok)
		}
	}
	fence(3)
	fence(5)
	wantKind(t, try("sh", 4), region.Unavailable)
	sibling := region.Term{Counter: 5, Raised: region.ShortHash{5, 1}} // raised by another forced world
	if err := s.Fence(ctx, "sh", sibling); err != nil {
		t.Fatal(err)
	}
	wantKind(t, try("sh", 5), region.Unavailable)

	// Moves do not outrank the term, and replay is not fenced.
	b := batch(u, put(own, "a", "x"))
	b.Epoch = region.Epoch{Moves: 9, Term: term(5)}
	_, err := s.Commit(ctx, b)
	wantKind(t, err, region.Unavailable)
	o := origin("hk")
	story(t, o)
	apply(t, s, journal.Full, read(t, o, 1, journal.Full)...)
}

// testFenceUnderFire fences while commits at the older term pour in: when the
// fence returns, everything that is ever acknowledged at that term is in the
// journal.
func testFenceUnderFire(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	var last [partitions]atomic.Uint64 // of what was acknowledged at term 1
	var refused atomic.Int64
	var wg sync.WaitGroup
	started := make(chan struct{}, 100)
	for c := range 8 {
		p := region.Partition(c % partitions)
		u := owners(p, 3)[c/partitions]
		wg.Go(func() {
			for i := 0; ; i++ {
				r, err := s.Commit(ctx, batch(u, put(own, "n", fmt.Sprint(i))))
				if err != nil {
					if region.KindOf(err) != region.Unavailable {
						t.Errorf("Commit: %v", err)
					}
					refused.Add(1)
					return
				}
				for have := last[p].Load(); have < r.Last && !last[p].CompareAndSwap(have, r.Last); have = last[p].Load() {
				}
				if i == 2 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	if err := s.Fence(ctx, "sh", term(2)); err != nil {
		t.Fatal(err)
	}
	var next [partitions]uint64
	for p := range region.Partition(partitions) {
		next[p] = s.Head(p).Next
	}
	wg.Wait()
	if refused.Load() != 8 {
		t.Fatalf("%d of 8 callers were refused", refused.Load())
	}
	for p := range region.Partition(partitions) {
		if got := last[p].Load(); got >= next[p] {
			t.Errorf("partition %d: %d was acknowledged, but was not there when the fence returned (next %d)", p, got, next[p])
		}
		if got := s.Head(p).Next; got != next[p] {
			t.Errorf("partition %d: next is %d, it was %d when the fence returned", p, got, next[p])
		}
	}
}

// testSettlesAcrossRestart moves an owner home and restarts the store: the two
// watermarks that are not compared then are the same two as without a restart.
func testSettlesAcrossRestart(t *testing.T, f Factory) {
	o := origin("hk")
	config := Config{Region: "sh", Partitions: partitions, Now: clock()}
	s := f(t, config)
	u := owners(1, 2)
	b := batch(u[0], put(shared, "b", "1"))
	b.Home = "hk"
	commit(t, s, b)
	b.Home, b.Epoch.Moves = "sh", b.Epoch.Moves+1
	commit(t, s, b) // from now on the sums of sh differ from the origin's
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = f(t, config)
	defer func() { _ = s.Close() }()
	for i, mismatches := range []int{0, 0, 1} {
		b := batch(u[1], put(shared, "a", fmt.Sprint(i)))
		commit(t, o, b)
		if _, err := o.Watermark(ctx, 1); err != nil {
			t.Fatal(err)
		}
		at, err := s.Position(ctx, "hk", journal.Full, 1)
		if err != nil {
			t.Fatal(err)
		}
		batches, err := o.Journal(ctx, 1, journal.Full, at.Seq+1, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if a := apply(t, s, journal.Full, batches...); len(a.Mismatches) != mismatches {
			t.Fatalf("watermark %d: %+v, want %d", i+1, a.Mismatches, mismatches)
		}
	}
}

// testReopen closes and opens a store with something of everything in it.
func testReopen(t *testing.T, f Factory) {
	o := origin("hk")
	story(t, o)
	config := Config{Region: "sh", Partitions: partitions, Now: clock()}
	s := f(t, config)
	u := owners(1, 3)
	commit(t, s, batch(u[0], put(own, "a", "1"), put(shared, "b", "2"), put(local, "c", "3")))
	commit(t, s, batch(u[1], del(own, "a")))
	if _, err := s.Watermark(ctx, 1); err != nil {
		t.Fatal(err)
	}
	b := batch(u[2], put(shared, "x", "y"))
	b.Home, b.Commands = "hk", []journal.Command{command("ca", 1)}
	commit(t, s, b)
	apply(t, s, journal.Full, read(t, o, 1, journal.Full)...)
	if err := s.SetPosition(ctx, journal.Position{Origin: "hk", Stream: journal.StreamTo("sh"), Partition: 2, Incarnation: 1, Seq: 8}); err != nil {
		t.Fatal(err)
	}
	if err := s.Fence(ctx, "sh", term(7)); err != nil {
		t.Fatal(err)
	}
	if err := s.Trim(ctx, 1, 3); err != nil {
		t.Fatal(err)
	}
	type all struct {
		heads     [partitions]store.Head
		sums      [partitions][2]journal.Watermark
		positions []journal.Position
		rows      [][]string
	}
	look := func(s store.Store) (a all) {
		var err error
		for p := range region.Partition(partitions) {
			a.heads[p] = s.Head(p)
			a.sums[p] = [2]journal.Watermark{s.Sums(p, "sh"), s.Sums(p, "hk")}
		}
		if a.positions, err = s.Positions(ctx); err != nil {
			t.Fatal(err)
		}
		for _, u := range u {
			for _, table := range []journal.Table{shared, own, local} {
				a.rows = append(a.rows, scan(t, s, u, table, store.Range{Deleted: true}))
			}
		}
		return a
	}
	before := look(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = f(t, config)
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	if after := look(s); !reflect.DeepEqual(before, after) {
		t.Fatalf("after opening again:\n%+v\nwant\n%+v", after, before)
	}
	if before.heads[1].Incarnation != 1 {
		t.Fatalf("incarnation is %d", before.heads[1].Incarnation)
	}
	_, err := s.Commit(ctx, batch(u[0], put(own, "a", "2")))
	wantKind(t, err, region.Unavailable) // still fenced
	b = batch(u[0], put(own, "a", "2"))
	b.Epoch = at(7)
	if r := commit(t, s, b); r.First != before.heads[1].Next {
		t.Fatalf("receipt is %+v, want it at %d", r, before.heads[1].Next)
	}
	wantRow(t, s, u[0], own, "a", "a=2@4")
	// Changes from before count: hk's row, and sh's new one.
	if n, err := s.Watermark(ctx, 1); n != 2 || err != nil {
		t.Fatalf("Watermark: %d, %v", n, err)
	}
	batches, err := s.Journal(ctx, 1, journal.Full, before.heads[1].Next, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	head := before.heads[1].Streams[0]
	for _, b := range batches {
		if head, err = journal.Follow(head, b); err != nil {
			t.Fatal(err)
		}
	}
	wantApplied(t, apply(t, s, journal.Full, read(t, o, 1, journal.Full)...), 0, 5, 0, 0)
}

func testContexts(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	o := origin("hk")
	story(t, o)
	full := read(t, o, 1, journal.Full)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	calls := map[string]func() error{
		"Commit": func() error {
			_, err := s.Commit(cancelled, batch(u, put(own, "a", "x")))
			return err
		},
		"Get": func() error {
			_, err := s.Get(cancelled, u, own, []byte("a"))
			return err
		},
		"Scan": func() error {
			return s.Scan(cancelled, u, own, store.Range{}, func(*store.Row) bool { return true })
		},
		"Apply": func() error {
			_, err := s.Apply(cancelled, journal.Full, full)
			return err
		},
		"SetPosition": func() error {
			return s.SetPosition(cancelled, journal.Position{Origin: "hk", Stream: journal.StreamTo("sh"), Seq: 1})
		},
		"Position": func() error {
			_, err := s.Position(cancelled, "hk", journal.Full, 0)
			return err
		},
		"Positions": func() error {
			_, err := s.Positions(cancelled)
			return err
		},
		"Journal": func() error {
			_, err := s.Journal(cancelled, 0, journal.Full, 1, 1)
			return err
		},
		"Watermark": func() error {
			_, err := s.Watermark(cancelled, 0)
			return err
		},
		"Fence": func() error { return s.Fence(cancelled, "sh", term(9)) },
		"Trim":  func() error { return s.Trim(cancelled, 0, 9) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a context that has ended: %v", name, err)
		}
	}
	wantRow(t, s, u, own, "a", "a?")
	if h := s.Head(0); h.Next != 1 {
		t.Fatalf("head is %+v", h)
	}
	commit(t, s, batch(u, put(own, "a", "x"))) // not fenced
	// Whoever gives up waiting must leave the store whole: the commit happened
	// or did not.
	for i := range 50 {
		c, cancel := context.WithCancel(ctx)
		go cancel()
		_, err := s.Commit(c, batch(u, put(own, "a", fmt.Sprint(i))))
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
	}
	commit(t, s, batch(u, put(own, "end", "x"))) // behind all of them
	if r := get(t, s, u, own, "a"); r.Version != s.Head(0).Next-2 {
		t.Fatalf("the row is at version %d, the journal has %d records", r.Version, s.Head(0).Next-1)
	}
	read(t, s, 0, journal.Full)
}

func testClosed(t *testing.T, f Factory) {
	s := f(t, Config{Region: "sh", Partitions: partitions, Now: clock()})
	u := owners(0, 8)
	var wg sync.WaitGroup
	var acknowledged, started atomic.Int64
	begun := make(chan struct{})
	for _, u := range u {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := s.Commit(ctx, batch(u, put(own, fmt.Sprint(i), "x")))
				if err != nil {
					if region.KindOf(err) != region.Unavailable {
						t.Errorf("Commit while closing: %v", err)
					}
					return
				}
				acknowledged.Add(1)
				if i == 0 && started.Add(1) == 8 {
					close(begun)
				}
			}
		})
	}
	<-begun
	if err := s.Writable(); err != nil {
		t.Errorf("Writable while commits succeed: %v", err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	wg.Wait()
	wantKind(t, s.Writable(), region.Unavailable)
	_, err := s.Get(ctx, u[0], own, []byte("0"))
	wantKind(t, err, region.Unavailable)
	_, err = s.Commit(ctx, batch(u[0], put(own, "a", "x")))
	wantKind(t, err, region.Unavailable)
	wantKind(t, s.Fence(ctx, "sh", term(1)), region.Unavailable)

	s = open(t, f, "sh")
	n := int64(0)
	for _, u := range u {
		n += int64(len(scan(t, s, u, own, store.Range{Limit: 1 << 20})))
	}
	if n != acknowledged.Load() {
		t.Fatalf("%d commits were acknowledged, %d are there", acknowledged.Load(), n)
	}
}
