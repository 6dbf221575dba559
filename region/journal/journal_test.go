package journal_test

import (
	"bytes"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// drawBatch makes any well-formed batch without links.
func drawBatch(t *rapid.T, first uint64) *journal.Batch {
	ids := rapid.SampledFrom([]region.ID{"sh", "hk", "ca", "a-very-long-name"})
	b := &journal.Batch{
		Origin: "sh", Partition: region.Partition(rapid.Uint16().Draw(t, "partition")), Incarnation: rapid.Uint64().Draw(t, "incarnation"),
		UnixMilli: rapid.Int64().Draw(t, "time"),
	}
	if rapid.Bool().Draw(t, "owned") {
		b.Owner, b.Home = region.UIN(rapid.Uint64Min(1).Draw(t, "owner")), ids.Draw(t, "home")
		b.Epoch = region.Epoch{Moves: rapid.Uint64().Draw(t, "moves"), Term: drawTerm(t)}
	}
	for seq := first; seq < first+uint64(rapid.IntRange(1, 5).Draw(t, "records")); seq++ {
		r := journal.Record{Seq: seq, Kind: journal.Kind(rapid.IntRange(1, 7).Draw(t, "kind"))}
		switch r.Kind {
		case journal.KindRow:
			r.Row = &journal.RowRecord{
				Table: journal.Table(rapid.IntRange(1, 199).Draw(t, "table")), Row: drawBytes(t, 256), Version: rapid.Uint64Min(1).Draw(t, "version"),
				Deleted: rapid.Bool().Draw(t, "deleted"), Before: drawSum(t), After: drawSum(t),
			}
			if !r.Row.Deleted {
				r.Row.Value = drawBytes(t, 300)
			}
		case journal.KindCommand:
			r.Command = &journal.Command{
				ID: journal.CommandID(drawSum(t)), To: ids.Draw(t, "to"), Target: region.UIN(rapid.Uint64().Draw(t, "target")),
				Method: rapid.Uint16().Draw(t, "method"), Payload: drawBytes(t, 300),
			}
		case journal.KindWatermark:
			r.Watermark = &journal.Watermark{
				Home: ids.Draw(t, "home"), SharedSum: drawSum(t), SharedRows: rapid.Uint64().Draw(t, "rows"),
				OwnSum: drawSum(t), OwnRows: rapid.Uint64().Draw(t, "rows"),
			}
		case journal.KindPosition:
			r.Position = &journal.Position{
				Origin: ids.Draw(t, "origin"), Stream: rapid.SampledFrom([]journal.Stream{"full", "shared", "to-hk"}).Draw(t, "stream"),
				Partition: region.Partition(rapid.Uint16().Draw(t, "partition")), Incarnation: rapid.Uint64().Draw(t, "incarnation"),
				Seq: rapid.Uint64().Draw(t, "seq"), Chain: drawSum(t), UnixMilli: rapid.Int64().Draw(t, "time"),
			}
		case journal.KindTerm:
			r.Term = &journal.TermRecord{Home: ids.Draw(t, "home"), Term: drawTerm(t), What: rapid.Byte().Draw(t, "what")}
		default:
			r.Kind = journal.Kind(rapid.Uint8Range(6, 255).Draw(t, "newer kind"))
			r.Opaque = drawBytes(t, 300)
		}
		b.Records = append(b.Records, r)
	}
	return b
}

func drawBytes(t *rapid.T, limit int) []byte {
	if b := rapid.SliceOfN(rapid.Byte(), 0, limit).Draw(t, "bytes"); len(b) > 0 {
		return b
	}
	return nil
}

func drawSum(t *rapid.T) journal.Sum {
	return journal.Sum(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "sum"))
}

func drawTerm(t *rapid.T) region.Term {
	s := drawSum(t)
	return region.Term{Counter: rapid.Uint64().Draw(t, "counter"), Raised: region.ShortHash(s[:8])}
}

