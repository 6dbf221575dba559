package mend_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/dump"
	"github.com/homing-im/homing/region/store/mend"
	"github.com/homing-im/homing/region/store/pebble"
)

const (
	partitions = 2

	shared journal.Table = 7
	own    journal.Table = 107
)

type engine interface {
	dump.Engine
	store.Mender
}

func open(t *testing.T, id region.ID) engine {
	s, err := pebble.Open(pebble.Options{Dir: t.TempDir(), Region: id, Partitions: partitions, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// owner returns the i-th owner of partition 0.
func owner(i int) region.UIN {
	for u := region.UIN(1000); ; u++ {
		if region.PartitionOf(u, partitions) == 0 {
			if i--; i < 0 {
				return u
			}
		}
	}
}

func put(t *testing.T, s store.Store, home region.ID, i int, table journal.Table, key, value string) {
	t.Helper()
	_, err := s.Commit(context.Background(), &store.Batch{Owner: owner(i), Home: home, Writes: []store.Write{{Table: table, Row: []byte(key), Value: []byte(value)}}})
	if err != nil {
		t.Fatal(err)
	}
}

// follow replays what the origin has written and the replica has not.
func follow(t *testing.T, from, to store.Store, name journal.Stream) store.Applied {
	t.Helper()
	ctx := context.Background()
	at, err := to.Position(ctx, from.Region(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	batches, err := from.Journal(ctx, 0, name, at.Seq+1, 64<<20)
	if err != nil || len(batches) == 0 {
		t.Fatalf("%d batches from %d on, %v", len(batches), at.Seq+1, err)
	}
	done, err := to.Apply(ctx, name, batches)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func run(t *testing.T, from, to engine, o mend.Options) (mend.Report, error) {
	t.Helper()
	part := o.Part(0, true)
	var body bytes.Buffer
	if err := dump.WritePart(context.Background(), &body, from, part); err != nil {
		t.Fatal(err)
	}
	r, err := dump.OpenPart(&body, from.Region(), partitions, part)
	if err != nil {
		t.Fatal(err)
	}
	return mend.Run(context.Background(), to, r, part, from.Region(), o)
}

func equal(t *testing.T, from, to engine, home region.ID) {
	t.Helper()
	if want, have := from.Sums(0, home), to.Sums(0, home); want != have {
		t.Errorf("sums of %s are %+v, at the origin %+v", home, have, want)
	}
	if differ, err := dump.Scan(context.Background(), to, 0); err != nil || len(differ) > 0 {
		t.Errorf("the replica's rows do not add up: %v, %v", differ, err)
	}
}

// TestBootstrap gives a replica that never was one everything, behind a journal
// that was trimmed; replay and copy go on from there.
func TestBootstrap(t *testing.T) {
	ctx := context.Background()
	sh, hk := open(t, "sh"), open(t, "hk")
	for i := range 300 {
		put(t, sh, "sh", i%40, shared, fmt.Sprint("a", i%7), fmt.Sprint("shared ", i))
		put(t, sh, "sh", i%40, own, fmt.Sprint("b", i), fmt.Sprint("own ", i))
	}
	if err := sh.Trim(ctx, 0, sh.Head(0).Next-20); err != nil {
		t.Fatal(err)
	}
	r, err := run(t, sh, hk, mend.Options{Stream: journal.Full, Homes: []region.ID{"sh"}, Careful: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(300 + 280); r.Missing != want || r.Rows != want || r.Owners != 40 || r.Kept+r.Surplus > 0 || r.Position != 600 {
		t.Errorf("%+v, want %d rows of 40 owners missing", r, want)
	}
	equal(t, sh, hk, "sh")
	kept, err := hk.Copy(ctx, "sh", 0, journal.Full, sh.Head(0).First, 64<<20)
	if err != nil || len(kept) == 0 || kept[len(kept)-1].Last() != 600 {
		t.Errorf("%d batches are kept, %v", len(kept), err)
	}
	put(t, sh, "sh", 3, own, "b3", "again")
	if _, err := sh.Watermark(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if done := follow(t, sh, hk, journal.Full); len(done.Mismatches) > 0 || done.Rows != 1 {
		t.Errorf("replay behind it: %+v", done)
	}
	equal(t, sh, hk, "sh")
	if r, err := run(t, sh, hk, mend.Options{Stream: journal.Full, Homes: []region.ID{"sh"}, Try: true}); err != nil || !r.Equal() {
		t.Errorf("%+v, %v, want no difference", r, err)
	}
}

// TestParted mends a replica that has another history, by the operator's will and
// carefully.
func TestParted(t *testing.T) {
	for _, careful := range []bool{false, true} {
		t.Run(fmt.Sprint("careful ", careful), func(t *testing.T) {
			was, sh, hk := open(t, "sh"), open(t, "sh"), open(t, "hk")
			for i := range 10 {
				put(t, was, "sh", i, shared, "row", "as it was")
				put(t, sh, "sh", i, shared, "row", "as it was")
			}
			put(t, was, "sh", 1, shared, "row", "newer") // what the restored region has lost
			put(t, was, "sh", 2, own, "lost", "lost")
			put(t, was, "sh", 3, own, "both", "one")
			put(t, hk, "hk", 1, shared, "hk's", "own business")
			follow(t, was, hk, journal.Full)
			put(t, sh, "sh", 3, own, "both", "two")
			put(t, sh, "sh", 4, own, "new", "new")
			put(t, sh, "sh", 5, shared, "row", "changed")
			r, err := run(t, sh, hk, mend.Options{Stream: journal.Full, Homes: []region.ID{"sh"}, Careful: careful})
			if err != nil {
				t.Fatal(err)
			}
			if r.Newer != 1 || r.Surplus != 1 || r.Other != 1 || r.Missing != 1 || r.Older != 1 || r.Owners != 5 {
				t.Errorf("%+v, want one of each", r)
			}
			get := func(i int, table journal.Table, key string) store.Row {
				row, err := hk.Get(context.Background(), owner(i), table, []byte(key))
				if err != nil {
					t.Fatal(err)
				}
				return row
			}
			newer, lost := get(1, shared, "row"), get(2, own, "lost")
			if careful {
				if r.Kept != 3 || string(newer.Value) != "newer" || lost.Version != 1 {
					t.Errorf("%+v: newer %q, surplus at version %d: a careful mending keeps them", r, newer.Value, lost.Version)
				}
				if differ, err := dump.Scan(context.Background(), hk, 0); err != nil || len(differ) > 0 {
					t.Errorf("the replica's rows do not add up: %v, %v", differ, err)
				}
				return
			}
			if string(newer.Value) != "as it was" || lost.Version != 0 {
				t.Errorf("newer %q, surplus at version %d: they have to go", newer.Value, lost.Version)
			}
			equal(t, sh, hk, "sh")
			put(t, sh, "sh", 2, own, "lost", "written after all") // the erased row comes back as a new one
			put(t, sh, "sh", 2, own, "lost", "twice")
			if done := follow(t, sh, hk, journal.Full); len(done.Mismatches) > 0 {
				t.Errorf("replay behind it: %+v", done)
			}
			equal(t, sh, hk, "sh")
			if row := get(1, shared, "hk's"); string(row.Value) != "own business" {
				t.Errorf("the region's own row is %q", row.Value)
			}
		})
	}
}

// TestCutOff tries every length of a part: nothing that was cut off or damaged
// moves the position.
func TestCutOff(t *testing.T) {
	sh, hk := open(t, "sh"), open(t, "hk")
	for i := range 20 {
		put(t, sh, "sh", i, shared, "row", "value")
	}
	o := mend.Options{Stream: journal.Shared, Homes: []region.ID{"sh"}}
	part := o.Part(0, false)
	var body bytes.Buffer
	if err := dump.WritePart(context.Background(), &body, sh, part); err != nil {
		t.Fatal(err)
	}
	whole := body.Bytes()
	try := func(b []byte) error {
		r, err := dump.OpenPart(bytes.NewReader(b), "sh", partitions, part)
		if err == nil {
			_, err = mend.Run(context.Background(), hk, r, part, "sh", o)
		}
		return err
	}
	for n := range whole {
		if err := try(whole[:n]); err == nil {
			t.Fatalf("%d bytes of %d pass for a part", n, len(whole))
		}
		bad := bytes.Clone(whole)
		bad[n] ^= 0x40
		if err := try(bad); err == nil {
			t.Fatalf("a part whose byte %d is damaged passes", n)
		}
	}
	if at, err := hk.Position(context.Background(), "sh", journal.Shared, 0); err != nil || at.Seq != 0 {
		t.Errorf("the position is %d, %v, before any part was whole", at.Seq, err)
	}
	if err := try(whole); err != nil {
		t.Fatal(err)
	}
	if at, err := hk.Position(context.Background(), "sh", journal.Shared, 0); err != nil || at.Seq != 20 {
		t.Errorf("the position is %d, %v", at.Seq, err)
	}
	equal(t, sh, hk, "sh")
}

// TestOwnRows refuses to have a region's own rows mended by another one.
func TestOwnRows(t *testing.T) {
	sh, hk := open(t, "sh"), open(t, "hk")
	put(t, sh, "sh", 1, shared, "row", "by sh")
	put(t, hk, "sh", 1, shared, "row", "by hk, which has no right to")
	put(t, hk, "sh", 1, shared, "row", "again")
	_, err := run(t, hk, sh, mend.Options{Stream: journal.Full, Homes: []region.ID{"sh"}})
	if region.KindOf(err) != region.Conflict {
		t.Errorf("%v, want a conflict", err)
	}
}
