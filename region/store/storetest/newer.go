package storetest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// testReplayNewerKinds replays what a region that was upgraded first has written:
// records of kinds that this version does not know change nothing, hold up nobody,
// are reported, and are in the copy of the journal as they came.
func testReplayNewerKinds(t *testing.T, f Factory) {
	o, backup := origin("sh"), open(t, f, "hk")
	us := owners(1, 2)
	commit(t, o, batch(us[0], put(own, "a", "1"), put(shared, "s", "1")))
	o.AppendNewer(&journal.Batch{Owner: us[0], Home: "sh", Epoch: at(1), Records: []journal.Record{
		{Kind: 77, Opaque: []byte("for backups")}, {Kind: 177, Opaque: []byte("for everybody")}, {Kind: 255},
	}})
	o.AppendNewer(&journal.Batch{Records: []journal.Record{{Kind: 6, Opaque: []byte("of the partition")}}})
	commit(t, o, batch(us[0], put(own, "a", "2")))
	commit(t, o, batch(us[1], put(own, "b", "1"), put(shared, "s", "1")))
	if n, err := o.Watermark(ctx, 1); n != 1 || err != nil {
		t.Fatalf("Watermark: %d, %v", n, err)
	}
	full, everybody := read(t, o, 1, journal.Full), read(t, o, 1, journal.Shared)

	a := apply(t, backup, journal.Full, full...)
	wantApplied(t, a, len(full), 0, 5, 0)
	want := []store.Opaque{{Seq: 3, Kind: 77, Owner: us[0], Home: "sh"}, {Seq: 4, Kind: 177, Owner: us[0], Home: "sh"}, {Seq: 5, Kind: 255, Owner: us[0], Home: "sh"}, {Seq: 6, Kind: 6}}
	if !slices.Equal(a.Opaque, want) {
		t.Fatalf("reported are %+v, want %+v", a.Opaque, want)
	}
	wantRow(t, backup, us[0], own, "a", "a=2@2")
	wantRow(t, backup, us[1], own, "b", "b=1@1")
	kept, err := backup.Copy(ctx, "sh", 1, journal.Full, 1, 1<<20)
	if err != nil || len(kept) != len(full) {
		t.Fatalf("the copy has %d of %d batches, %v", len(kept), len(full), err)
	}
	for i := range kept {
		if !bytes.Equal(journal.Encode(kept[i]), journal.Encode(full[i])) {
			t.Fatalf("batch %d of the copy is %+v, was %+v", i, kept[i], full[i])
		}
	}
	// Whoever reads stream shared from the copy reads what the origin linked.
	passed, err := backup.Copy(ctx, "sh", 1, journal.Shared, 1, 1<<20)
	if err != nil || len(passed) != len(everybody) {
		t.Fatalf("the copy's stream shared has %d of %d batches, %v", len(passed), len(everybody), err)
	}
	a = apply(t, origin("ca"), journal.Shared, passed...)
	wantApplied(t, a, len(everybody), 0, 2, 0)
	if want := want[1:3]; !slices.Equal(a.Opaque, want) {
		t.Fatalf("of stream shared, reported are %+v, want %+v", a.Opaque, want)
	}
}