// link gives a batch its links, as an engine does, and returns the heads.
func link(b *journal.Batch, heads map[journal.Stream]journal.StreamHead) {
	b.Links = nil
	for _, s := range journal.Streams(nil, b.Records) {
		head := heads[s]
		head.Stream = s
		l, next := journal.Next(head, journal.Filter(b, s))
		b.Links = append(b.Links, l)
		heads[s] = next
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBatch(t, rapid.Uint64Range(1, 1<<62).Draw(t, "first"))
		if rapid.Bool().Draw(t, "linked") {
			link(b, map[journal.Stream]journal.StreamHead{})
		}
		data := journal.Encode(b)
		got, err := journal.Decode(data)
		if err != nil {
			t.Fatalf("%v in %x", err, data)
		}
		if !reflect.DeepEqual(got, b) {
			t.Fatalf("decoded %+v, want %+v", got, b)
		}
		if again := journal.Encode(got); !bytes.Equal(again, data) {
			t.Fatalf("encoded again: %x, want %x", again, data)
		}
		links, err := journal.DecodeLinks(data)
		if err != nil || !reflect.DeepEqual(links, b.Links) {
			t.Fatalf("links are %+v, %v; want %+v", links, err, b.Links)
		}
		cut := rapid.IntRange(0, len(data)-1).Draw(t, "cut")
		if _, err := journal.Decode(data[:cut]); err == nil {
			t.Fatalf("%d of %d bytes are a batch too", cut, len(data))
		}
		if _, err := journal.Decode(append(data[:len(data):len(data)], 0)); err == nil {
			t.Fatal("a byte more is a batch too")
		}
	})
}

// TestFilter checks that a stream carries what it should, that filtering is
// idempotent, and that what it leaves alone stays as it was.
func TestFilter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBatch(t, 7)
		link(b, map[journal.Stream]journal.StreamHead{})
		before := journal.Encode(b)
		in := map[journal.Stream]bool{}
		for _, l := range b.Links {
			in[l.Stream] = true
		}
		for _, s := range []journal.Stream{journal.Full, journal.Shared, "to-sh", "to-hk", "to-ca", "to-a-very-long-name", "to-x"} {
			f := journal.Filter(b, s)
			if (f != nil) != in[s] {
				t.Fatalf("stream %s carries %+v, the links are %+v", s, f, b.Links)
			}
			if f == nil {
				continue
			}
			if f.Links[0].Stream != s || len(f.Links) != 1 && s != journal.Full || s == journal.Full && len(f.Links) != len(b.Links) {
				t.Fatalf("links of %s are %+v", s, f.Links)
			}
			data := journal.Encode(f)
			if again := journal.Encode(journal.Filter(f, s)); !bytes.Equal(again, data) {
				t.Fatalf("filtered twice by %s: %x, want %x", s, again, data)
			}
			if _, err := journal.Decode(data); err != nil {
				t.Fatal(err)
			}
			want := 0
			for i := range b.Records {
				r := &b.Records[i]
				carried := s == journal.Full ||
					s == journal.Shared && (r.Kind == journal.KindWatermark || r.Kind == journal.KindRow && r.Row.Table < 100 || r.Kind >= 128) ||
					r.Kind == journal.KindCommand && s == "to-"+journal.Stream(r.Command.To)
				if !carried {
					continue
				}
				got := f.Records[want]
				want++
				if s == journal.Shared && r.Kind == journal.KindWatermark {
					w := *r.Watermark
					w.OwnSum, w.OwnRows = journal.Sum{}, 0
					if *got.Watermark != w {
						t.Fatalf("shared watermark is %+v, want %+v", got.Watermark, w)
					}
				} else if !reflect.DeepEqual(got, *r) {
					t.Fatalf("record is %+v, want %+v", got, *r)
				}
			}
			if want != len(f.Records) {
				t.Fatalf("%s carries %d records, want %d", s, len(f.Records), want)
			}
		}
		if !bytes.Equal(journal.Encode(b), before) {
			t.Fatal("filtering changed the batch")
		}
	})
}

// TestFollow breaks streams in every way, and the reader notices at once.
func TestFollow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heads := map[journal.Stream]journal.StreamHead{}
		streams := map[journal.Stream][][]byte{}
		seq := uint64(1)
		for range rapid.IntRange(2, 8).Draw(t, "batches") {
			b := drawBatch(t, seq)
			seq = b.Last() + 1
			link(b, heads)
			for _, l := range b.Links {
				f := *journal.Filter(b, l.Stream)
				f.Links = f.Links[:1] // the chain of full does not cover the other streams' links
				streams[l.Stream] = append(streams[l.Stream], journal.Encode(&f))
			}
		}
		s := rapid.SampledFrom([]journal.Stream{journal.Full, journal.Full, journal.Shared, "to-hk"}).Draw(t, "stream")
		good := streams[s]
		if at, head := follow(s, good); at != len(good) || head.Last != heads[s].Last || head.Chain != heads[s].Chain {
			t.Fatalf("a whole stream breaks at %d of %d", at, len(good))
		}
		if len(good) < 2 {
			return
		}
		bad := append([][]byte(nil), good...)
		i := rapid.IntRange(0, len(good)-2).Draw(t, "at")
		want := i // the first batch a reader must refuse
		switch rapid.IntRange(0, 3).Draw(t, "fault") {
		case 0: // missing
			bad = append(bad[:i], bad[i+1:]...)
		case 1: // repeated
			bad = append(bad[:i+1], bad[i:]...)
			want = i + 1
		case 2: // reordered
			bad[i], bad[i+1] = bad[i+1], bad[i]
		case 3: // altered
			bad[i] = bytes.Clone(bad[i])
			bad[i][rapid.IntRange(0, len(bad[i])-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		}
		if at, _ := follow(s, bad); at != want {
			t.Fatalf("stream %s: the reader stops at %d, want %d", s, at, want)
		}
	})
}

