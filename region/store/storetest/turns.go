package storetest

import (
	"reflect"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

func handover(what uint8, home region.ID, n uint64) store.Handover {
	return store.Handover{TermRecord: journal.TermRecord{Home: home, Term: term(n), What: what}}
}

func hand(t testing.TB, s store.Store, p region.Partition, h store.Handover) {
	t.Helper()
	if err := s.Fence(ctx, h.Home, h.Term); err != nil {
		t.Fatal(err)
	}
	if err := s.Handover(ctx, p, h); err != nil {
		t.Fatal(err)
	}
}

// written is a batch of a home at a term.
func written(owner region.UIN, home region.ID, n uint64, writes ...store.Write) *store.Batch {
	return &store.Batch{Owner: owner, Home: home, Epoch: at(n), Writes: writes}
}

// testHandover: a term record is written once, behind the fence, and survives.
func testHandover(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	commit(t, s, written(u, "sh", 1, put(1, "a", "1")))
	wantKind(t, s.Handover(ctx, 0, handover(store.EndOfTerm, "sh", 2)), region.Conflict)
	wantKind(t, s.Handover(ctx, 0, handover(3, "sh", 2)), region.BadInput)
	wantKind(t, s.Handover(ctx, partitions, handover(store.EndOfTerm, "sh", 2)), region.BadInput)
	hand(t, s, 0, handover(store.EndOfTerm, "sh", 2))
	hand(t, s, 0, handover(store.EndOfTerm, "sh", 2)) // again: nothing
	turn := s.Turns(0)["sh"]
	if want := (store.Turn{Handed: term(2), Until: 2}); turn != want {
		t.Fatalf("turn %+v, want %+v", turn, want)
	}
	if !turn.Over() || turn.Owns() || turn.Comparable() {
		t.Errorf("turn %+v: over %v, owns %v, comparable %v", turn, turn.Over(), turn.Owns(), turn.Comparable())
	}
	if n := len(s.Turns(1)); n != 0 {
		t.Errorf("another partition has %d turns", n)
	}
	if n, err := s.Watermark(ctx, 0); n != 0 || err != nil {
		t.Errorf("%d watermarks, %v: who handed over speaks for no rows", n, err)
	}
	o := origin("hk")
	commit(t, o, written(u, "sh", 2, put(1, "a", "hk's")))
	after := apply(t, s, journal.Full, read(t, o, 0, journal.Full)...).Position
	back := handover(store.Takeover, "sh", 3)
	back.Before = "hk"
	incarnation := s.Head(0).Incarnation
	hand(t, s, 0, back)
	if got := s.Head(0).Incarnation; got != incarnation+1 {
		t.Errorf("incarnation %d after a takeover, want %d", got, incarnation+1)
	}
	batches := read(t, s, 0, journal.Full)
	last := batches[len(batches)-1]
	if len(last.Records) != 2 || *last.Records[0].Position != after || *last.Records[1].Term != back.TermRecord {
		t.Errorf("the takeover's records are %+v", last.Records)
	}
	want := store.Turn{Opened: term(3), After: after, Handed: term(2), Until: 2}
	if got := s.Turns(0)["sh"]; got != want || !got.Owns() {
		t.Errorf("turn %+v, want %+v", got, want)
	}
	commit(t, s, written(u, "sh", 3, put(1, "a", "2")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, f, "sh")
	if got := s.Turns(0)["sh"]; got != want {
		t.Errorf("turn %+v after opening again, want %+v", got, want)
	}
}

// testTail: what a region wrote behind its successor's takeover is kept, moves
// the position, and touches no row; the successor's rows replace it there.
func testTail(t *testing.T, f Factory) {
	o, s := origin("sh"), open(t, f, "hk")
	u := owners(0, 1)[0]
	commit(t, o, written(u, "sh", 1, put(1, "a", "1"), put(100, "b", "1")))
	apply(t, s, journal.Full, read(t, o, 0, journal.Full)...)
	take := handover(store.Takeover, "sh", 2)
	take.Before = "sh"
	hand(t, s, 0, take)

	// Behind the takeover: two rows, a position of the home's commands, a
	// watermark, the end of the term.
	commit(t, o, written(u, "sh", 1, put(1, "a", "tail"), put(100, "b", "tail"), put(100, "c", "tail")))
	commit(t, o, written(u, "sh", 1, put(1, "a", "tail again")))
	if err := o.SetPosition(ctx, journal.Position{Origin: "ca", Stream: journal.StreamTo("sh"), Partition: 0, Incarnation: 1, Seq: 5}); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Watermark(ctx, 0); err != nil {
		t.Fatal(err)
	}
	hand(t, o, 0, handover(store.EndOfTerm, "sh", 2))
	before := s.Sums(0, "sh")
	report := apply(t, s, journal.Full, read(t, o, 0, journal.Full)...)
	if report.Tail != 2 || report.Rows != 0 || len(report.Mismatches) != 0 {
		t.Errorf("report %+v, want a tail of 2 and nothing else", report)
	}
	if got := s.Sums(0, "sh"); got != before {
		t.Errorf("the tail changed rows: %+v, were %+v", got, before)
	}
	if turn := s.Turns(0)["sh"]; turn.Ended != term(2) {
		t.Errorf("turn %+v: the end of the term was not seen", turn)
	}
	if p, err := s.Position(ctx, "ca", journal.StreamTo("sh"), 0); err != nil || p.Seq != 0 {
		t.Errorf("position %+v, %v: taken over from a region that does not act any more", p, err)
	}
	// The successor writes every row of the tail, one of them at a version that
	// is lower than the tail's.
	commit(t, s, written(u, "sh", 2, put(1, "a", "2"), put(100, "b", "2"), put(100, "c", "2")))
	if _, err := s.Watermark(ctx, 0); err != nil {
		t.Fatal(err)
	}
	report = apply(t, o, journal.Full, read(t, s, 0, journal.Full)...)
	if report.Rows != 3 || len(report.Mismatches) != 0 {
		t.Errorf("report %+v, want 3 rows", report)
	}
	if turn := o.Turns(0)["sh"]; turn.Until != 0 || !turn.Comparable() {
		t.Errorf("turn %+v: the successor has it all", turn)
	}
	if a, b := o.Sums(0, "sh"), s.Sums(0, "sh"); a != b {
		t.Errorf("sums differ: %+v and %+v", a, b)
	}
}

// testCopy: what is kept of a full stream is the origin's journal, all streams of
// it, from where it was trimmed to the position.
func testCopy(t *testing.T, f Factory) {
	o, s := origin("sh"), open(t, f, "hk")
	u := owners(0, 1)[0]
	for i := range 20 {
		b := written(u, "sh", 1, put(1, "a", string(rune('a'+i))))
		if i%3 == 0 {
			b.Commands = []journal.Command{command("ca", byte(i))}
		}
		commit(t, o, b)
	}
	all := read(t, o, 0, journal.Full)
	apply(t, s, journal.Full, all[:15]...)
	apply(t, s, journal.Full, all...)
	copied := func(name journal.Stream, from uint64) []*journal.Batch {
		t.Helper()
		batches, err := s.Copy(ctx, "sh", 0, name, from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return batches
	}
	check := func() {
		t.Helper()
		for _, name := range []journal.Stream{journal.Full, journal.Shared, journal.StreamTo("ca")} {
			want, err := o.Journal(ctx, 0, name, 1, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if got := copied(name, 1); !reflect.DeepEqual(bytesOf(got), bytesOf(want)) {
				t.Errorf("stream %s: %d batches kept, want the origin's %d, the same", name, len(got), len(want))
			}
		}
	}
	check()
	if got := copied(journal.Full, all[19].Last()+1); len(got) != 0 {
		t.Errorf("%d batches behind the position", len(got))
	}
	if one, err := s.Copy(ctx, "sh", 0, journal.Full, all[3].Last(), 1); err != nil || len(one) != 1 || one[0].First() != all[3].First() {
		t.Errorf("a piece is %v, %v", keys(one), err)
	}
	wantKind(t, second(s.Copy(ctx, "hk", 0, journal.Full, 1, 1)), region.BadInput)
	wantKind(t, second(s.Copy(ctx, "sh", partitions, journal.Full, 1, 1)), region.BadInput)
	wantKind(t, second(s.Copy(ctx, "sh", 0, "half", 1, 1)), region.BadInput)
	if got, err := s.Copy(ctx, "ca", 0, journal.Full, 1, 1); err != nil || len(got) != 0 {
		t.Errorf("of a region nothing came from: %d batches, %v", len(got), err)
	}
	if err := s.TrimCopy(ctx, "sh", 0, all[10].First()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, second(s.Copy(ctx, "sh", 0, journal.Full, 1, 1<<20)), region.NotFound)
	if got := copied(journal.Full, all[10].First()); len(got) != 10 {
		t.Errorf("%d batches left, want 10", len(got))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, f, "hk")
	if got := copied(journal.Full, all[12].First()); len(got) != 8 {
		t.Errorf("%d batches after opening again, want 8", len(got))
	}
}

func second[T any](_ T, err error) error { return err }
