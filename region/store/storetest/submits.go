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
	for i := range batches {
		u, row := us[i%len(us)], fmt.Sprint(i)
		w := put(own, row, "x")
		w.Expect = store.Absent()
		err := q.Submit(ctx, batch(u, w), func(r store.Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, i)
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
		if i%50 == 0 { // the same once more
			err := q.Submit(ctx, batch(u, w), func(store.Receipt, error) { t.Errorf("batch %d was refused, and told", i) })
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
	}
	if err := q.Submit(ctx, batch(us[0], put(own, "late", "x")), func(store.Receipt, error) { t.Error("a closed store told") }); region.KindOf(err) != region.Unavailable {
		t.Errorf("Submit to a closed store: %v", err)
	}
}
