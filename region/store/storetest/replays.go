package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// origin is a region whose journal is replayed.
func origin(self region.ID) *Memory {
	return NewMemory(Config{Region: self, Partitions: partitions, Now: clock()})
}

func apply(t testing.TB, s store.Store, stream journal.Stream, batches ...*journal.Batch) store.Applied {
	t.Helper()
	a, err := s.Apply(ctx, stream, batches)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return a
}

// wantApplied compares the counts of a report: batches, skipped, rows, mismatches.
func wantApplied(t testing.TB, a store.Applied, batches, skipped, rows, mismatches int) {
	t.Helper()
	if a.Batches != batches || a.Skipped != skipped || a.Rows != rows || len(a.Mismatches) != mismatches {
		t.Fatalf("applied %+v, want %d batches, %d skipped, %d rows, %d mismatches", a, batches, skipped, rows, mismatches)
	}
}

func wantGap(t testing.TB, err error, want store.Gap) {
	t.Helper()
	var g *store.Gap
	if !errors.As(err, &g) || *g != want {
		t.Fatalf("error is %v, want the gap %+v", err, want)
	}
}

// story writes 1-2, 3-3 (own only), 4-4 (command), 5-6, watermark 7-7.
func story(t testing.TB, o store.Store) region.UIN {
	u := owners(1, 1)[0]
	commit(t, o, batch(u, put(own, "a", "1"), put(shared, "s", "1")))
	commit(t, o, batch(u, put(own, "a", "2")))
	commit(t, o, &store.Batch{Owner: u, Home: "sh", Epoch: at(1), Commands: []journal.Command{command("hk", 1)}})
	commit(t, o, batch(u, del(own, "a"), put(shared, "s", "2")))
	if n, err := o.Watermark(ctx, 1); n != 1 || err != nil {
		t.Fatalf("Watermark: %d, %v", n, err)
	}
	return u
}

func testReplayOnce(t *testing.T, f Factory) {
	o, s := origin("sh"), open(t, f, "hk")
	u := story(t, o)
	full := read(t, o, 1, journal.Full)
	wantApplied(t, apply(t, s, journal.Full, full[:2]...), 2, 0, 3, 0)
	wantRow(t, s, u, own, "a", "a=2@2")
	// Repeated, from the beginning, in one call and within it.
	wantApplied(t, apply(t, s, journal.Full, full[:2]...), 0, 2, 0, 0)
	a := apply(t, s, journal.Full, full[0], full[1], full[2], full[2], full[3], full[1], full[4])
	wantApplied(t, a, 3, 4, 2, 0)
	wantRow(t, s, u, own, "a", "-a@3")
	wantRow(t, s, u, shared, "s", "s=2@2")
	want := journal.Position{
		Origin: "sh", Stream: journal.Full, Partition: 1, Incarnation: 1,
		Seq: 7, Chain: full[4].Links[0].Chain, UnixMilli: full[4].UnixMilli,
	}
	if a.Position != want {
		t.Fatalf("position is %+v, want %+v", a.Position, want)
	}
	if got, err := s.Position(ctx, "sh", journal.Full, 1); got != want || err != nil {
		t.Fatalf("position is %+v, %v; want %+v", got, err, want)
	}
	if got := s.Sums(1, "sh"); got != o.Sums(1, "sh") || got != recompute(t, s, "sh", u) {
		t.Fatalf("sums are %+v, want %+v", got, o.Sums(1, "sh"))
	}
	// Its own journal has nothing but the positions.
	var recorded []uint64
	for _, b := range read(t, s, 1, journal.Full) {
		for _, r := range b.Records {
			if r.Kind != journal.KindPosition || b.Owner != 0 || b.Home != "" {
				t.Fatalf("record %d is %+v", r.Seq, r)
			}
			recorded = append(recorded, r.Position.Seq)
		}
	}
	if !slices.Equal(recorded, []uint64{3, 7}) {
		t.Fatalf("positions in the journal are %v, want 3 and 7", recorded)
	}
	if len(read(t, s, 1, journal.Shared)) != 0 {
		t.Fatal("replayed rows are in the shared stream")
	}
	// A replica does not speak for a home it does not write for.
	if n, err := s.Watermark(ctx, 1); n != 0 || err != nil {
		t.Fatalf("Watermark on a replica: %d, %v", n, err)
	}
	// It goes on from there: versions and digests join.
	r := commit(t, s, batch(u, put(own, "a", "here")))
	wantRow(t, s, u, own, "a", "a=here@4")
	if r.First != 3 {
		t.Fatalf("receipt is %+v", r)
	}
}

