// Package idstest is what every engine of ids.Store has to pass, and the
// in-memory twin that says what the right answers are.
package idstest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/region"
)

// Engine is a kind of store under test.
type Engine struct {
	// Open makes an empty store. The suite closes it.
	Open func(t testing.TB) ids.Store
	// Reopen closes a store of Open and opens what it has kept; nil for an engine
	// that keeps nothing.
	Reopen func(t testing.TB, s ids.Store) ids.Store
}

// Run is the contract suite.
func Run(t *testing.T, e Engine) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Engine)
	}{
		{"claim", claim}, {"primary", primary}, {"hoarding", hoarding}, {"fight", fight},
		{"allot", allot}, {"allot concurrently", allotConcurrently}, {"segments change", segmentsChange},
		{"reopen", reopen}, {"closed", closed}, {"cancelled", cancelled},
		{"linearizable", linearizable}, {"like the twin", likeTheTwin},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, e) })
	}
}

func open(t testing.TB, e Engine) ids.Store {
	t.Helper()
	s := e.Open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func want[T comparable](t testing.TB, got T, err error, w T) {
	t.Helper()
	if err != nil || got != w {
		t.Fatalf("got %+v, error %v; want %+v", got, err, w)
	}
}

func wantKind(t testing.TB, err error, k region.Kind) {
	t.Helper()
	if region.KindOf(err) != k {
		t.Fatalf("error %v; want kind %v", err, k)
	}
}

func claim(t *testing.T, e Engine) {
	s, ctx := open(t, e), t.Context()
	_, err := s.Resolve(ctx, "alice")
	wantKind(t, err, region.NotFound)
	alice := ids.Claimed{Handle: "alice", Owner: 1000001, Primary: "alice"}
	got, err := s.Claim(ctx, "alice", 1000001)
	want(t, got, err, alice)
	got, err = s.Claim(ctx, "alice", 1000001)
	want(t, got, err, alice)
	_, err = s.Claim(ctx, "alice", 1000002)
	wantKind(t, err, region.Conflict)
	got, err = s.Resolve(ctx, "alice")
	want(t, got, err, alice)
	_, err = s.Resolve(ctx, "alic")
	wantKind(t, err, region.NotFound)
}

func primary(t *testing.T, e Engine) {
	s, ctx := open(t, e), t.Context()
	for _, h := range []ids.Handle{"old", "new", "old"} {
		got, err := s.Claim(ctx, h, 7)
		want(t, got, err, ids.Claimed{Handle: h, Owner: 7, Primary: h})
		got, err = s.Resolve(ctx, "old")
		want(t, got, err, ids.Claimed{Handle: "old", Owner: 7, Primary: h})
	}
	_, err := s.Claim(ctx, "new", 8) // moved away from, but reserved for ever
	wantKind(t, err, region.Conflict)
	got, err := s.Resolve(ctx, "new")
	want(t, got, err, ids.Claimed{Handle: "new", Owner: 7, Primary: "old"})
}

func hoarding(t *testing.T, e Engine) {
	s, ctx := open(t, e), t.Context()
	for i := range ids.MaxHandles {
		if _, err := s.Claim(ctx, ids.Handle(fmt.Sprintf("name%d", i)), 7); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Claim(ctx, "onemore", 7)
	wantKind(t, err, region.TooLarge)
	got, err := s.Claim(ctx, "onemore", 8)
	want(t, got, err, ids.Claimed{Handle: "onemore", Owner: 8, Primary: "onemore"})
	got, err = s.Claim(ctx, "name0", 7)
	want(t, got, err, ids.Claimed{Handle: "name0", Owner: 7, Primary: "name0"})
}

// fight has 256 owners claim the same handles at once: guarantee 1.
func fight(t *testing.T, e Engine) {
	s, ctx := open(t, e), t.Context()
	const owners, handles = 256, 4
	var mu sync.Mutex
	winners := map[ids.Handle][]region.UIN{}
	var wg sync.WaitGroup
	for o := range owners {
		wg.Go(func() {
			for i := range handles {
				h := ids.Handle(fmt.Sprintf("prize%d", (i+o)%handles))
				owner := region.UIN(o + 1)
				switch got, err := s.Claim(ctx, h, owner); {
				case err == nil && got.Owner == owner:
					mu.Lock()
					winners[h] = append(winners[h], owner)
					mu.Unlock()
				case region.KindOf(err) != region.Conflict:
					t.Errorf("claim of %s by %d: %+v, %v", h, owner, got, err)
				}
				if _, err := s.Resolve(ctx, h); err != nil {
					t.Errorf("%s was claimed by somebody, but: %v", h, err)
				}
			}
		})
	}
	wg.Wait()
	for i := range handles {
		h := ids.Handle(fmt.Sprintf("prize%d", i))
		if len(winners[h]) != 1 {
			t.Fatalf("%s has %d owners: %v", h, len(winners[h]), winners[h])
		}
		if got, err := s.Resolve(ctx, h); err != nil || got.Owner != winners[h][0] {
			t.Fatalf("%s resolves to %+v, %v; %d won it", h, got, err, winners[h][0])
		}
	}
}

func ask(key string, n int, segments ...region.Segment) ids.Allotment {
	return ids.Allotment{Region: "sh", Key: key, Home: "sh", N: n, Segments: segments}
}

var sh = region.Segment{First: 1000000, Last: 1999999, Home: "sh"}

func allot(t *testing.T, e Engine) {
	s, ctx := open(t, e), t.Context()
	got, err := s.Allot(ctx, ask("a", 1, sh))
	want(t, got, err, ids.Range{First: 1000001, Last: 1000001})
	got, err = s.Allot(ctx, ask("b", 100, sh))
	want(t, got, err, ids.Range{First: 1000002, Last: 1000101})
	got, err = s.Allot(ctx, ask("a", 1, sh))
	want(t, got, err, ids.Range{First: 1000001, Last: 1000001})
	got, err = s.Allot(ctx, ask("b", 100)) // the world may have changed since
	want(t, got, err, ids.Range{First: 1000002, Last: 1000101})
	_, err = s.Allot(ctx, ask("b", 99, sh))
	wantKind(t, err, region.Conflict)
	other := ask("a", 1, sh)
	other.Region = "hk" // acts for sh, and happens to use the same key
	got, err = s.Allot(ctx, other)
	want(t, got, err, ids.Range{First: 1000102, Last: 1000102})
	other.Home = "hk"
	_, err = s.Allot(ctx, other)
	wantKind(t, err, region.Conflict)

	tiny := region.Segment{First: 10, Last: 15, Home: "sh"} // room for 11 to 15
	next := region.Segment{First: 20, Last: 22, Home: "sh"} // room for 21 and 22
	got, err = s.Allot(ctx, ask("t1", 4, tiny, next))
	want(t, got, err, ids.Range{First: 11, Last: 14})
	got, err = s.Allot(ctx, ask("t2", 2, tiny, next))
	want(t, got, err, ids.Range{First: 21, Last: 22})
	_, err = s.Allot(ctx, ask("t3", 2, tiny, next))
	wantKind(t, err, region.Unavailable)
	got, err = s.Allot(ctx, ask("t4", 1, tiny, next)) // the first one still has a place
	want(t, got, err, ids.Range{First: 15, Last: 15})
	_, err = s.Allot(ctx, ask("t5", 1, tiny, next))
	wantKind(t, err, region.Unavailable)
	_, err = s.Allot(ctx, ask("t6", 1, region.Segment{First: 30, Last: 30, Home: "sh"}))
	wantKind(t, err, region.Unavailable)
	last := region.Segment{First: ^region.UIN(0) - 2, Last: ^region.UIN(0), Home: "sh"}
	got, err = s.Allot(ctx, ask("t7", 2, last))
	want(t, got, err, ids.Range{First: last.Last - 1, Last: last.Last})
	_, err = s.Allot(ctx, ask("t8", 1, last))
	wantKind(t, err, region.Unavailable)
}

func allotConcurrently(t *testing.T, e Engine) {
	s, ctx := open(t, e), t.Context()
	const callers, each = 32, 8
	var mu sync.Mutex
	byKey := map[string]ids.Range{}
	total := 0
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				key, n := fmt.Sprintf("k%d", (c/2)*each+i), 1+((c/2)*each+i)%7 // two callers per key
				r, err := s.Allot(ctx, ask(key, n, sh))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if had, ok := byKey[key]; ok && had != r {
					t.Errorf("key %s gave %v and %v", key, had, r)
				} else if !ok {
					total += n
				}
				byKey[key] = r
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	ranges := make([]ids.Range, 0, len(byKey))
	for _, r := range byKey {
		ranges = append(ranges, r)
	}
	dense(t, ranges, sh.First+1, sh.First+region.UIN(total))
}

// dense checks that ranges cover first to last without gap or overlap.
func dense(t testing.TB, ranges []ids.Range, first, last region.UIN) {
	t.Helper()
	slices.SortFunc(ranges, func(a, b ids.Range) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	at := first
	for _, r := range ranges {
		if r.First != at {
			t.Fatalf("range %v begins at %d, want %d", r, r.First, at)
		}
		at = r.Last + 1
	}
	if at != last+1 {
		t.Fatalf("ranges end at %d, want %d", at-1, last)
	}
}

// segmentsChange splits and joins segments of one home between allotments:
// guarantee 2 does not depend on where their borders are.
func segmentsChange(t *testing.T, e Engine) {
	s, ctx := open(t, e), t.Context()
	whole := region.Segment{First: 0, Last: 99, Home: "sh"}
	low, high := region.Segment{First: 0, Last: 49, Home: "sh"}, region.Segment{First: 50, Last: 99, Home: "sh"}
	got, err := s.Allot(ctx, ask("1", 60, whole))
	want(t, got, err, ids.Range{First: 1, Last: 60})
	got, err = s.Allot(ctx, ask("2", 10, low, high))
	want(t, got, err, ids.Range{First: 61, Last: 70})
	got, err = s.Allot(ctx, ask("3", 10, whole))
	want(t, got, err, ids.Range{First: 71, Last: 80})
	got, err = s.Allot(ctx, ask("4", 10, high))
	want(t, got, err, ids.Range{First: 81, Last: 90})
}

func reopen(t *testing.T, e Engine) {
	if e.Reopen == nil {
		t.Skip("the engine keeps nothing")
	}
	ctx := t.Context()
	s := e.Open(t)
	for i := range 50 {
		if _, err := s.Claim(ctx, ids.Handle(fmt.Sprintf("user%d", i)), region.UIN(i/2+1)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Allot(ctx, ask(fmt.Sprint(i), 3, sh)); err != nil {
			t.Fatal(err)
		}
	}
	s = e.Reopen(t, s)
	t.Cleanup(func() { _ = s.Close() })
	for i := range 50 {
		h := ids.Handle(fmt.Sprintf("user%d", i))
		got, err := s.Resolve(ctx, h)
		want(t, got, err, ids.Claimed{Handle: h, Owner: region.UIN(i/2 + 1), Primary: ids.Handle(fmt.Sprintf("user%d", i|1))})
		_, err = s.Claim(ctx, h, 999)
		wantKind(t, err, region.Conflict)
		first := sh.First + 1 + region.UIN(3*i)
		r, err := s.Allot(ctx, ask(fmt.Sprint(i), 3, sh))
		want(t, r, err, ids.Range{First: first, Last: first + 2})
	}
	r, err := s.Allot(ctx, ask("new", 1, sh))
	want(t, r, err, ids.Range{First: sh.First + 151, Last: sh.First + 151})
}

func closed(t *testing.T, e Engine) {
	s, ctx := e.Open(t), t.Context()
	var wg sync.WaitGroup
	for i := range 32 { // calls under way while it closes end well or as closed
		wg.Go(func() {
			for j := range 20 {
				if _, err := s.Claim(ctx, ids.Handle(fmt.Sprintf("u%dx%d", i, j)), region.UIN(i*100+j+1)); err != nil {
					if region.KindOf(err) != region.Unavailable {
						t.Errorf("claim while closing: %v", err)
					}
					return
				}
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	_, err := s.Claim(ctx, "late", 1)
	wantKind(t, err, region.Unavailable)
	_, err = s.Resolve(ctx, "late")
	wantKind(t, err, region.Unavailable)
	_, err = s.Allot(ctx, ask("late", 1, sh))
	wantKind(t, err, region.Unavailable)
	if err := s.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
}

func cancelled(t *testing.T, e Engine) {
	s := open(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, err := s.Claim(ctx, "alice", 1); err != nil && err != context.Canceled {
			t.Fatalf("claim with an ended context: %v", err)
		}
	}
	got, err := s.Claim(t.Context(), "alice", 1) // whether it happened or not
	want(t, got, err, ids.Claimed{Handle: "alice", Owner: 1, Primary: "alice"})
}
