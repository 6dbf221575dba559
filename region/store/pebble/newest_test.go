package pebble

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// TestNewestIsTheJournal reads every stream from every sequence, once from memory
// and once from Pebble, and wants the same; and the oldest batches gone from
// memory.
func TestNewestIsTheJournal(t *testing.T) {
	ctx := context.Background()
	s, err := Open(Options{Dir: "store", FS: vfs.NewMem(), MinFree: -1, Memory: 1 << 20, Region: "sh", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	const batches = 250
	for i := range batches {
		b := &store.Batch{Owner: region.UIN(1 + i%3), Home: "sh"}
		for j := range 1 + i%3 {
			table := journal.Table(7)
			if (i+j)%2 == 0 {
				table = 107
			}
			b.Writes = append(b.Writes, store.Write{Table: table, Row: []byte{byte(i), byte(j)}, Value: make([]byte, 700)})
		}
		if i%4 == 0 {
			b.Commands = append(b.Commands, journal.Command{ID: journal.CommandID{byte(i), 1}, To: []region.ID{"sh", "hk"}[i/4%2], Target: 9, Method: 1})
		}
		if _, err := s.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	p := s.parts[0]
	n := &p.newest
	oldest := n.entries[0].first
	if oldest == 1 || len(n.entries) < 20 || n.bytes > n.limit {
		t.Fatalf("memory begins at %d, with %d batches of %d bytes; the limit is %d", oldest, len(n.entries), n.bytes, n.limit)
	}
	next := s.Head(0).Next
	kept, read := n.entries, 0
	for _, name := range []journal.Stream{journal.Full, journal.Shared, journal.StreamTo("sh"), journal.StreamTo("hk")} {
		for from := uint64(1); from < next; from++ {
			for _, size := range []int{1, 4000, 1 << 20} {
				n.entries = kept
				if fast, err := p.recently(name, from, next, size); err != nil {
					t.Fatal(err)
				} else if fast != nil {
					read++
					if from < oldest {
						t.Fatalf("%s from %d comes from memory, which begins at %d", name, from, oldest)
					}
				}
				have, err := s.Journal(ctx, 0, name, from, size)
				if err != nil {
					t.Fatal(err)
				}
				n.entries = nil
				want, err := s.Journal(ctx, 0, name, from, size)
				if err != nil {
					t.Fatal(err)
				}
				if len(have) != len(want) {
					t.Fatalf("%s from %d, %d bytes: %d batches, Pebble has %d", name, from, size, len(have), len(want))
				}
				for i := range have {
					if string(journal.Encode(have[i])) != string(journal.Encode(want[i])) {
						t.Fatalf("%s from %d: batch %d differs", name, from, i)
					}
				}
			}
		}
	}
	if read == 0 {
		t.Error("nothing was read from memory")
	}
	// What is trimmed is not served from memory either.
	n.entries = kept
	if err := s.Trim(ctx, 0, next); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Journal(ctx, 0, journal.Full, oldest, 1<<20); region.KindOf(err) != region.NotFound {
		t.Errorf("a trimmed journal answers %v", err)
	}
}
