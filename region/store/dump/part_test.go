package dump_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/dump"
)

// TestPartBytes pins what a part is on the wire: regions of two versions read each
// other's.
func TestPartBytes(t *testing.T) {
	s := openPebble(t, t.TempDir(), "sh")
	fill(t, s, 6)
	var have bytes.Buffer
	part := dump.Part{Partition: 1, Homes: []region.ID{"sh"}, Own: true, Journal: true}
	if err := dump.WritePart(ctx, &have, s, part); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "part.golden")
	if *update {
		if err := os.WriteFile(golden, have.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := must[[]byte](t)(os.ReadFile(golden)); !bytes.Equal(have.Bytes(), want) {
		t.Errorf("a part is %d bytes, the golden one %d, and they differ", have.Len(), len(want))
	}
}

// FuzzPart reads anything as a part: it is refused with a kind that says why, or
// its rows add up to its digests.
func FuzzPart(f *testing.F) {
	whole := must[[]byte](f)(os.ReadFile(filepath.Join("testdata", "part.golden")))
	part := dump.Part{Partition: 1, Homes: []region.ID{"sh"}, Own: true, Journal: true}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("HMGPART1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows := uint64(0)
		r, err := dump.OpenPart(bytes.NewReader(b), "sh", partitions, part)
		if err == nil {
			err = r.Rest(ctx, func(*dump.Row) error { rows++; return nil }, func(*journal.Batch) error { return nil })
		}
		if err != nil {
			if k := region.KindOf(err); k != region.BadInput && k != region.Unsupported {
				t.Fatalf("refused as %v: %v", k, err)
			}
			return
		}
		if w := r.State.Watermark("sh"); w.SharedRows+w.OwnRows != rows {
			t.Fatalf("%d rows pass for %d", rows, w.SharedRows+w.OwnRows)
		}
	})
}
