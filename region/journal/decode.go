package journal

import (
	"encoding/binary"
	"math"

	"github.com/homing-im/homing/region"
)

// Limits of the decoder. They follow from those of region/store, with room for
// what surrounds the data; a queue has to carry messages of MaxEncoded.
const (
	MaxEncoded = 2 << 20 // bytes of an encoded batch
	MaxRecords = 4096    // records of a batch
	MaxLinks   = 512     // links of a batch
	MaxRowKey  = 256     // bytes of RowRecord.Row
	MaxValue   = 256 << 10
)

// Decode reads what [Encode] wrote. It accepts only the one spelling of a
// batch, never panics, and allocates no more than a small multiple of the input
// and the limits. The batch's slices share memory with data, which must not be
// changed afterwards; empty ones are nil.
//
// Errors: region.BadInput, region.TooLarge, region.Unsupported for a format
// this version does not know.
func Decode(data []byte) (*Batch, error) {
	d, err := open(data)
	if err != nil {
		return nil, err
	}
	b := new(Batch)
	b.Links = d.links()
	d.body(b)
	if d.err == nil && len(d.data) > 0 {
		d.fail("%d bytes after the last record", len(d.data))
	}
	if d.err != nil {
		return nil, d.err
	}
	return b, nil
}

// DecodeLinks reads only the links, which come first, so that a scan for one
// stream steps over the batches of others cheaply.
func DecodeLinks(data []byte) ([]Link, error) {
	d, err := open(data)
	if err != nil {
		return nil, err
	}
	links := d.links()
	return links, d.err
}

func open(data []byte) (*decoder, error) {
	if len(data) > MaxEncoded {
		return nil, region.Errorf(region.TooLarge, "journal batch has %d bytes, the limit is %d", len(data), MaxEncoded)
	}
	if len(data) == 0 {
		return nil, region.Errorf(region.BadInput, "journal batch is empty")
	}
	if data[0] != Format {
		return nil, region.Errorf(region.Unsupported, "journal batch has format %d, this node reads %d", data[0], Format).WithHint("upgrade this node")
	}
	return &decoder{data: data[1:]}, nil
}

// decoder reads from the front of data. After the first error every read
// returns zeros, and that error stays.
type decoder struct {
	data []byte
	err  error
	rows []RowRecord // made, and not used yet
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = region.Errorf(region.BadInput, "journal batch: "+format, args...)
	}
	d.data = nil
}

func (d *decoder) links() []Link {
	n := d.count("links", MaxLinks, 18)
	if n == 0 {
		return nil
	}
	links := make([]Link, n)
	for i := range links {
		l := &links[i]
		l.Stream = d.stream()
		l.Prev = d.uint()
		l.Chain = Sum(d.bytes(16))
		if d.err != nil {
			return nil
		}
		if i > 0 && compareStreams(links[i-1].Stream, l.Stream) >= 0 {
			d.fail("links are not sorted")
			return nil
		}
	}
	return links
}

func (d *decoder) body(b *Batch) {
	b.Origin = d.region()
	b.Partition = region.Partition(d.max(math.MaxUint16, "partition"))
	b.Incarnation = d.uint()
	b.Owner = region.UIN(d.uint())
	b.Home = b.Origin // mostly it is, and needs no memory of its own then
	if home := d.text(16); string(home) != string(b.Origin) {
		b.Home = region.ID(home)
	}
	if b.Home != "" && d.err == nil {
		if err := b.Home.Valid(); err != nil {
			d.fail("%v", err)
		}
	}
	if (b.Owner == 0) != (b.Home == "") {
		d.fail("owner %d at home %q: want both or neither", b.Owner, string(b.Home))
	}
	b.Epoch.Moves = d.uint()
	b.Epoch.Term = d.term()
	b.UnixMilli = d.int()
	n := d.count("records", MaxRecords, 3)
	if n == 0 {
		d.fail("no records")
		return
	}
	b.Records = make([]Record, n)
	seq := uint64(0)
	for i := range b.Records {
		seq = d.record(&b.Records[i], seq, n-i)
		if d.err != nil {
			b.Records = nil
			return
		}
	}
}

// record reads one record, of left that there are still, and returns its sequence.
func (d *decoder) record(r *Record, before uint64, left int) uint64 {
	length := d.uint()
	if length > uint64(len(d.data)) {
		d.fail("record of %d bytes is cut short", length)
		return 0
	}
	in := decoder{data: d.data[:length]}
	d.data = d.data[length:]
	step := in.uint()
	if in.err == nil && (step == 0 || before+step < before) {
		in.fail("sequences do not ascend")
	}
	r.Seq = before + step
	r.Kind = Kind(in.byte())
	switch {
	case in.err != nil:
	case r.Kind == KindRow:
		r.Row = d.newRow(left)
		in.row(r.Row)
	case r.Kind == KindCommand:
		r.Command = in.command()
	case r.Kind == KindWatermark:
		r.Watermark = in.watermark()
	case r.Kind == KindPosition:
		r.Position = in.position()
	case r.Kind == KindTerm:
		r.Term = &TermRecord{Home: in.region(), Term: in.term(), What: in.byte()}
	case r.Kind == 0:
		in.fail("record %d has no kind", r.Seq)
	default:
		if len(in.data) > 0 {
			r.Opaque = in.data[:len(in.data):len(in.data)]
		}
		in.data = nil
	}
	if in.err == nil && len(in.data) > 0 {
		in.fail("%d bytes at the end of record %d", len(in.data), r.Seq)
	}
	if d.err = in.err; d.err != nil {
		d.data = nil
	}
	return r.Seq
}

