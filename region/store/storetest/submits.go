package storetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// testSubmits holds an engine that is a [store.Submitter] to its promise: who
// submitted is told once, in the order of Submit, when the batch is there to be
// read; and not at all of what was refused.
func testSubmits(t *testing.T, f Factory) {
	s := f(t, Config{Region: "sh", Partitions: partitions, Now: clock()})
	q, ok := s.(store.Submitter)
	if !ok {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		t.Skip("not a store.Submitter")
	}
	const batches = 300
	us := owners(2, 3)
	var mu sync.Mutex
	var told []int
	receipts, returned := make([]store.Receipt, batches), make([]store.Receipt, batches)
	follows := uint64(0)
	for i := range batches {
		u, row := us[i%len(us)], fmt.Sprint(i)
		w := put(own, row, "x")
		w.Expect = store.Absent()
		b := batch(u, w)
		if i%3 == 0 {
			b.Commands = append(b.Commands, command("hk", byte(i)))
		}
		receipt, err := q.Submit(ctx, b, func(r store.Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, i)
			receipts[i] = r
			if err != nil || r.Partition != 2 || s.Head(2).Next <= r.Last {
				t.Errorf("batch %d: %+v, %v; the journal's next is %d", i, r, err, s.Head(2).Next)
			}
			if got, err := s.Get(ctx, u, own, []byte(row)); err != nil || !got.Exists() {
				t.Errorf("batch %d is told to be durable, and Get shows %+v, %v", i, got, err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		want := uint64(0)
		if len(b.Commands) > 0 {
			want, follows = follows, receipt.Last
		}
		if receipt.Follows != want {
			t.Errorf("batch %d follows %d in its commands' stream, want %d", i, receipt.Follows, want)
		}
		mu.Lock()
		returned[i] = receipt
		mu.Unlock()
		if i%50 == 0 { // the same once more
			_, err := q.Submit(ctx, batch(u, w), func(store.Receipt, error) { t.Errorf("batch %d was refused, and told", i) })
			if region.KindOf(err) != region.Conflict {
				t.Errorf("batch %d again: %v", i, err)
			}
		}
	}
	if err := s.Close(); err != nil { // tells the rest
		t.Error(err)
	}
	if len(told) != batches {
		t.Fatalf("%d batches of %d were told", len(told), batches)
	}
	for i, n := range told {
		if i != n {
			t.Fatalf("batch %d was told at place %d", n, i)
		}
		if receipts[i] != returned[i] {
			t.Errorf("batch %d was told %+v, and Submit said %+v", i, receipts[i], returned[i])
		}
	}
	if _, err := q.Submit(ctx, batch(us[0], put(own, "late", "x")), func(store.Receipt, error) { t.Error("a closed store told") }); region.KindOf(err) != region.Unavailable {
		t.Errorf("Submit to a closed store: %v", err)
	}
}

// testSubmitsInOrder holds an engine that is a [store.Submitter] to the order of
// batches in different partitions: who is told that a batch is durable finds
// everything durable that was submitted before it.
func testSubmitsInOrder(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	q, ok := s.(store.Submitter)
	if !ok {
		t.Skip("not a store.Submitter")
	}
	const pairs = 400
	causes, effects := owners(2, 2), owners(3, 2)
	var all sync.WaitGroup
	submit := func(u region.UIN, row string, then func()) {
		all.Add(1)
		if _, err := q.Submit(ctx, batch(u, put(own, row, "x")), func(_ store.Receipt, err error) {
			defer all.Done()
			if err != nil {
				t.Error(err)
			}
			then()
		}); err != nil {
			all.Done()
			t.Error(err)
		}
	}
	for worker := range causes {
		all.Go(func() {
			for i := range pairs {
				row := fmt.Sprint(i)
				submit(causes[worker], row, func() {})
				submit(effects[worker], row, func() {
					if got, err := s.Get(ctx, causes[worker], own, []byte(row)); err != nil || !got.Exists() {
						t.Errorf("what followed batch %d is durable, and it is not: %+v, %v", i, got, err)
					}
				})
			}
		})
	}
	all.Wait()
}
