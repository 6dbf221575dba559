package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

func testRows(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	if s.Region() != "sh" || s.Partitions() != partitions {
		t.Fatalf("store is of %s with %d partitions", s.Region(), s.Partitions())
	}
	u := owners(1, 2)
	wantRow(t, s, u[0], own, "a", "a?")
	r := commit(t, s, batch(u[0], put(own, "a", "1"), put(own, "b", "2"), put(shared, "a", "3"), put(own, "", "no key")))
	if r != (store.Receipt{Partition: 1, First: 1, Last: 4}) {
		t.Fatalf("receipt is %+v", r)
	}
	wantRow(t, s, u[0], own, "a", "a=1@1")
	wantRow(t, s, u[0], own, "b", "b=2@1")
	wantRow(t, s, u[0], shared, "a", "a=3@1")
	wantRow(t, s, u[0], own, "", "=no key@1")
	wantRow(t, s, u[1], own, "a", "a?")
	wantRow(t, s, u[0], own+1, "a", "a?")

	b := batch(u[0], put(own, "a", ""))
	b.Epoch = region.Epoch{Moves: 3, Term: term(9)}
	commit(t, s, b)
	wantRow(t, s, u[0], own, "a", "a=@2")
	row := get(t, s, u[0], own, "a")
	if row.Epoch != b.Epoch {
		t.Fatalf("epoch is %v, want %v", row.Epoch, b.Epoch)
	}
	all := []byte{0, 1, 0xff, 0xfe, 0}
	commit(t, s, &store.Batch{Owner: u[1], Home: "hk", Writes: []store.Write{{Table: own, Row: all, Value: all}}})
	if row := get(t, s, u[1], own, string(all)); !bytes.Equal(row.Value, all) || !bytes.Equal(row.Row, all) {
		t.Fatalf("row is %x=%x, want %x twice", row.Row, row.Value, all)
	}
}

func testPreconditions(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	commit(t, s, batch(u, put(own, "is", "x")))
	commit(t, s, batch(u, put(own, "was", "x")))
	commit(t, s, batch(u, del(own, "was")))
	for _, c := range []struct {
		row    string
		expect store.Expect
		ok     bool
	}{
		{"never", store.AtVersion(1), false},
		{"is", store.Absent(), false},
		{"is", store.AtVersion(0), false},
		{"is", store.AtVersion(2), false},
		{"was", store.AtVersion(0), false},
		{"was", store.AtVersion(1), false},
		{"never", store.Anything(), true},
		{"never2", store.Absent(), true},
		{"never3", store.AtVersion(0), true},
		{"is", store.AtVersion(1), true},
		{"is", store.Anything(), true},
		{"was", store.AtVersion(2), true},
	} {
		before := s.Head(0).Next
		w := put(own, c.row, "y")
		w.Expect = c.expect
		version := get(t, s, u, own, c.row).Version
		// The other rows of the batch show that it is all or nothing.
		_, err := s.Commit(ctx, batch(u, put(own, "beside", "y"), w, put(local, "beside", "y")))
		if c.ok {
			if err != nil {
				t.Fatalf("%s %+v: %v", c.row, c.expect, err)
			}
			if got := get(t, s, u, own, c.row).Version; got != version+1 {
				t.Fatalf("%s is at %d, want %d", c.row, got, version+1)
			}
			continue
		}
		wantKind(t, err, region.Conflict)
		wantRow(t, s, u, own, "beside", "beside?")
		wantRow(t, s, u, local, "beside", "beside?")
		if got := s.Head(0).Next; got != before {
			t.Fatalf("%s %+v: a refused batch took sequences: next is %d, was %d", c.row, c.expect, got, before)
		}
	}
}

func testTombstones(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(2, 1)[0]
	for _, table := range []journal.Table{shared, own, local} {
		commit(t, s, batch(u, put(table, "a", "1")))
		commit(t, s, batch(u, del(table, "a")))
		wantRow(t, s, u, table, "a", "-a@2")
		commit(t, s, batch(u, del(table, "a")))
		wantRow(t, s, u, table, "a", "-a@3")
		commit(t, s, batch(u, put(table, "a", "2")))
		wantRow(t, s, u, table, "a", "a=2@4")
		commit(t, s, batch(u, del(table, "never")))
		wantRow(t, s, u, table, "never", "-never@1")
		if got, want := scan(t, s, u, table, store.Range{}), []string{"a=2@4"}; !slices.Equal(got, want) {
			t.Fatalf("scan is %v, want %v", got, want)
		}
		if got, want := scan(t, s, u, table, store.Range{Deleted: true}), []string{"a=2@4", "-never@1"}; !slices.Equal(got, want) {
			t.Fatalf("scan with tombstones is %v, want %v", got, want)
		}
	}
}