func testReplayGaps(t *testing.T, f Factory) {
	o, s := origin("sh"), open(t, f, "hk")
	u := story(t, o)
	full := read(t, o, 1, journal.Full)
	_, err := s.Apply(ctx, journal.Full, full[1:])
	wantGap(t, err, store.Gap{Stream: journal.Full, Partition: 1, Have: 0, Want: 2})
	// A gap in the middle: nothing of the call is applied.
	_, err = s.Apply(ctx, journal.Full, []*journal.Batch{full[0], full[1], full[3]})
	wantGap(t, err, store.Gap{Stream: journal.Full, Partition: 1, Have: 3, Want: 4})
	wantRow(t, s, u, own, "a", "a?")
	_, err = s.Apply(ctx, journal.Full, []*journal.Batch{full[1], full[0]})
	wantGap(t, err, store.Gap{Stream: journal.Full, Partition: 1, Have: 0, Want: 2})
	wantApplied(t, apply(t, s, journal.Full, full[0]), 1, 0, 2, 0)
	_, err = s.Apply(ctx, journal.Full, full[2:])
	wantGap(t, err, store.Gap{Stream: journal.Full, Partition: 1, Have: 2, Want: 3})
	if h := s.Head(1); h.Next != 2 {
		t.Fatalf("refused batches are in the journal: %+v", h)
	}
	wantApplied(t, apply(t, s, journal.Full, full...), 4, 1, 3, 0)
}

// testReplayAnotherHistory replays what does not follow from what is here.
func testReplayAnotherHistory(t *testing.T, f Factory) {
	u := owners(1, 1)[0]
	o, fork, s := origin("sh"), origin("sh"), open(t, f, "hk")
	for i, o := range []store.Store{o, fork} {
		commit(t, o, batch(u, put(own, "a", "same")))
		commit(t, o, batch(u, put(own, "a", fmt.Sprint(i))))
		commit(t, o, batch(u, put(own, "b", "then")))
	}
	full, other := read(t, o, 1, journal.Full), read(t, fork, 1, journal.Full)
	apply(t, s, journal.Full, full[:2]...)
	_, err := s.Apply(ctx, journal.Full, other[2:])
	wantGap(t, err, store.Gap{Stream: journal.Full, Partition: 1, Have: 2, Want: 2, Chain: true})

	altered, err := journal.Decode(journal.Encode(full[2]))
	if err != nil {
		t.Fatal(err)
	}
	altered.Records[0].Row.Value = []byte("they")
	_, err = s.Apply(ctx, journal.Full, []*journal.Batch{altered})
	wantGap(t, err, store.Gap{Stream: journal.Full, Partition: 1, Have: 2, Want: 2, Chain: true})

	// The origin came back without its end and writes anew: the sequences are
	// behind the position, yet nothing may be skipped.
	restored, err := journal.Decode(journal.Encode(other[1]))
	if err != nil {
		t.Fatal(err)
	}
	restored.Incarnation = 2
	restored.Links[0], _ = journal.Next(journal.StreamHead{Stream: journal.Full, Last: 1, Chain: full[0].Links[0].Chain}, restored)
	_, err = s.Apply(ctx, journal.Full, []*journal.Batch{restored})
	wantGap(t, err, store.Gap{Stream: journal.Full, Partition: 1, Have: 2, Want: 1, Chain: true})
	wantRow(t, s, u, own, "a", "a=0@2")

	// A newer incarnation that follows is welcome, and the one before is over.
	next, err := journal.Decode(journal.Encode(full[2]))
	if err != nil {
		t.Fatal(err)
	}
	next.Incarnation = 2
	next.Links[0], _ = journal.Next(journal.StreamHead{Stream: journal.Full, Last: 2, Chain: full[1].Links[0].Chain}, next)
	if a := apply(t, s, journal.Full, next); a.Position.Incarnation != 2 || a.Position.Seq != 3 {
		t.Fatalf("position is %+v", a.Position)
	}
	wantApplied(t, apply(t, s, journal.Full, full...), 0, 3, 0, 0)
}