// leastRow is the length of the shortest row record.
const leastRow = 40

// newRow returns memory for a row. Most batches are rows only, so the first of
// them brings the memory for those that may follow.
func (d *decoder) newRow(left int) *RowRecord {
	if len(d.rows) == 0 {
		d.rows = make([]RowRecord, min(left, 1+len(d.data)/leastRow))
	}
	w := &d.rows[0]
	d.rows = d.rows[1:]
	return w
}

func (d *decoder) row(w *RowRecord) {
	w.Table, w.Deleted, w.Version = Table(d.byte()), d.bool(), d.uint()
	w.Row, w.Value = d.text(MaxRowKey), d.text(MaxValue)
	w.Before, w.After = Sum(d.bytes(16)), Sum(d.bytes(16))
	switch {
	case d.err != nil:
	case w.Table == 0 || w.Table.Class() == ClassLocal:
		d.fail("table %d has no journal", w.Table)
	case w.Version == 0:
		d.fail("row of version 0")
	case w.Deleted && len(w.Value) > 0:
		d.fail("tombstone with a value")
	}
}

func (d *decoder) command() *Command {
	c := &Command{ID: CommandID(d.bytes(16)), To: d.region(), Target: region.UIN(d.uint())}
	c.Method = uint16(d.max(math.MaxUint16, "method"))
	c.Payload = d.text(MaxEncoded)
	return c
}

func (d *decoder) watermark() *Watermark {
	m := &Watermark{Home: d.region()}
	m.SharedSum, m.SharedRows = Sum(d.bytes(16)), d.uint()
	m.OwnSum, m.OwnRows = Sum(d.bytes(16)), d.uint()
	return m
}

func (d *decoder) position() *Position {
	p := &Position{Origin: d.region(), Stream: d.stream()}
	p.Partition = region.Partition(d.max(math.MaxUint16, "partition"))
	p.Incarnation, p.Seq = d.uint(), d.uint()
	p.Chain = Sum(d.bytes(16))
	p.UnixMilli = d.int()
	return p
}

func (d *decoder) region() region.ID {
	id := region.ID(d.text(16))
	if d.err == nil {
		if err := id.Valid(); err != nil {
			d.fail("%v", err)
		}
	}
	return id
}

func (d *decoder) stream() Stream {
	t := d.text(maxStream)
	switch string(t) { // of those that all batches are in no copy is made
	case string(Full):
		return Full
	case string(Shared):
		return Shared
	}
	s := Stream(t)
	if d.err == nil {
		if err := s.Valid(); err != nil {
			d.fail("%v", err)
		}
	}
	return s
}

func (d *decoder) term() region.Term {
	return region.Term{Counter: d.uint(), Raised: region.ShortHash(d.bytes(8))}
}

// count reads a number of things that take at least size bytes each.
func (d *decoder) count(what string, limit, size int) int {
	n := d.uint()
	if n > uint64(limit) || n > uint64(len(d.data)/size) {
		d.fail("%d %s do not fit", n, what)
		return 0
	}
	return int(n)
}

func (d *decoder) max(limit uint64, what string) uint64 {
	n := d.uint()
	if n > limit {
		d.fail("%s %d is over %d", what, n, limit)
		return 0
	}
	return n
}

func (d *decoder) uint() uint64 {
	n, w := binary.Uvarint(d.data)
	// The last byte of the shortest spelling is not zero, unless it is the only one.
	if w <= 0 || (w > 1 && d.data[w-1] == 0) {
		d.fail("bad number")
		return 0
	}
	d.data = d.data[w:]
	return n
}

func (d *decoder) int() int64 {
	u := d.uint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) byte() byte { return d.bytes(1)[0] }

func (d *decoder) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail("flag is %d", b)
	}
	return b == 1
}

var zeros [16]byte

// bytes returns n bytes, n at most 16; zeros after an error.
func (d *decoder) bytes(n int) []byte {
	if len(d.data) < n {
		d.fail("cut short")
		return zeros[:n]
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}

// text reads a length and that many bytes, nil when there are none.
func (d *decoder) text(limit int) []byte {
	n := d.uint()
	if n > uint64(limit) || n > uint64(len(d.data)) {
		d.fail("%d bytes of text do not fit", n)
		return nil
	}
	if n == 0 {
		return nil
	}
	b := d.data[:n:n]
	d.data = d.data[n:]
	return b
}