func testClasses(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	if r := commit(t, s, batch(u, put(local, "a", "1"), del(local, "b"))); r != (store.Receipt{}) {
		t.Fatalf("local rows got sequences: %+v", r)
	}
	if h := s.Head(0); h.Next != 1 || len(h.Streams) != 0 {
		t.Fatalf("local rows are in the journal: %+v", h)
	}
	if got := s.Sums(0, "sh"); got != (journal.Watermark{Home: "sh"}) {
		t.Fatalf("local rows are in the sums: %+v", got)
	}
	wantRow(t, s, u, local, "a", "a=1@1")
	if r := commit(t, s, batch(u, put(local, "a", "2"), put(own, "a", "1"), put(shared, "a", "1"))); r.First != 1 || r.Last != 2 {
		t.Fatalf("receipt is %+v, want 1 to 2", r)
	}
	for _, b := range read(t, s, 0, journal.Full) {
		for _, r := range b.Records {
			if r.Kind != journal.KindRow || r.Row.Table.Class() == journal.ClassLocal {
				t.Fatalf("record %d is %+v", r.Seq, r)
			}
		}
	}
	if got, want := s.Sums(0, "sh"), recompute(t, s, "sh", u); got != want || got.OwnRows != 1 || got.SharedRows != 1 {
		t.Fatalf("sums are %+v, want %+v", got, want)
	}
}

// testCallersMemory changes everything it handed over or was given.
func testCallersMemory(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	row, value, payload := []byte("row"), []byte("value"), []byte("payload")
	commit(t, s, &store.Batch{
		Owner: u, Home: "sh", Epoch: at(1),
		Writes:   []store.Write{{Table: own, Row: row, Value: value}},
		Commands: []journal.Command{{To: "hk", Payload: payload}},
	})
	for _, b := range [][]byte{row, value, payload} {
		clear(b)
	}
	wantRow(t, s, u, own, "row", "row=value@1")
	r := get(t, s, u, own, "row")
	clear(r.Row)
	clear(r.Value)
	wantRow(t, s, u, own, "row", "row=value@1")
	batches := read(t, s, 0, journal.Full)
	if got := string(batches[0].Records[1].Command.Payload); got != "payload" {
		t.Fatalf("payload is %q", got)
	}
	clear(batches[0].Records[0].Row.Value)
	clear(batches[0].Records[1].Command.Payload)
	if got := read(t, s, 0, journal.Full)[0]; string(got.Records[0].Row.Value) != "value" || string(got.Records[1].Command.Payload) != "payload" {
		t.Fatal("a reader changed the journal")
	}
}

