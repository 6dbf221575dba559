package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

func testStreams(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(2, 1)[0]
	b := batch(u, put(own, "o", "1"), put(shared, "s", "1"))
	b.Commands = []journal.Command{command("hk", 1), command("ca", 2), command("hk", 3)}
	commit(t, s, b)
	commit(t, s, batch(u, put(own, "o", "2")))
	commit(t, s, &store.Batch{Owner: u, Home: "sh", Epoch: at(1), Commands: []journal.Command{command("ca", 4)}})
	commit(t, s, batch(u, del(shared, "s")))
	if n, err := s.Watermark(ctx, 2); n != 1 || err != nil {
		t.Fatalf("Watermark: %d, %v", n, err)
	}
	for stream, want := range map[journal.Stream]string{
		journal.Full:           "1-5:11222 6-6:1 7-7:2 8-8:1 9-9:3",
		journal.Shared:         "2-2:1 8-8:1 9-9:3",
		journal.StreamTo("hk"): "3-5:22",
		journal.StreamTo("ca"): "4-4:2 7-7:2",
		journal.StreamTo("sh"): "",
	} {
		got := ""
		for _, b := range read(t, s, 2, stream) {
			got += fmt.Sprintf(" %s:", journal.QueueKey(b))
			for _, r := range b.Records {
				got += fmt.Sprint(r.Kind)
			}
			if b.Incarnation != 1 || b.UnixMilli == 0 || (b.Owner == 0) != (b.Home == "") {
				t.Errorf("batch %d is %+v", b.First(), b)
			}
		}
		if want != "" {
			want = " " + want
		}
		if got != want {
			t.Errorf("stream %s is%s, want%s", stream, got, want)
		}
	}
	rows := read(t, s, 2, journal.Full)
	first, last := rows[0].Records[1].Row, rows[3].Records[0].Row
	if first.Before != (journal.Sum{}) || first.After == (journal.Sum{}) || last.Before != first.After || !last.Deleted || last.Version != 2 {
		t.Errorf("the digests of a row do not join: %+v, then %+v", first, last)
	}
	shared := read(t, s, 2, journal.Shared)
	if w := shared[2].Records[0].Watermark; w.OwnRows != 0 || w.OwnSum != (journal.Sum{}) || w.SharedRows != 1 {
		t.Errorf("the shared stream's watermark is %+v", w)
	}
	if h := s.Head(2); h.UnixMilli != rows[len(rows)-1].UnixMilli || h.Incarnation != 1 {
		t.Errorf("head is %+v", h)
	}
}

