package storetest

import (
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// testTwin makes the same random calls on an engine and on Memory, and compares
// every answer, every stream byte by byte, and the sums.
func testTwin(t *testing.T, place func(t testing.TB) Factory) {
	rapid.Check(t, func(r *rapid.T) {
		f := place(t)
		d := &duel{t: r, factory: f, tb: t, origins: map[region.ID]*Memory{"hk": origin("hk"), "ca": origin("ca")}}
		d.engine = f(t, d.config())
		d.twin = NewMemory(d.config())
		defer func() { _ = d.engine.Close() }()
		for range rapid.IntRange(1, 60).Draw(r, "calls") {
			d.call()
		}
		d.compare()
	})
}

type duel struct {
	t       *rapid.T
	tb      testing.TB
	factory Factory
	engine  store.Store
	twin    *Memory
	origins map[region.ID]*Memory
}

func (d *duel) config() Config { return Config{Region: "sh", Partitions: partitions, Now: clock()} }

// same compares two answers; of errors it compares the kind, or the whole when
// it is a gap.
func (d *duel) same(what string, got, want any, gotErr, wantErr error) {
	d.t.Helper()
	flat := func(err error) string {
		if g, ok := err.(*store.Gap); ok {
			return fmt.Sprintf("gap %+v", *g)
		}
		return region.KindOf(err).String()
	}
	if flat(gotErr) != flat(wantErr) {
		d.t.Fatalf("%s: error %v, the twin's is %v", what, gotErr, wantErr)
	}
	if gotErr == nil && !reflect.DeepEqual(got, want) && fmt.Sprint(got) != fmt.Sprint(want) {
		d.t.Fatalf("%s:\n%+v, the twin's is\n%+v", what, got, want)
	}
}

func (d *duel) call() {
	switch rapid.IntRange(0, 11).Draw(d.t, "call") {
	case 0, 1, 2, 3, 4:
		b := d.batch()
		got, gotErr := d.engine.Commit(ctx, b)
		want, wantErr := d.twin.Commit(ctx, b)
		d.same("Commit", got, want, gotErr, wantErr)
	case 5:
		o := d.origins[rapid.SampledFrom([]region.ID{"hk", "ca"}).Draw(d.t, "origin")]
		b := d.batch()
		_, _ = o.Commit(ctx, b)
		if rapid.Bool().Draw(d.t, "mark") {
			_, _ = o.Watermark(ctx, region.PartitionOf(b.Owner, partitions))
		}
	case 6, 7:
		d.replay()
	case 8:
		p := d.partition()
		got, gotErr := d.engine.Watermark(ctx, p)
		want, wantErr := d.twin.Watermark(ctx, p)
		d.same("Watermark", got, want, gotErr, wantErr)
	case 9:
		at := journal.Position{
			Origin: rapid.SampledFrom([]region.ID{"hk", "sh"}).Draw(d.t, "origin"), Stream: journal.StreamTo("sh"), Partition: d.partition(),
			Incarnation: rapid.Uint64Range(1, 2).Draw(d.t, "incarnation"), Seq: rapid.Uint64Range(1, 9).Draw(d.t, "seq"),
		}
		d.same("SetPosition", 0, 0, d.engine.SetPosition(ctx, at), d.twin.SetPosition(ctx, at))
	case 10:
		p, before := d.partition(), rapid.Uint64Range(0, 30).Draw(d.t, "before")
		d.same("Trim", 0, 0, d.engine.Trim(ctx, p, before), d.twin.Trim(ctx, p, before))
	case 11:
		if rapid.IntRange(0, 3).Draw(d.t, "reopen") == 0 {
			if err := d.engine.Close(); err != nil {
				d.t.Fatalf("Close: %v", err)
			}
			_ = d.twin.Close()
			now := clock()
			d.engine = d.factory(d.tb, d.config())
			d.twin = d.twin.Reopen(now)
		} else {
			home, n := d.home(), term(rapid.Uint64Range(0, 2).Draw(d.t, "term"))
			d.same("Fence", 0, 0, d.engine.Fence(ctx, home, n), d.twin.Fence(ctx, home, n))
		}
	}
}

// replay applies a piece of an origin's stream, which may repeat or skip.
func (d *duel) replay() {
	o := d.origins[rapid.SampledFrom([]region.ID{"hk", "ca"}).Draw(d.t, "origin")]
	stream := rapid.SampledFrom([]journal.Stream{journal.Full, journal.Shared}).Draw(d.t, "stream")
	p := d.partition()
	batches, err := o.Journal(ctx, p, stream, 1, 1<<20)
	if err != nil {
		d.t.Fatal(err)
	}
	at, err := d.twin.Position(ctx, o.Region(), stream, p)
	if err != nil {
		d.t.Fatal(err)
	}
	next := 0
	for next < len(batches) && batches[next].Last() <= at.Seq {
		next++
	}
	from := max(0, min(len(batches), next+rapid.SampledFrom([]int{0, 0, 0, -1, -3, 1}).Draw(d.t, "from")))
	to := rapid.IntRange(from, len(batches)).Draw(d.t, "to")
	got, gotErr := d.engine.Apply(ctx, stream, batches[from:to])
	want, wantErr := d.twin.Apply(ctx, stream, batches[from:to])
	d.same("Apply", got, want, gotErr, wantErr)
}

func (d *duel) partition() region.Partition {
	return region.Partition(rapid.IntRange(0, partitions-1).Draw(d.t, "partition"))
}

func (d *duel) home() region.ID {
	return rapid.SampledFrom([]region.ID{"sh", "sh", "hk"}).Draw(d.t, "home")
}

func (d *duel) batch() *store.Batch {
	p := region.Partition(rapid.IntRange(0, 1).Draw(d.t, "partition")) // few, so that things meet
	b := &store.Batch{Owner: owners(p, 2)[rapid.IntRange(0, 1).Draw(d.t, "owner")], Home: d.home()}
	b.Epoch = region.Epoch{Moves: rapid.Uint64Range(0, 1).Draw(d.t, "moves"), Term: term(rapid.Uint64Range(1, 3).Draw(d.t, "term"))}
	for range rapid.IntRange(0, 4).Draw(d.t, "writes") {
		w := store.Write{
			Table: rapid.SampledFrom([]journal.Table{shared, own, local}).Draw(d.t, "table"),
			Row:   []byte(rapid.SampledFrom([]string{"", "a", "b", "b\x00", "\xff"}).Draw(d.t, "row")),
		}
		if w.Delete = rapid.IntRange(0, 3).Draw(d.t, "delete") == 0; !w.Delete {
			w.Value = []byte(rapid.StringN(0, 5, -1).Draw(d.t, "value"))
		}
		switch rapid.IntRange(0, 9).Draw(d.t, "expect") {
		case 0:
			w.Expect = store.Absent()
		case 1:
			w.Expect = store.AtVersion(rapid.Uint64Range(0, 3).Draw(d.t, "version"))
		}
		b.Writes = append(b.Writes, w)
	}
	for range rapid.IntRange(0, 2).Draw(d.t, "commands") {
		b.Commands = append(b.Commands, command(rapid.SampledFrom([]region.ID{"hk", "ca", "sh"}).Draw(d.t, "to"), rapid.Byte().Draw(d.t, "id")))
	}
	return b
}

// compare looks at everything there is to see.
func (d *duel) compare() {
	for p := range region.Partition(partitions) {
		got, want := d.engine.Head(p), d.twin.Head(p)
		d.same("Head", got, want, nil, nil)
		for _, home := range []region.ID{"sh", "hk", "ca"} {
			d.same("Sums", d.engine.Sums(p, home), d.twin.Sums(p, home), nil, nil)
		}
		for _, s := range []journal.Stream{journal.Full, journal.Shared, journal.StreamTo("hk"), journal.StreamTo("ca"), journal.StreamTo("sh")} {
			for from := uint64(1); from <= got.Next; from++ {
				a, errA := d.engine.Journal(ctx, p, s, from, 1<<20)
				b, errB := d.twin.Journal(ctx, p, s, from, 1<<20)
				d.same(fmt.Sprintf("Journal %s from %d", s, from), bytesOf(a), bytesOf(b), errA, errB)
			}
		}
		for _, u := range owners(p, 2) {
			for _, table := range []journal.Table{shared, own, local} {
				for _, r := range []store.Range{{Deleted: true}, {Reverse: true}, {From: []byte("a"), To: []byte("b\x00"), Limit: 2}} {
					d.same("Scan", rowsOf(d.t, d.engine, u, table, r), rowsOf(d.t, d.twin, u, table, r), nil, nil)
				}
			}
		}
	}
	a, errA := d.engine.Positions(ctx)
	b, errB := d.twin.Positions(ctx)
	d.same("Positions", a, b, errA, errB)
}

func bytesOf(batches []*journal.Batch) []string {
	all := []string{}
	for _, b := range batches {
		all = append(all, string(journal.Encode(b)))
	}
	return all
}

func rowsOf(t *rapid.T, s store.Store, u region.UIN, table journal.Table, r store.Range) []string {
	all := []string{}
	err := s.Scan(ctx, u, table, r, func(r *store.Row) bool {
		all = append(all, fmt.Sprintf("%s %s", show(r), r.Epoch))
		return true
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return all
}