func testScan(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(3, 2)
	for _, row := range []string{"b", "a", "d", "c", "\xff", "\xff\xff", "ab"} {
		commit(t, s, batch(u[0], put(own, row, "1")))
	}
	commit(t, s, batch(u[0], del(own, "c")))
	// Neighbours in the key space must not show.
	commit(t, s, batch(u[1], put(own, "b", "other owner")))
	commit(t, s, batch(u[0], put(own+1, "b", "other table"), put(own-1, "b", "other table")))
	key := func(s string) []byte { return []byte(s) }
	for _, c := range []struct {
		r    store.Range
		want string
	}{
		{store.Range{}, "a ab b d \xff \xff\xff"},
		{store.Range{Reverse: true}, "\xff\xff \xff d b ab a"},
		{store.Range{From: key("ab")}, "ab b d \xff \xff\xff"},
		{store.Range{To: key("b")}, "a ab"},
		{store.Range{From: key("ab"), To: key("d")}, "ab b"},
		{store.Range{From: key("ab"), To: key("d"), Reverse: true}, "b ab"},
		{store.Range{From: key("ab"), To: key("d"), Deleted: true}, "ab b c"},
		{store.Range{Limit: 2}, "a ab"},
		{store.Range{Limit: 2, Reverse: true}, "\xff\xff \xff"},
		{store.Range{From: key("c"), Limit: 1}, "d"},
		{store.Range{From: key("c"), Limit: 1, Deleted: true}, "c"},
		{store.Range{From: key("b"), To: key("b")}, ""},
		{store.Range{From: key("d"), To: key("b")}, ""},
		{store.Range{From: key("\xff\xff\xff")}, ""},
		{store.Range{To: key("")}, ""},
	} {
		var got []string
		if err := s.Scan(ctx, u[0], own, c.r, func(r *store.Row) bool {
			got = append(got, string(r.Row))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v gives %q, want %q", c.r, got, c.want)
		}
	}
	n := 0
	if err := s.Scan(ctx, u[0], own, store.Range{}, func(*store.Row) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("a scan that was stopped at 3 gave %d rows, error %v", n, err)
	}
	b := batch(u[1])
	for i := range 1024 {
		b.Writes = append(b.Writes, put(shared, fmt.Sprintf("%04d", i), "x"))
	}
	commit(t, s, b)
	if got := scan(t, s, u[1], shared, store.Range{}); len(got) != 1000 || got[999] != "0999=x@1" {
		t.Errorf("a range without a limit gives %d rows", len(got))
	}
}

// testScanIsOneMoment scans while two rows are always written together.
func testScanIsOneMoment(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	commit(t, s, batch(u, put(own, "a", "0"), put(own, "b", "0")))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			v := fmt.Sprint(i)
			if _, err := s.Commit(ctx, batch(u, put(own, "a", v), put(own, "b", v))); err != nil {
				t.Errorf("Commit: %v", err)
				return
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		var values []string
		if err := s.Scan(ctx, u, own, store.Range{}, func(r *store.Row) bool {
			values = append(values, string(r.Value))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if len(values) != 2 || values[0] != values[1] {
			t.Fatalf("a scan saw half a batch: %v", values)
		}
	}
	<-done
}

func testBadInput(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	two := put(own, "a", "2")
	for name, b := range map[string]*store.Batch{
		"no owner":            {Home: "sh", Writes: []store.Write{two}},
		"no home":             {Owner: u, Writes: []store.Write{two}},
		"home of bad name":    {Owner: u, Home: "Sh", Writes: []store.Write{two}},
		"nothing":             {Owner: u, Home: "sh"},
		"table 0":             {Owner: u, Home: "sh", Writes: []store.Write{{Row: []byte("a")}}},
		"row twice":           batch(u, put(own, "a", "1"), two),
		"delete with value":   batch(u, store.Write{Table: own, Delete: true, Value: []byte("x")}),
		"command to nobody":   {Owner: u, Home: "sh", Commands: []journal.Command{{}}},
		"row twice, of many":  batch(u, append(many(30), put(own, "r7", "again"))...),
		"command to bad name": {Owner: u, Home: "sh", Commands: []journal.Command{{To: "H/K"}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Commit(ctx, b)
			wantKind(t, err, region.BadInput)
		})
	}
	if h := s.Head(0); h.Next != 1 {
		t.Fatalf("bad input took sequences: %+v", h)
	}
	_, err := s.Journal(ctx, partitions, journal.Full, 1, 1)
	wantKind(t, err, region.BadInput)
	_, err = s.Journal(ctx, 0, "halb", 1, 1)
	wantKind(t, err, region.BadInput)
	_, err = s.Watermark(ctx, partitions)
	wantKind(t, err, region.BadInput)
	wantKind(t, s.Trim(ctx, partitions, 1), region.BadInput)
	wantKind(t, s.Fence(ctx, "S H", term(1)), region.BadInput)
	_, err = s.Position(ctx, "hk", journal.Full, partitions)
	wantKind(t, err, region.BadInput)
}

func many(n int) []store.Write {
	var w []store.Write
	for i := range n {
		w = append(w, put(own, fmt.Sprintf("r%d", i), "x"))
	}
	return w
}

func testLimits(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(0, 1)[0]
	big := strings.Repeat("x", store.MaxValue)
	for name, c := range map[string]struct {
		b  *store.Batch
		ok bool
	}{
		"longest row key": {batch(u, put(own, big[:store.MaxRowKey], "")), true},
		"longer row key":  {batch(u, put(own, big[:store.MaxRowKey+1], "")), false},
		"longest value":   {batch(u, put(own, "v", big)), true},
		"longer value":    {batch(u, put(own, "v", big+"x")), false},
		"most writes":     {batch(u, many(store.MaxWrites)...), true},
		"more writes":     {batch(u, many(store.MaxWrites+1)...), false},
		"more with command": {&store.Batch{
			Owner: u, Home: "sh", Epoch: at(1), Writes: many(store.MaxWrites), Commands: []journal.Command{command("hk", 1)},
		}, false},
		"largest batch": {batch(u, put(own, "1", big[1:]), put(own, "2", big[1:]), put(shared, "3", big[1:]), put(own, "4", big[1:])), true},
		"larger batch":  {batch(u, put(own, "1", big[1:]), put(own, "2", big[1:]), put(own, "3", big[1:]), put(own, "4", big)), false},
		"largest command": {&store.Batch{
			Owner: u, Home: "sh", Epoch: at(1), Commands: []journal.Command{{To: "hk", Payload: make([]byte, store.MaxBatch)}},
		}, true},
		"larger command": {&store.Batch{
			Owner: u, Home: "sh", Epoch: at(1), Commands: []journal.Command{{To: "hk", Payload: make([]byte, store.MaxBatch+1)}},
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Commit(ctx, c.b)
			if c.ok && err != nil {
				t.Fatal(err)
			}
			if !c.ok {
				wantKind(t, err, region.TooLarge)
			}
		})
	}
	read(t, s, 0, journal.Full) // what was accepted can be decoded
}

func testConcurrency(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	const callers, commits = 12, 25
	var mu sync.Mutex
	receipts := map[region.Partition][]store.Receipt{}
	all := make(map[region.Partition][]region.UIN)
	var wg sync.WaitGroup
	for c := range callers {
		p := region.Partition(c % partitions)
		u := owners(p, callers)[c]
		all[p] = append(all[p], u)
		wg.Go(func() {
			for i := range commits {
				b := batch(u, put(own, "last", fmt.Sprint(i)), put(shared, fmt.Sprint(i), "x"), put(local, "l", "x"))
				if i%3 == 0 {
					b.Commands = append(b.Commands, command("hk", byte(i)), command("ca", byte(i)))
				}
				r, err := s.Commit(ctx, b)
				if err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				// Acknowledged is readable.
				if h := s.Head(p); h.Next <= r.Last {
					t.Errorf("acknowledged %d, but next is %d", r.Last, h.Next)
				}
				mu.Lock()
				receipts[p] = append(receipts[p], r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for p := range region.Partition(partitions) {
		rs := receipts[p]
		slices.SortFunc(rs, func(a, b store.Receipt) int { return int(a.First) - int(b.First) })
		next := uint64(1)
		for _, r := range rs {
			if r.First != next || r.Last < r.First {
				t.Fatalf("partition %d: a batch is at %d to %d, want it to begin at %d", p, r.First, r.Last, next)
			}
			next = r.Last + 1
		}
		if h := s.Head(p); h.Next != next || h.First != 1 {
			t.Fatalf("partition %d: head is %+v, want next %d", p, h, next)
		}
		batches := read(t, s, p, journal.Full)
		if len(batches) != len(rs) {
			t.Fatalf("partition %d: %d batches, want %d", p, len(batches), len(rs))
		}
		for _, stream := range []journal.Stream{journal.Shared, journal.StreamTo("hk"), journal.StreamTo("ca"), journal.StreamTo("sh")} {
			read(t, s, p, stream)
		}
		if got, want := s.Sums(p, "sh"), recompute(t, s, "sh", all[p]...); got != want {
			t.Fatalf("partition %d: sums are %+v, want %+v", p, got, want)
		}
		for _, u := range all[p] {
			wantRow(t, s, u, own, "last", fmt.Sprintf("last=%d@%d", commits-1, commits))
		}
	}
}

// testCounter adds to one row from many callers by its version.
func testCounter(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(1, 1)[0]
	const callers, times = 6, 15
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for done := 0; done < times; {
				r, err := s.Get(ctx, u, own, []byte("n"))
				if err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				w := put(own, "n", string(r.Value)+"x")
				w.Expect = store.AtVersion(r.Version)
				_, err = s.Commit(ctx, batch(u, w))
				var e *region.Error
				if errors.As(err, &e) && e.Kind == region.Conflict {
					// Whoever lost can see what to: the next try is against another version.
					again, err := s.Get(ctx, u, own, []byte("n"))
					if err != nil || again.Version <= r.Version {
						t.Errorf("a conflict at version %d, and then Get shows version %d, %v", r.Version, again.Version, err)
						return
					}
					continue
				}
				if err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				done++
			}
		})
	}
	wg.Wait()
	if r := get(t, s, u, own, "n"); len(r.Value) != callers*times || r.Version != callers*times {
		t.Fatalf("the counter is %d at version %d, want %d", len(r.Value), r.Version, callers*times)
	}
}