func testJournalPieces(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	for i := range 10 { // sequences 1-3, 4-6, ...
		v := fmt.Sprint(i)
		commit(t, s, batch(u, put(own, "a", v), put(own, "b", v), put(own, "c", v)))
	}
	for _, c := range []struct {
		from     uint64
		maxBytes int
		want     string
	}{
		{0, 0, "1-3"}, {1, 0, "1-3"}, {3, 0, "1-3"}, {4, 0, "4-6"}, {5, 1, "4-6"},
		{30, 1 << 20, "28-30"}, {29, 0, "28-30"}, {31, 0, ""}, {1000, 0, ""},
		{25, 1 << 20, "25-27 28-30"},
	} {
		batches, err := s.Journal(ctx, 0, journal.Full, c.from, c.maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := keys(batches); got != c.want {
			t.Errorf("from %d, %d bytes: %s, want %s", c.from, c.maxBytes, got, c.want)
		}
	}
	batches, err := s.Journal(ctx, 0, journal.Full, 1, 300)
	if err != nil || len(batches) < 2 || len(batches) > 4 {
		t.Errorf("300 bytes are %d batches, error %v", len(batches), err)
	}
}

func keys(batches []*journal.Batch) string {
	got := ""
	for i, b := range batches {
		if i > 0 {
			got += " "
		}
		got += string(journal.QueueKey(b))
	}
	return got
}

func testTrim(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	for i := range 4 { // 1-2, 3-4, 5-6, 7-8
		b := batch(u, put(own, "a", fmt.Sprint(i)))
		if i == 0 || i == 2 {
			b.Writes = append(b.Writes, put(shared, "s", fmt.Sprint(i)))
		} else {
			b.Writes = append(b.Writes, put(own, "b", fmt.Sprint(i)))
		}
		commit(t, s, b)
	}
	trim := func(before, first uint64) {
		t.Helper()
		if err := s.Trim(ctx, 0, before); err != nil {
			t.Fatal(err)
		}
		if h := s.Head(0); h.First != first || h.Next != 9 {
			t.Fatalf("after Trim(%d) the journal is %d to %d, want %d to 9", before, h.First, h.Next, first)
		}
	}
	gone := func(stream journal.Stream, from uint64) {
		t.Helper()
		_, err := s.Journal(ctx, 0, stream, from, 1<<20)
		wantKind(t, err, region.NotFound)
	}
	there := func(stream journal.Stream, from uint64, want string) {
		t.Helper()
		batches, err := s.Journal(ctx, 0, stream, from, 1<<20)
		if err != nil {
			t.Fatalf("%s from %d: %v", stream, from, err)
		}
		if got := keys(batches); got != want {
			t.Fatalf("%s from %d is %s, want %s", stream, from, got, want)
		}
	}
	trim(0, 1)
	trim(1, 1)
	trim(2, 1) // a batch goes whole or not at all
	trim(3, 3)
	gone(journal.Full, 1)
	gone(journal.Full, 2)
	gone(journal.Shared, 1)
	gone(journal.Shared, 2)
	there(journal.Full, 3, "3-4 5-6 7-8")
	there(journal.Full, 6, "5-6 7-8")
	there(journal.Shared, 3, "6-6") // nothing of the stream was lost
	trim(6, 5)
	trim(3, 5) // never comes back
	there(journal.Shared, 3, "6-6")
	gone(journal.Full, 4)
	trim(7, 7)
	gone(journal.Shared, 3)
	gone(journal.Shared, 6)
	there(journal.Shared, 7, "")
	there(journal.Full, 7, "7-8")
	trim(100, 9)
	gone(journal.Full, 8)
	there(journal.Full, 9, "")
	there(journal.StreamTo("hk"), 1, "")
	if r := commit(t, s, batch(u, put(shared, "s", "on"))); r.First != 9 {
		t.Fatalf("after the journal was emptied a batch is at %d", r.First)
	}
	there(journal.Full, 9, "9-9")
	there(journal.Shared, 9, "9-9")
	batches, err := s.Journal(ctx, 0, journal.Shared, 9, 0)
	if err != nil || batches[0].Links[0].Prev != 6 {
		t.Fatalf("the stream's link does not survive a trim: %+v, %v", batches, err)
	}
}

func testChanged(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	for i := range 20 {
		changed, other := s.Changed(0), s.Changed(1)
		select {
		case <-changed:
			t.Fatal("changed before anything was written")
		default:
		}
		done := make(chan error, 1)
		go func() {
			_, err := s.Commit(ctx, batch(u, put(own, "a", fmt.Sprint(i))))
			done <- err
		}()
		<-changed
		batches, err := s.Journal(ctx, 0, journal.Full, uint64(i+1), 1)
		if err != nil || len(batches) != 1 {
			t.Fatalf("woken, but there are %d batches, error %v", len(batches), err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		select {
		case <-other:
			t.Fatal("another partition changed")
		default:
		}
	}
}

func testWatermarks(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(3, 3)
	mark := func(want int) {
		t.Helper()
		if n, err := s.Watermark(ctx, 3); n != want || err != nil {
			t.Fatalf("Watermark: %d, %v; want %d", n, err, want)
		}
	}
	mark(0)
	commit(t, s, batch(u[0], put(local, "l", "x")))
	commit(t, s, &store.Batch{Owner: u[0], Home: "sh", Epoch: at(1), Commands: []journal.Command{command("hk", 1)}})
	mark(0) // no row that anybody compares has changed
	commit(t, s, batch(u[0], put(own, "a", "1"), put(shared, "b", "2")))
	commit(t, s, batch(u[1], put(own, "a", "1"), del(own, "b")))
	b := batch(u[2], put(shared, "a", "1"))
	b.Home = "hk"
	commit(t, s, b)
	mark(2)
	mark(0)
	batches := read(t, s, 3, journal.Full)
	got := batches[len(batches)-1].Records
	want := []journal.Watermark{recompute(t, s, "hk", u[2]), recompute(t, s, "sh", u[0], u[1])}
	if len(got) != 2 || *got[0].Watermark != want[0] || *got[1].Watermark != want[1] {
		t.Fatalf("watermarks are %+v, want %+v", got, want)
	}
	commit(t, s, batch(u[1], put(own, "b", "3")))
	commit(t, s, batch(u[0], del(shared, "b")))
	mark(1)
	for i, home := range []region.ID{"hk", "sh"} {
		want := recompute(t, s, home, [][]region.UIN{{u[2]}, {u[0], u[1]}}[i]...)
		if got := s.Sums(3, home); got != want {
			t.Fatalf("sums of %s are %+v, want %+v", home, got, want)
		}
	}
	if got := s.Sums(0, "sh"); got != (journal.Watermark{Home: "sh"}) {
		t.Fatalf("an empty partition's sums are %+v", got)
	}
}

// testOwnerMovesHome writes the rows of an owner again under another home: they
// leave the sums of the old one.
func testOwnerMovesHome(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 2)
	commit(t, s, batch(u[0], put(own, "a", "1"), put(shared, "a", "1")))
	commit(t, s, batch(u[1], put(own, "a", "1")))
	if n, err := s.Watermark(ctx, 0); n != 1 || err != nil {
		t.Fatalf("Watermark: %d, %v", n, err)
	}
	b := batch(u[0], put(own, "a", "2"), put(shared, "a", "2"))
	b.Home, b.Epoch.Moves = "hk", 1
	commit(t, s, b)
	if got, want := s.Sums(0, "sh"), recompute(t, s, "sh", u[1]); got != want {
		t.Fatalf("old home's sums are %+v, want %+v", got, want)
	}
	if got, want := s.Sums(0, "hk"), recompute(t, s, "hk", u[0]); got != want {
		t.Fatalf("new home's sums are %+v, want %+v", got, want)
	}
	if n, err := s.Watermark(ctx, 0); n != 2 || err != nil {
		t.Fatalf("Watermark of both homes: %d, %v", n, err)
	}
}

// testDeparted: a tombstone of an owner who moved away leaves a row here that came
// from the new home before it, and removes the old one where that did not come.
func testDeparted(t *testing.T, f Factory) {
	s, newHome, backup := open(t, f, "ca"), origin("sh"), origin("hk")
	u := owners(0, 1)[0]
	commit(t, s, &store.Batch{Owner: u, Home: "ca", Epoch: at(1), Writes: []store.Write{put(own, "a", "old"), put(own, "b", "old")}})
	apply(t, backup, journal.Full, read(t, s, 0, journal.Full)...)
	moved := region.Epoch{Moves: 1, Term: term(1)}
	commit(t, newHome, &store.Batch{Owner: u, Home: "sh", Epoch: moved, Writes: []store.Write{put(own, "a", "new"), put(own, "c", "new")}})
	apply(t, s, journal.Full, read(t, newHome, 0, journal.Full)...)
	before := s.Sums(0, "sh")
	gone := &store.Batch{Owner: u, Home: store.Departed, Epoch: region.Epoch{Moves: 1}}
	for _, row := range []string{"a", "b", "c"} {
		w := del(own, row)
		w.Expect = store.AtVersion(get(t, s, u, own, row).Version)
		gone.Writes = append(gone.Writes, w)
	}
	commit(t, s, gone)
	for row, want := range map[string]string{"a": "new", "b": "", "c": "new"} {
		if r := get(t, s, u, own, row); string(r.Value) != want || r.Exists() != (want != "") {
			t.Errorf("row %s is %q at %s, deleted %v; want %q", row, r.Value, r.Epoch, r.Deleted, want)
		}
	}
	if got := s.Sums(0, "sh"); got != before {
		t.Errorf("the new home's sums are %+v, were %+v", got, before)
	}
	report := apply(t, backup, journal.Full, read(t, s, 0, journal.Full)...)
	if len(report.Mismatches) > 0 {
		t.Errorf("the copy: %+v", report.Mismatches)
	}
	for _, row := range []string{"a", "b", "c"} {
		if r := get(t, backup, u, own, row); r.Exists() {
			t.Errorf("the copy has row %s: %q at %s", row, r.Value, r.Epoch)
		}
	}
	for _, s := range []store.Store{s, backup} {
		if got := s.Sums(0, "ca"); got.OwnRows != 0 || got.OwnSum != (journal.Sum{}) {
			t.Errorf("%s: the old home's sums are %+v", s.Region(), got)
		}
	}
}

func testPositions(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	to := journal.StreamTo("sh")
	set := func(p journal.Position) {
		t.Helper()
		if err := s.SetPosition(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	want := func(p journal.Position) {
		t.Helper()
		if got, err := s.Position(ctx, p.Origin, p.Stream, p.Partition); got != p || err != nil {
			t.Fatalf("position is %+v, %v; want %+v", got, err, p)
		}
	}
	want(journal.Position{Origin: "hk", Stream: to, Partition: 1})
	p := journal.Position{Origin: "hk", Stream: to, Partition: 1, Incarnation: 1, Seq: 10, Chain: journal.Sum{1}, UnixMilli: 5}
	set(p)
	want(p)
	older := p
	older.Seq = 9
	set(older)
	set(p)
	want(p)
	next := p
	next.Seq, next.Chain = 12, journal.Sum{2}
	set(next)
	want(next)
	restored := p
	restored.Incarnation, restored.Seq = 2, 7 // the origin lost its end
	set(restored)
	want(restored)
	set(next) // of the incarnation before
	want(restored)
	q := journal.Position{Origin: "ca", Stream: to, Partition: 1, Incarnation: 1, Seq: 3}
	set(q)
	r := journal.Position{Origin: "sh", Stream: to, Partition: 0, Incarnation: 1, Seq: 3} // its own journal's commands
	set(r)
	all, err := s.Positions(ctx)
	if err != nil || !slices.Equal(all, []journal.Position{r, q, restored}) {
		t.Fatalf("positions are %+v, %v", all, err)
	}
	var recorded []journal.Position
	for _, b := range read(t, s, 1, journal.Full) {
		recorded = append(recorded, *b.Records[0].Position)
	}
	if !slices.Equal(recorded, []journal.Position{p, next, restored, q}) {
		t.Fatalf("the journal has the positions %+v", recorded)
	}
	for name, bad := range map[string]journal.Position{
		"replayed stream": {Origin: "hk", Stream: journal.Full, Seq: 1},
		"no stream":       {Origin: "hk", Stream: "x", Seq: 1},
		"no origin":       {Stream: to, Seq: 1},
		"partition":       {Origin: "hk", Stream: to, Partition: partitions, Seq: 1},
	} {
		t.Run(name, func(t *testing.T) { wantKind(t, s.SetPosition(ctx, bad), region.BadInput) })
	}
}