func testReplaySkipsOldRows(t *testing.T, f Factory) {
	o, s := origin("sh"), open(t, f, "hk")
	u := story(t, o)
	// The replica has newer rows than the stream's beginning: it got the shared
	// stream first.
	wantApplied(t, apply(t, s, journal.Shared, read(t, o, 1, journal.Shared)...), 3, 0, 2, 0)
	wantRow(t, s, u, shared, "s", "s=2@2")
	full := read(t, o, 1, journal.Full)
	wantApplied(t, apply(t, s, journal.Full, full...), 5, 0, 3, 0)
	wantRow(t, s, u, shared, "s", "s=2@2")
	wantRow(t, s, u, own, "a", "-a@3")
	if got := s.Sums(1, "sh"); got != o.Sums(1, "sh") {
		t.Fatalf("sums are %+v, want %+v", got, o.Sums(1, "sh"))
	}
}

func testReplayMismatches(t *testing.T, f Factory) {
	o, s := origin("sh"), open(t, f, "hk")
	u := story(t, o)
	// The replica wrote a row of its own, which it must not have.
	commit(t, s, batch(u, put(own, "a", "stray")))
	stray := s.Sums(1, "sh").OwnSum
	full := read(t, o, 1, journal.Full)
	a := apply(t, s, journal.Full, full...)
	wantApplied(t, a, 5, 0, 4, 2)
	// Version 1 is here already, but another; version 2 replaces another; then
	// both are equal again, also in the watermark.
	first, second := full[0].Records[0].Row, full[1].Records[0].Row
	want := []store.Mismatch{
		{Seq: 1, Owner: u, Home: "sh", Table: own, Row: []byte("a"), Want: first.After, Have: stray},
		{Seq: 3, Owner: u, Home: "sh", Table: own, Row: []byte("a"), Want: second.Before, Have: stray},
	}
	for i := range want {
		if fmt.Sprint(a.Mismatches[i]) != fmt.Sprint(want[i]) {
			t.Fatalf("mismatch %d is %+v, want %+v", i, a.Mismatches[i], want[i])
		}
	}
	// A surplus row shows in the next watermark, by class.
	commit(t, s, batch(u, put(own, "surplus", "x")))
	commit(t, o, batch(u, put(own, "a", "3")))
	if _, err := o.Watermark(ctx, 1); err != nil {
		t.Fatal(err)
	}
	a = apply(t, s, journal.Full, read(t, o, 1, journal.Full)...)
	wantApplied(t, a, 2, 5, 1, 1)
	m := store.Mismatch{Seq: 9, Home: "sh", Class: journal.ClassOwn, Want: o.Sums(1, "sh").OwnSum, Have: s.Sums(1, "sh").OwnSum}
	if fmt.Sprint(a.Mismatches[0]) != fmt.Sprint(m) {
		t.Fatalf("mismatch is %+v, want %+v", a.Mismatches[0], m)
	}
}