// follow reads encoded batches and returns how many it accepts, and the head.
func follow(s journal.Stream, data [][]byte) (int, journal.StreamHead) {
	head := journal.StreamHead{Stream: s}
	for i, d := range data {
		b, err := journal.Decode(d)
		if err != nil {
			return i, head
		}
		if head, err = journal.Follow(head, b); err != nil {
			return i, head
		}
	}
	return len(data), head
}

// TestFollowStory names each break.
func TestFollowStory(t *testing.T) {
	heads := map[journal.Stream]journal.StreamHead{}
	var batches []*journal.Batch
	for seq := uint64(1); seq <= 5; seq += 2 {
		b := golden()[0]
		b.Records = append([]journal.Record(nil), b.Records[:2]...)
		b.Records[0].Seq, b.Records[1].Seq = seq, seq+1
		link(b, heads)
		batches = append(batches, b)
	}
	head := journal.StreamHead{Stream: journal.Full}
	want := func(b *journal.Batch, want journal.Break, words string) {
		t.Helper()
		next, err := journal.Follow(head, b)
		broken, ok := err.(*journal.Break)
		if !ok || *broken != want || !strings.Contains(err.Error(), words) || next != head {
			t.Fatalf("Follow: %v at %+v, want %+v", err, next, want)
		}
	}
	want(batches[1], journal.Break{Stream: "full", Have: 0, Want: 2}, "missing between 0 and 2")
	var err error
	for _, b := range batches[:2] {
		if head, err = journal.Follow(head, b); err != nil {
			t.Fatal(err)
		}
	}
	want(batches[0], journal.Break{Stream: "full", Have: 4, Want: 0}, "repeated")
	batches[2].UnixMilli++
	want(batches[2], journal.Break{Stream: "full", Have: 4, Want: 4, Altered: true}, "altered")
	batches[2].UnixMilli--
	// A batch that was linked right, but numbered wrong, is refused as well.
	batches[2].Records[1].Seq++
	link(batches[2], map[journal.Stream]journal.StreamHead{journal.Full: head})
	want(batches[2], journal.Break{Stream: "full", Have: 4, Want: 4, Altered: true}, "altered")
}

func TestNames(t *testing.T) {
	if got := journal.Topic("sh", journal.StreamTo("hk")); got != "homing.sh.to-hk" {
		t.Errorf("topic is %s", got)
	}
	if got := journal.Topic("sh", journal.Full); got != "homing.sh.full" {
		t.Errorf("topic is %s", got)
	}
	b := &journal.Batch{Records: []journal.Record{{Seq: 9}, {Seq: 12}}}
	if got := string(journal.QueueKey(b)); got != "9-12" {
		t.Errorf("key is %s", got)
	}
	for s, ok := range map[journal.Stream]bool{
		"full": true, "shared": true, "to-hk": true, "to-a-very-long-name": true,
		"": false, "to-": false, "to-HK": false, "Full": false, "hk": false, "to-a-very-long-names": false,
	} {
		if (s.Valid() == nil) != ok {
			t.Errorf("stream %q: %v", s, s.Valid())
		}
	}
}

