package dump_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/dump"
	"github.com/homing-im/homing/region/store/internal/partition"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/postgres"
)

// upgraded is a store whose partition 1 a newer program has written into last.
type upgraded struct {
	engine
	newer *journal.Batch
}

func (u *upgraded) Dump(ctx context.Context, id region.Partition, to partition.Sink) error {
	if id != 1 {
		return u.engine.Dump(ctx, id, to)
	}
	sink := &upgradedSink{Sink: to, newer: u.newer}
	if err := u.engine.Dump(ctx, id, sink); err != nil {
		return err
	}
	return sink.Sink.Batch(sink.newer.First(), journal.Encode(sink.newer))
}

type upgradedSink struct {
	partition.Sink
	newer *journal.Batch
}

func (s *upgradedSink) State(id region.Partition, st *partition.State) error {
	st = st.Clone()
	b := s.newer
	b.Origin, b.Partition, b.Incarnation, b.UnixMilli = "sh", id, st.Incarnation, st.UnixMilli
	for i := range b.Records {
		b.Records[i].Seq = st.Next
		st.Next++
	}
	for _, name := range journal.Streams(nil, b.Records) {
		i := slices.IndexFunc(st.Heads, func(h journal.StreamHead) bool { return h.Stream == name })
		link, head := journal.Next(st.Heads[i], journal.Filter(b, name))
		st.Heads[i] = head
		b.Links = append(b.Links, link)
	}
	return s.Sink.State(id, st)
}

// TestNewerJournal goes back to this version after a newer one has written
// records of its own: the region opens, serves on, and ships its whole journal,
// those records as they are.
func TestNewerJournal(t *testing.T) {
	origin := openPebble(t, t.TempDir(), "sh")
	user := owner(1)
	commit := func(s store.Store, value string) {
		t.Helper()
		must[store.Receipt](t)(s.Commit(ctx, &store.Batch{Owner: user, Home: "sh", Epoch: region.Epoch{Term: region.Term{Counter: 1}},
			Writes: []store.Write{{Table: 1, Row: []byte("s"), Value: []byte(value)}, {Table: 101, Row: []byte("o"), Value: []byte(value)}}}))
	}
	commit(origin, "before")
	newer := &journal.Batch{Owner: user, Home: "sh", Records: []journal.Record{{Kind: 77, Opaque: []byte("for backups")}, {Kind: 177, Opaque: []byte("for everybody")}}}
	b := write(t, &upgraded{origin, newer})
	check := func(t *testing.T, s engine) {
		commit(s, "after")
		must[int](t)(s.Watermark(ctx, 1))
		for stream, records := range map[journal.Stream]int{journal.Full: 7, journal.Shared: 4} {
			batches := must[[]*journal.Batch](t)(s.Journal(ctx, 1, stream, 1, 1<<20))
			head, n := journal.StreamHead{Stream: stream}, 0
			for _, b := range batches {
				var err error
				if head, err = journal.Follow(head, b); err != nil {
					t.Fatal(err)
				}
				n += len(b.Records)
			}
			if n != records {
				t.Errorf("stream %s has %d records, want %d", stream, n, records)
			}
			replica := openPebble(t, t.TempDir(), "hk")
			a := must[store.Applied](t)(replica.Apply(ctx, stream, batches))
			if len(a.Mismatches) > 0 || len(a.Opaque) != records/3 {
				t.Errorf("stream %s: a replica reports %+v", stream, a)
			}
		}
		// The journal can be written down, and read, again.
		if err := dumpIsWhole(write(t, s)); err != nil {
			t.Error(err)
		}
	}
	t.Run("pebble", func(t *testing.T) {
		dir := t.TempDir()
		read(t, b, must[*pebble.Loader](t)(pebble.Load(pebbleOptions(dir, "sh"))))
		check(t, openPebble(t, dir, "sh"))
	})
	t.Run("postgres", func(t *testing.T) {
		if err := pgtest.Available(); err != nil {
			t.Skip(err)
		}
		options := postgres.Options{DSNs: places(t, 1), Region: "sh", Partitions: partitions, Now: func() time.Time { return then }}
		l := must[*postgres.Loader](t)(postgres.Load(options))
		must[dump.Summary](t)(must[*dump.Reader](t)(dump.Open(bytes.NewReader(b))).CopyTo(ctx, l))
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
		s := must[*postgres.Store](t)(postgres.Open(options))
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		check(t, s)
	})
}

func dumpIsWhole(b []byte) error {
	r, err := dump.Open(bytes.NewReader(b))
	if err == nil {
		_, err = r.CopyTo(ctx, nil)
	}
	return err
}
