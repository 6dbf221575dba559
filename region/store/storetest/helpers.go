package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Tables of each class.
const (
	shared journal.Table = 7
	own    journal.Table = 107
	local  journal.Table = 207
)

const partitions = 4

var ctx = context.Background()

// term makes the n-th term of a home.
func term(n uint64) region.Term { return region.Term{Counter: n, Raised: region.ShortHash{byte(n)}} }

func at(n uint64) region.Epoch { return region.Epoch{Term: term(n)} }

// owners returns n owners of one partition.
func owners(p region.Partition, n int) []region.UIN {
	var us []region.UIN
	for u := region.UIN(1); len(us) < n; u++ {
		if region.PartitionOf(u, partitions) == p {
			us = append(us, u)
		}
	}
	return us
}

func open(t testing.TB, f Factory, self region.ID) store.Store {
	t.Helper()
	s := f(t, Config{Region: self, Partitions: partitions, Now: clock()})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func put(t journal.Table, row, value string) store.Write {
	return store.Write{Table: t, Row: []byte(row), Value: []byte(value)}
}

func del(t journal.Table, row string) store.Write {
	return store.Write{Table: t, Row: []byte(row), Delete: true}
}

func command(to region.ID, id byte) journal.Command {
	return journal.Command{ID: journal.CommandID{id}, To: to, Target: 99, Method: 3, Payload: []byte{id, id}}
}

func batch(owner region.UIN, writes ...store.Write) *store.Batch {
	return &store.Batch{Owner: owner, Home: "sh", Epoch: at(1), Writes: writes}
}

func commit(t testing.TB, s store.Store, b *store.Batch) store.Receipt {
	t.Helper()
	r, err := s.Commit(ctx, b)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return r
}

func get(t testing.TB, s store.Store, owner region.UIN, table journal.Table, row string) store.Row {
	t.Helper()
	r, err := s.Get(ctx, owner, table, []byte(row))
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return r
}

// show writes a row as "row=value@version", "-row@version" for a tombstone and
// "row?" for one never written.
func show(r *store.Row) string {
	switch {
	case r.Version == 0:
		return string(r.Row) + "?"
	case r.Deleted:
		return fmt.Sprintf("-%s@%d", r.Row, r.Version)
	}
	return fmt.Sprintf("%s=%s@%d", r.Row, r.Value, r.Version)
}

func wantRow(t testing.TB, s store.Store, owner region.UIN, table journal.Table, row, want string) {
	t.Helper()
	r := get(t, s, owner, table, row)
	if got := show(&r); got != want || r.Table != table {
		t.Fatalf("row of table %d is %s, want %s of table %d", r.Table, got, want, table)
	}
}

func scan(t testing.TB, s store.Store, owner region.UIN, table journal.Table, r store.Range) []string {
	t.Helper()
	rows := []string{}
	err := s.Scan(ctx, owner, table, r, func(r *store.Row) bool {
		rows = append(rows, show(r))
		return true
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return rows
}

func wantKind(t testing.TB, err error, want region.Kind) {
	t.Helper()
	var e *region.Error
	if !errors.As(err, &e) || e.Kind != want {
		t.Fatalf("error is %v (%v), want kind %v", err, region.KindOf(err), want)
	}
}

// read returns the whole stream of a partition, and fails when the links do not
// hold or the head is not where they lead.
func read(t testing.TB, s store.Store, p region.Partition, stream journal.Stream) []*journal.Batch {
	t.Helper()
	var all []*journal.Batch
	head := journal.StreamHead{Stream: stream}
	for {
		batches, err := s.Journal(ctx, p, stream, head.Last+1, 1000)
		if err != nil {
			t.Fatalf("Journal(%d, %s, %d): %v", p, stream, head.Last+1, err)
		}
		if len(batches) == 0 {
			break
		}
		for _, b := range batches {
			if head, err = journal.Follow(head, b); err != nil {
				t.Fatalf("partition %d: %v", p, err)
			}
			if b.Origin != s.Region() || b.Partition != p || b.Links[0].Stream != stream || len(b.Links) != 1 && stream != journal.Full {
				t.Fatalf("batch %d is of %s/%d with %d links, want %s/%d with its own", b.First(), b.Origin, b.Partition, len(b.Links), s.Region(), p)
			}
		}
		all = append(all, batches...)
	}
	want := journal.StreamHead{Stream: stream}
	for _, h := range s.Head(p).Streams {
		if h.Stream == stream {
			want = h
		}
	}
	if head != want {
		t.Fatalf("stream %s of partition %d ends at %+v, its head says %+v", stream, p, head, want)
	}
	return all
}

// recompute sums up the rows of owners, as a watermark of their home would.
func recompute(t testing.TB, s store.Store, home region.ID, owners ...region.UIN) journal.Watermark {
	t.Helper()
	w := journal.Watermark{Home: home}
	for _, u := range owners {
		for _, table := range []journal.Table{shared, own} {
			err := s.Scan(ctx, u, table, store.Range{Deleted: true, Limit: 1 << 20}, func(r *store.Row) bool {
				sum := journal.RowSum(u, r.Table, r.Row, r.Version, r.Epoch, r.Deleted, r.Value)
				if table == shared {
					w.SharedSum, w.SharedRows = w.SharedSum.Add(sum), w.SharedRows+1
				} else {
					w.OwnSum, w.OwnRows = w.OwnSum.Add(sum), w.OwnRows+1
				}
				return true
			})
			if err != nil {
				t.Fatalf("Scan: %v", err)
			}
		}
	}
	return w
}