// TestDecodeRefuses changes good batches in ways a random fault hardly hits.
func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *journal.Batch)
		kind   region.Kind
	}{
		"no records":           {func(b *journal.Batch) { b.Records = nil }, region.BadInput},
		"origin":               {func(b *journal.Batch) { b.Origin = "S" }, region.BadInput},
		"owner without a home": {func(b *journal.Batch) { b.Home = "" }, region.BadInput},
		"home without owner":   {func(b *journal.Batch) { b.Owner = 0 }, region.BadInput},
		"local table":          {func(b *journal.Batch) { b.Records[0].Row.Table = 200 }, region.BadInput},
		"table 0":              {func(b *journal.Batch) { b.Records[0].Row.Table = 0 }, region.BadInput},
		"version 0":            {func(b *journal.Batch) { b.Records[0].Row.Version = 0 }, region.BadInput},
		"tombstone with value": {func(b *journal.Batch) { b.Records[0].Row.Deleted = true }, region.BadInput},
		"long key":             {func(b *journal.Batch) { b.Records[0].Row.Row = make([]byte, 257) }, region.BadInput},
		"long value":           {func(b *journal.Batch) { b.Records[0].Row.Value = make([]byte, 256<<10+1) }, region.BadInput},
		"sequence 0":           {func(b *journal.Batch) { b.Records[0].Seq = 0 }, region.BadInput},
		"same sequence":        {func(b *journal.Batch) { b.Records[1].Seq = 1 }, region.BadInput},
		"falling sequence":     {func(b *journal.Batch) { b.Records[1].Seq = 0 }, region.BadInput},
		"command to nobody":    {func(b *journal.Batch) { b.Records[2].Command.To = "" }, region.BadInput},
		"unsorted links":       {func(b *journal.Batch) { b.Links[0], b.Links[1] = b.Links[1], b.Links[0] }, region.BadInput},
		"link twice":           {func(b *journal.Batch) { b.Links[1] = b.Links[0] }, region.BadInput},
		"link of no stream":    {func(b *journal.Batch) { b.Links[1].Stream = "half" }, region.BadInput},
		"too large": {func(b *journal.Batch) {
			b.Records[2].Command.Payload = make([]byte, journal.MaxEncoded)
		}, region.TooLarge},
	} {
		b := golden()[0]
		c.change(b)
		if _, err := journal.Decode(journal.Encode(b)); region.KindOf(err) != c.kind {
			t.Errorf("%s: %v (%v), want kind %v", name, err, region.KindOf(err), c.kind)
		}
	}
	data := journal.Encode(golden()[1])
	data[0] = 2
	if _, err := journal.Decode(data); region.KindOf(err) != region.Unsupported {
		t.Errorf("format 2: %v", err)
	}
	b := golden()[1]
	b.Records = b.Records[2:]
	data = journal.Encode(b)
	data[bytes.LastIndex(data, []byte{byte(journal.KindTerm), 2, 'h', 'k'})] = 0
	if _, err := journal.Decode(data); region.KindOf(err) != region.BadInput {
		t.Errorf("kind 0: %v", err)
	}
}

// FuzzDecode feeds anything: no panic, no large allocation, and whatever is
// accepted has one spelling.
func FuzzDecode(f *testing.F) {
	for _, b := range golden() {
		f.Add(journal.Encode(b))
		for _, l := range b.Links {
			f.Add(journal.Encode(journal.Filter(b, l.Stream)))
		}
	}
	f.Add([]byte{})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		b, err := journal.Decode(data)
		if !bytes.Equal(data, before) {
			t.Fatal("Decode changed its input")
		}
		if err != nil {
			if k := region.KindOf(err); k != region.BadInput && k != region.Unsupported && k != region.TooLarge {
				t.Fatalf("error of kind %v: %v", k, err)
			}
			return
		}
		if again := journal.Encode(b); !bytes.Equal(again, data) {
			t.Fatalf("two spellings: %x and %x", data, again)
		}
		for _, l := range b.Links {
			_ = journal.Filter(b, l.Stream)
			_, _ = journal.Follow(journal.StreamHead{Stream: l.Stream, Last: l.Prev}, b)
		}
		_ = journal.Streams(nil, b.Records)
	})
}

// TestDecodeAllocates bounds what a hostile message can make a reader allocate.
func TestDecodeAllocates(t *testing.T) {
	for name, data := range map[string][]byte{
		"many links":   append([]byte{1, 0xff, 0x03}, make([]byte, 30)...),
		"long text":    {1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"many records": append([]byte{1, 0, 2, 's', 'h', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x1f}, make([]byte, 20)...),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			if _, err := journal.Decode(data); err == nil {
				t.Fatalf("%s is a batch", name)
			}
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / 100; n > 4096 {
			t.Errorf("%s: %d bytes of input make Decode allocate %d", name, len(data), n)
		}
	}
}

func BenchmarkRowSum(b *testing.B) {
	row, value := []byte("00000042"), make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		journal.RowSum(1000001, 101, row, 1, region.Epoch{}, false, value)
	}
}

func BenchmarkEncode(b *testing.B) {
	batch := golden()[0]
	b.ReportAllocs()
	for b.Loop() {
		journal.Encode(batch)
	}
}

func BenchmarkDecode(b *testing.B) {
	data := journal.Encode(golden()[0])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := journal.Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
