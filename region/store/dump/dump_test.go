package dump_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/lib/pq"
	"go.uber.org/goleak"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/dump"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ctx    = context.Background()
	update = flag.Bool("update", false, "write golden files anew")
	then   = time.UnixMilli(1_700_000_000_000)
)

const partitions = 4

// engine is a store that can be dumped.
type engine interface {
	store.Store
	dump.Source
}

func pebbleOptions(dir string, self region.ID) pebble.Options {
	return pebble.Options{Dir: dir, Region: self, Partitions: partitions, Now: func() time.Time { return then }}
}

func openPebble(t testing.TB, dir string, self region.ID) *pebble.Store {
	t.Helper()
	s, err := pebble.Open(pebbleOptions(dir, self))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// fill writes something of everything: all classes, tombstones, commands, rows of
// another home, replayed rows, positions, watermarks, a fence, and a journal whose
// beginning was trimmed.
func fill(t testing.TB, s store.Store, owners region.UIN) {
	t.Helper()
	origin := openPebble(t, t.TempDir(), "hk")
	for u := region.UIN(1); u <= owners; u++ {
		b := &store.Batch{Owner: 1000 + u, Home: "hk", Epoch: region.Epoch{Term: region.Term{Counter: 1}}, Writes: []store.Write{{Table: 5, Row: []byte("o"), Value: []byte("of hk")}}}
		must[store.Receipt](t)(origin.Commit(ctx, b))
	}
	for u := region.UIN(1); u <= owners; u++ {
		b := &store.Batch{Owner: u, Home: "sh", Epoch: region.Epoch{Moves: uint64(u % 3), Term: region.Term{Counter: 1, Raised: region.ShortHash{7}}}}
		for i := range 6 {
			row := fmt.Appendf(nil, "%c%d\x00\xff", 'a'+i, u)
			b.Writes = append(b.Writes, store.Write{Table: []journal.Table{1, 99, 100, 199, 200, 255}[i], Row: row, Value: bytes.Repeat(row, int(u))})
		}
		b.Writes = append(b.Writes, store.Write{Table: 101, Row: nil, Value: nil})
		if u%4 == 0 {
			b.Commands = []journal.Command{{ID: journal.CommandID{byte(u)}, To: "hk", Target: 9, Method: 2, Payload: []byte("do")}, {ID: journal.CommandID{byte(u), 1}, To: "ca", Payload: []byte("this")}}
		}
		must[store.Receipt](t)(s.Commit(ctx, b))
		if u%5 == 0 {
			d := &store.Batch{Owner: u, Home: "hk", Epoch: b.Epoch, Writes: []store.Write{{Table: 1, Row: b.Writes[0].Row, Delete: true}}}
			must[store.Receipt](t)(s.Commit(ctx, d))
		}
	}
	for p := range region.Partition(partitions) {
		must[int](t)(s.Watermark(ctx, p))
		batches := must[[]*journal.Batch](t)(origin.Journal(ctx, p, journal.Full, 1, 1<<20))
		must[store.Applied](t)(s.Apply(ctx, journal.Full, batches))
		if err := s.SetPosition(ctx, journal.Position{Origin: "ca", Stream: journal.StreamTo("sh"), Partition: p, Incarnation: 2, Seq: 77, Chain: journal.Sum{1}, UnixMilli: -5}); err != nil {
			t.Fatal(err)
		}
	}
	takeover := store.Handover{TermRecord: journal.TermRecord{Home: "hk", Term: region.Term{Counter: 3}, What: store.Takeover}}
	takeover.Before = "hk"
	if err := errors.Join(s.Fence(ctx, "hk", takeover.Term), s.Handover(ctx, 3, takeover)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Trim(ctx, 1, 20), s.Trim(ctx, 2, s.Head(2).Next), s.Fence(ctx, "sh", region.Term{Counter: 1, Raised: region.ShortHash{7}})); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, s engine) []byte {
	t.Helper()
	var out bytes.Buffer
	must[dump.Summary](t)(dump.Write(ctx, &out, s, false, then))
	return out.Bytes()
}

// read puts a dump into a loader, and commits it.
func read(t testing.TB, b []byte, l *pebble.Loader) dump.Summary {
	t.Helper()
	s := must[dump.Summary](t)(must[*dump.Reader](t)(dump.Open(bytes.NewReader(b))).CopyTo(ctx, l))
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	return s
}

// same compares everything that the contract shows of two stores. Incarnations
// are raised by so many.
func same(t *testing.T, a, b engine, raised uint64) {
	t.Helper()
	for p := range region.Partition(partitions) {
		ha, hb := a.Head(p), b.Head(p)
		ha.Incarnation += raised
		if fmt.Sprint(ha) != fmt.Sprint(hb) {
			t.Errorf("partition %d: heads\n%+v\n%+v", p, ha, hb)
		}
		for _, home := range []region.ID{"sh", "hk"} {
			if x, y := a.Sums(p, home), b.Sums(p, home); x != y || x.SharedRows == 0 {
				t.Errorf("partition %d: digests of %s\n%+v\n%+v", p, home, x, y)
			}
		}
	}
	if x, y := a.Turns(3), b.Turns(3); fmt.Sprint(x) != fmt.Sprint(y) || len(x) == 0 {
		t.Errorf("turns\n%+v\n%+v", x, y)
	}
	x, y := must[[]journal.Position](t)(a.Positions(ctx)), must[[]journal.Position](t)(b.Positions(ctx))
	if fmt.Sprint(x) != fmt.Sprint(y) || len(x) == 0 {
		t.Errorf("positions\n%+v\n%+v", x, y)
	}
	// Rows, journals and copies byte by byte: those of a dump, whose states have
	// been compared.
	if x, y := blocks(t, write(t, a)), blocks(t, write(t, b)); x != y {
		t.Errorf("the rows, journals or copies differ: %d and %d bytes of them", len(x), len(y))
	}
}

// blocks returns the bodies of a dump's rows, journals and copies.
func blocks(t *testing.T, b []byte) string {
	t.Helper()
	var all strings.Builder
	kinds := map[byte]int{}
	for b = b[8:]; len(b) > 0; {
		n := binary.BigEndian.Uint32(b[1:])
		kinds[b[0]]++
		if b[0] >= 3 && b[0] <= 5 {
			all.Write(b[:5+n])
		}
		b = b[5+n+4:]
	}
	for kind := byte(3); kind <= 5; kind++ {
		if kinds[kind] == 0 {
			t.Errorf("the dump has no blocks of kind %d", kind)
		}
	}
	return all.String()
}

// TestMove takes a region from Pebble to PostgreSQL and back, and goes on with
// its traffic after each step.
func TestMove(t *testing.T) {
	first := openPebble(t, filepath.Join(t.TempDir(), "a"), "sh")
	fill(t, first, 40)
	b := write(t, first)

	// Pebble to Pebble: always, with or without a server.
	copied := filepath.Join(t.TempDir(), "copy")
	s := read(t, b, must[*pebble.Loader](t)(pebble.Load(pebbleOptions(copied, "sh"))))
	if s.Region != "sh" || s.Partitions != partitions || s.InUse || s.Rows < 300 || s.Batches < 40 || s.Bytes != uint64(len(b)) || !s.Time.Equal(then) {
		t.Errorf("summary %+v of %d bytes", s, len(b))
	}
	second := openPebble(t, copied, "sh")
	same(t, first, second, 1)
	traffic(t, second)

	if err := pgtest.Available(); err != nil {
		t.Skip(err)
	}
	options := postgres.Options{DSNs: places(t, 2), Region: "sh", Partitions: partitions, Now: func() time.Time { return then }}
	load := func(b []byte) (*postgres.Loader, error) {
		l, err := postgres.Load(options)
		if err == nil {
			_, err = must[*dump.Reader](t)(dump.Open(bytes.NewReader(b))).CopyTo(ctx, l)
		}
		return l, err
	}
	// Half of a dump is served by nobody, and does not hinder the whole one.
	l, err := load(b[:len(b)/2])
	if region.KindOf(err) != region.BadInput {
		t.Fatalf("half a dump: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.Open(options); region.KindOf(err) != region.Conflict {
		t.Errorf("databases with half of a store are opened: %v", err)
	}
	if l, err = load(b); err == nil {
		err = l.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.Load(options); region.KindOf(err) != region.Conflict {
		t.Errorf("a store is loaded over: %v", err)
	}
	third := must[*postgres.Store](t)(postgres.Open(options))
	defer func() {
		if err := third.Close(); err != nil {
			t.Error(err)
		}
	}()
	same(t, first, third, 1)
	traffic(t, third)

	back := filepath.Join(t.TempDir(), "b")
	read(t, write(t, third), must[*pebble.Loader](t)(pebble.Load(pebbleOptions(back, "sh"))))
	fourth := openPebble(t, back, "sh")
	same(t, third, fourth, 1)
	if h := fourth.Head(0); h.Incarnation != 3 {
		t.Errorf("after two moves the incarnation is %d", h.Incarnation)
	}
	traffic(t, fourth)
}

// traffic writes on, and has a replica follow from the first record on where the
// journal still has it.
func traffic(t *testing.T, s engine) {
	t.Helper()
	for u := region.UIN(1); u <= 40; u++ {
		r := must[store.Row](t)(s.Get(ctx, u, 99, fmt.Appendf(nil, "b%d\x00\xff", u)))
		if r.Version == 0 || len(r.Value) == 0 {
			t.Fatalf("owner %d has lost a row: %+v", u, r)
		}
		old := &store.Batch{Owner: u, Home: "sh", Epoch: region.Epoch{}, Writes: []store.Write{{Table: 99, Row: r.Row}}}
		if _, err := s.Commit(ctx, old); region.KindOf(err) != region.Unavailable {
			t.Fatalf("the fence is gone: %v", err)
		}
		b := &store.Batch{Owner: u, Home: "sh", Epoch: region.Epoch{Term: region.Term{Counter: 2}}, Writes: []store.Write{
			{Table: 99, Row: r.Row, Value: []byte("on"), Expect: store.AtVersion(r.Version)}, {Table: 101, Row: []byte("new"), Value: []byte("x")},
		}}
		must[store.Receipt](t)(s.Commit(ctx, b))
	}
	replica := openPebble(t, t.TempDir(), "ca")
	for p := range region.Partition(partitions) {
		must[int](t)(s.Watermark(ctx, p))
		if s.Head(p).First > 1 {
			continue
		}
		batches := must[[]*journal.Batch](t)(s.Journal(ctx, p, journal.Full, 1, 64<<20))
		if a := must[store.Applied](t)(replica.Apply(ctx, journal.Full, batches)); a.Batches != len(batches) || a.Position.Incarnation != s.Head(p).Incarnation {
			t.Errorf("partition %d: a replica applied %+v of %d batches", p, a, len(batches))
		}
	}
}

// places makes n empty databases, which are schemas, on a server of the test.
func places(t *testing.T, n int) (dsns []string) {
	t.Helper()
	pg := must[*pgtest.Server](t)(pgtest.New(pgtest.Memory()))
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(must[*pq.Connector](t)(pq.NewConnector(pg.DSN())))
	defer func() { _ = db.Close() }()
	for i := range n {
		schema := fmt.Sprintf("place_%d", i)
		must[sql.Result](t)(db.Exec(`CREATE SCHEMA ` + schema))
		dsns = append(dsns, pg.DSN()+" search_path="+schema)
	}
	return dsns
}

// TestRefuses cuts a dump off everywhere and changes it everywhere: it is refused,
// and what was loaded until then is served by nobody.
func TestRefuses(t *testing.T) {
	s := openPebble(t, t.TempDir(), "sh")
	must[store.Receipt](t)(s.Commit(ctx, &store.Batch{Owner: 7, Home: "sh", Writes: []store.Write{{Table: 1, Row: []byte("a"), Value: []byte("b")}}}))
	b := write(t, s)
	check := func(b []byte) error {
		r, err := dump.Open(iotest.HalfReader(bytes.NewReader(b)))
		if err == nil {
			_, err = r.CopyTo(ctx, nil)
		}
		return err
	}
	if err := check(b); err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if err := check(b[:n]); region.KindOf(err) != region.BadInput || strings.Contains(err.Error(), "\n") {
			t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
		}
		bad := bytes.Clone(b)
		bad[n] ^= 0x20
		if err := check(bad); region.KindOf(err) != region.BadInput && region.KindOf(err) != region.Unsupported {
			t.Fatalf("byte %d changed: %v", n, err)
		}
	}
	if err := check(append(bytes.Clone(b), 0)); region.KindOf(err) != region.BadInput {
		t.Errorf("one byte more: %v", err)
	}
	broken := errors.New("the disk broke")
	r, err := dump.Open(io.MultiReader(bytes.NewReader(b[:60]), iotest.ErrReader(broken)))
	if err == nil {
		_, err = r.CopyTo(ctx, nil)
	}
	if !errors.Is(err, broken) {
		t.Errorf("a reader's error becomes %v", err)
	}

	small := pebbleOptions(filepath.Join(t.TempDir(), "small"), "sh")
	small.MinFree = 1 << 60
	if _, err := pebble.Load(small); region.KindOf(err) != region.Unavailable {
		t.Errorf("with too little room: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "half")
	l := must[*pebble.Loader](t)(pebble.Load(pebbleOptions(dir, "sh")))
	if _, err := pebble.Load(pebbleOptions(dir, "sh")); region.KindOf(err) != region.Unavailable {
		t.Errorf("two loaders of a directory: %v", err)
	}
	if _, err := must[*dump.Reader](t)(dump.Open(bytes.NewReader(b[:len(b)-1]))).CopyTo(ctx, l); err == nil {
		t.Fatal("a dump without its end is accepted")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pebble.Open(pebbleOptions(dir, "sh")); region.KindOf(err) != region.Conflict {
		t.Errorf("half of a store is opened: %v", err)
	}
	read(t, b, must[*pebble.Loader](t)(pebble.Load(pebbleOptions(dir, "sh"))))
	if _, err := pebble.Load(pebbleOptions(dir, "sh")); region.KindOf(err) != region.Conflict {
		t.Errorf("a store is loaded over: %v", err)
	}
	same1 := openPebble(t, dir, "sh")
	if r := must[store.Row](t)(same1.Get(ctx, 7, 1, []byte("a"))); string(r.Value) != "b" {
		t.Errorf("the row is %+v", r)
	}
}

// TestUnderTraffic dumps a store that is written to: every partition is whole as
// of one moment, by its digests and its chain.
func TestUnderTraffic(t *testing.T) {
	s := openPebble(t, t.TempDir(), "sh")
	fill(t, s, 40)
	stop, stopped := make(chan struct{}), make(chan int)
	started := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- i
				return
			default:
			}
			b := &store.Batch{Owner: region.UIN(1 + i%40), Home: "sh", Epoch: region.Epoch{Term: region.Term{Counter: 2}}, Writes: []store.Write{{Table: 102, Row: []byte("n"), Value: fmt.Append(nil, i)}, {Table: 2, Row: fmt.Append(nil, i)}}}
			if _, err := s.Commit(ctx, b); err != nil {
				t.Error(err)
			}
			if i == 10 {
				close(started)
			}
		}
	}()
	<-started
	for range 5 {
		b := write(t, s)
		if _, err := must[*dump.Reader](t)(dump.Open(bytes.NewReader(b))).CopyTo(ctx, nil); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-stopped
}

// TestGolden: these bytes are in backups.
func TestGolden(t *testing.T) {
	s := openPebble(t, t.TempDir(), "sh")
	fill(t, s, 6)
	got := hex.EncodeToString(write(t, s))
	name := filepath.Join("testdata", "dump.golden")
	if *update {
		if err := os.WriteFile(name, []byte(wrap(got)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := must[[]byte](t)(os.ReadFile(name))
	if wrap(got) != string(want) {
		t.Fatalf("the bytes of a dump changed: backups would not be read")
	}
	b := must[[]byte](t)(hex.DecodeString(strings.ReplaceAll(string(want), "\n", "")))
	if _, err := must[*dump.Reader](t)(dump.Open(bytes.NewReader(b))).CopyTo(ctx, nil); err != nil {
		t.Error(err)
	}
}

func wrap(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := min(len(s), 128)
		b.WriteString(s[:n] + "\n")
		s = s[n:]
	}
	return b.String()
}

// TestRestoredIsNoticed: a region that was restored to an earlier moment goes on
// as another incarnation. A replica that is ahead neither skips nor overwrites:
// it says that the histories have parted. One that is not ahead goes on.
func TestRestoredIsNoticed(t *testing.T) {
	write1 := func(s store.Store, u region.UIN, text string) {
		t.Helper()
		b := &store.Batch{Owner: u, Home: "sh", Writes: []store.Write{{Table: 1, Row: []byte("a"), Value: []byte(text)}}}
		must[store.Receipt](t)(s.Commit(ctx, b))
	}
	ahead, level := owner(0), owner(1)
	s := openPebble(t, t.TempDir(), "sh")
	write1(s, ahead, "1")
	write1(s, level, "1")
	backup := write(t, s)
	write1(s, ahead, "2")
	write1(s, ahead, "3")
	replica := openPebble(t, t.TempDir(), "hk")
	follow := func(s store.Store, p region.Partition) error {
		at := must[journal.Position](t)(replica.Position(ctx, "sh", journal.Full, p))
		batches := must[[]*journal.Batch](t)(s.Journal(ctx, p, journal.Full, at.Seq+1, 1<<20))
		if len(batches) == 0 {
			return nil
		}
		_, err := replica.Apply(ctx, journal.Full, batches)
		return err
	}
	for p := range region.Partition(2) {
		if err := follow(s, p); err != nil {
			t.Fatal(err)
		}
	}

	dir := filepath.Join(t.TempDir(), "restored")
	read(t, backup, must[*pebble.Loader](t)(pebble.Load(pebbleOptions(dir, "sh"))))
	restored := openPebble(t, dir, "sh")
	for i := range 4 {
		write1(restored, ahead, fmt.Sprint("another ", i))
		write1(restored, level, fmt.Sprint("another ", i))
	}
	var gap *store.Gap
	if err := follow(restored, 0); !errors.As(err, &gap) || !gap.Chain {
		t.Errorf("the replica that is ahead: %v", err)
	}
	// Nor is it talked into it by the batches that carry the sequences it has.
	batches := must[[]*journal.Batch](t)(restored.Journal(ctx, 0, journal.Full, 2, 1<<20))
	if _, err := replica.Apply(ctx, journal.Full, batches); !errors.As(err, &gap) || !gap.Chain {
		t.Errorf("the replica that is ahead, from the backup's end on: %v", err)
	}
	if r := must[store.Row](t)(replica.Get(ctx, ahead, 1, []byte("a"))); string(r.Value) != "3" {
		t.Errorf("what only the replica had is now %q", r.Value)
	}
	if err := follow(restored, 1); err != nil {
		t.Errorf("the replica that is not ahead: %v", err)
	}
	if r := must[store.Row](t)(replica.Get(ctx, level, 1, []byte("a"))); string(r.Value) != "another 3" {
		t.Errorf("the replica that is not ahead has %q", r.Value)
	}
}

// owner returns one of a partition.
func owner(p region.Partition) region.UIN {
	for u := region.UIN(1); ; u++ {
		if region.PartitionOf(u, partitions) == p {
			return u
		}
	}
}