// testReplayPositionsDoNotEcho lets two regions back each other up. Each
// replay's position is a record; were a replay of nothing but such records one
// too, the two would write for ever.
func testReplayPositionsDoNotEcho(t *testing.T, f Factory) {
	o, s := origin("sh"), open(t, f, "hk")
	u := story(t, o)
	to := journal.StreamTo("sh")
	if err := o.SetPosition(ctx, journal.Position{Origin: "ca", Stream: to, Partition: 1, Incarnation: 1, Seq: 40, UnixMilli: 4}); err != nil {
		t.Fatal(err)
	}
	round := func(from, to store.Store) int {
		t.Helper()
		at, err := to.Position(ctx, from.Region(), journal.Full, 1)
		if err != nil {
			t.Fatal(err)
		}
		batches, err := from.Journal(ctx, 1, journal.Full, at.Seq+1, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(batches) > 0 {
			apply(t, to, journal.Full, batches...)
		}
		return len(batches)
	}
	rounds := 0
	for round(o, s)+round(s, o) > 0 {
		if rounds++; rounds > 4 {
			t.Fatal("two regions that back each other up never come to rest")
		}
	}
	// The backup knows how far commands were executed, for when it takes over.
	got, err := s.Position(ctx, "ca", to, 1)
	if err != nil || got.Seq != 40 || got.UnixMilli != 4 {
		t.Fatalf("the backup's position of ca's commands is %+v, %v", got, err)
	}
	if at, err := o.Position(ctx, "hk", journal.Full, 1); err != nil || at.Seq != s.Head(1).Next-1 {
		t.Fatalf("at rest the position is %+v, %v; the journal's next is %d", at, err, s.Head(1).Next)
	}
	wantRow(t, s, u, own, "a", "-a@3")
}

func testReplayShared(t *testing.T, f Factory) {
	o, s := origin("sh"), open(t, f, "ca")
	u := story(t, o)
	batches := read(t, o, 1, journal.Shared)
	a := apply(t, s, journal.Shared, batches...)
	wantApplied(t, a, 3, 0, 2, 0) // the watermark's own part is not compared
	wantRow(t, s, u, own, "a", "a?")
	wantRow(t, s, u, shared, "s", "s=2@2")
	if a.Position.Seq != 7 {
		t.Fatalf("position is %+v", a.Position)
	}
	if got, want := s.Sums(1, "sh"), o.Sums(1, "sh"); got.SharedSum != want.SharedSum || got.SharedRows != want.SharedRows || got.OwnRows != 0 {
		t.Fatalf("sums are %+v, the origin's %+v", got, want)
	}
	// Another origin's stream of the same partition has its own position.
	o2 := origin("hk")
	b := batch(owners(1, 2)[1], put(shared, "s", "hk"))
	b.Home = "hk"
	commit(t, o2, b)
	wantApplied(t, apply(t, s, journal.Shared, read(t, o2, 1, journal.Shared)...), 1, 0, 1, 0)
	all, err := s.Positions(ctx)
	if err != nil || len(all) != 2 || all[0].Origin != "hk" || all[1].Origin != "sh" {
		t.Fatalf("positions are %+v, %v", all, err)
	}
}

func testReplayBadInput(t *testing.T, f Factory) {
	o, s := origin("sh"), open(t, f, "hk")
	story(t, o)
	full := read(t, o, 1, journal.Full)
	alter := func(change func(b *journal.Batch)) []*journal.Batch {
		b, err := journal.Decode(journal.Encode(full[0]))
		if err != nil {
			t.Fatal(err)
		}
		change(b)
		return []*journal.Batch{b}
	}
	for name, c := range map[string]struct {
		stream  journal.Stream
		batches []*journal.Batch
	}{
		"nothing":             {journal.Full, nil},
		"command stream":      {journal.StreamTo("hk"), read(t, o, 1, journal.StreamTo("hk"))},
		"own journal":         {journal.Full, alter(func(b *journal.Batch) { b.Origin = "hk" })},
		"no origin":           {journal.Full, alter(func(b *journal.Batch) { b.Origin = "" })},
		"several origins":     {journal.Full, append(full[:1:1], alter(func(b *journal.Batch) { b.Origin = "ca" })...)},
		"no such partition":   {journal.Full, alter(func(b *journal.Batch) { b.Partition = partitions })},
		"not its partition":   {journal.Full, alter(func(b *journal.Batch) { b.Partition = 2 })},
		"no records":          {journal.Full, alter(func(b *journal.Batch) { b.Records = nil })},
		"record of no kind":   {journal.Full, alter(func(b *journal.Batch) { b.Records[0].Kind = 0 })},
		"row without a row":   {journal.Full, alter(func(b *journal.Batch) { b.Records[0].Row = nil })},
		"row of a local kind": {journal.Full, alter(func(b *journal.Batch) { b.Records[0].Row.Table = local })},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Apply(ctx, c.stream, c.batches)
			wantKind(t, err, region.BadInput)
		})
	}
	if all, err := s.Positions(ctx); len(all) != 0 || err != nil {
		t.Fatalf("bad input moved positions: %+v, %v", all, err)
	}
}
