package dump

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTerm(dst []byte, t region.Term) []byte {
	return append(binary.AppendUvarint(dst, t.Counter), t.Raised[:]...)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendState(dst []byte, s *partition.State) []byte {
	dst = binary.AppendUvarint(dst, s.Incarnation)
	dst = binary.AppendUvarint(dst, s.First)
	dst = binary.AppendUvarint(dst, s.Next)
	dst = binary.AppendVarint(dst, s.UnixMilli)
	dst = binary.AppendUvarint(dst, uint64(len(s.Heads)))
	for _, h := range s.Heads {
		dst = binary.AppendUvarint(appendText(dst, h.Stream), h.Last)
		dst = append(dst, h.Chain[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Sums)))
	for _, home := range slices.Sorted(maps.Keys(s.Sums)) {
		h := s.Sums[home]
		dst = append(appendText(dst, home), bit(h.Changed))
		for _, t := range []partition.Tally{h.Shared, h.Own} {
			dst = binary.AppendUvarint(append(dst, t.Sum[:]...), t.Rows)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Fence)))
	for _, home := range slices.Sorted(maps.Keys(s.Fence)) {
		dst = appendTerm(appendText(dst, home), s.Fence[home])
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Positions)))
	for _, k := range slices.SortedFunc(maps.Keys(s.Positions), compareSources) {
		at := s.Positions[k]
		dst = appendText(appendText(dst, k.Origin), k.Stream)
		dst = binary.AppendUvarint(dst, at.Incarnation)
		dst = binary.AppendUvarint(dst, at.Seq)
		dst = append(dst, at.Chain[:]...)
		dst = binary.AppendVarint(dst, at.UnixMilli)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Turns)))
	for _, home := range slices.Sorted(maps.Keys(s.Turns)) {
		dst = appendTurn(appendText(dst, home), s.Turns[home])
	}
	return dst
}

func appendTurn(dst []byte, t store.Turn) []byte {
	dst = appendTerm(dst, t.Opened)
	dst = appendText(appendText(dst, t.After.Origin), t.After.Stream)
	dst = binary.AppendUvarint(dst, uint64(t.After.Partition))
	dst = binary.AppendUvarint(dst, t.After.Incarnation)
	dst = binary.AppendUvarint(dst, t.After.Seq)
	dst = append(dst, t.After.Chain[:]...)
	dst = binary.AppendVarint(dst, t.After.UnixMilli)
	dst = appendTerm(dst, t.Handed)
	dst = binary.AppendUvarint(dst, t.Until)
	return appendTerm(dst, t.Ended)
}

func compareSources(a, b partition.Source) int {
	return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Stream, b.Stream))
}

func appendRow(dst []byte, owner region.UIN, t journal.Table, key []byte, r *partition.Row) []byte {
	dst = binary.AppendUvarint(dst, uint64(owner))
	dst = append(dst, byte(t))
	dst = append(appendText(dst, key), bit(r.Deleted))
	dst = binary.AppendUvarint(dst, r.Version)
	dst = binary.AppendUvarint(dst, r.Epoch.Moves)
	dst = appendTerm(dst, r.Epoch.Term)
	return appendText(appendText(dst, r.Home), r.Value)
}

// errMalformed is a body that no writer spells so.
var errMalformed = errors.New("malformed")

// decoder reads from the front of a body. After the first error it returns zeros,
// and the error stays.
type decoder struct {
	data []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format+": %w", append(args, errMalformed)...)
	}
	d.data = nil
}

func (d *decoder) uint() uint64 {
	n, w := binary.Uvarint(d.data)
	// The last byte of the shortest spelling is not zero, unless it is the only one.
	if w <= 0 || (w > 1 && d.data[w-1] == 0) {
		d.fail("number")
		return 0
	}
	d.data = d.data[w:]
	return n
}

func (d *decoder) int() int64 {
	u := d.uint()
	return int64(u>>1) ^ -int64(u&1)
}

var zeros [32]byte

// bytes returns n bytes, n at most 32; zeros after an error.
func (d *decoder) bytes(n int) []byte {
	if len(d.data) < n {
		d.fail("end")
		return zeros[:n]
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}

func (d *decoder) sum() journal.Sum { return journal.Sum(d.bytes(16)) }
func (d *decoder) byte() byte       { return d.bytes(1)[0] }

func (d *decoder) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail("flag %d", b)
	}
	return b == 1
}

func (d *decoder) term() region.Term {
	return region.Term{Counter: d.uint(), Raised: region.ShortHash(d.bytes(8))}
}

// text reads a length and that many bytes, which share memory with the body.
func (d *decoder) text(limit int) []byte {
	n := d.uint()
	if n > uint64(limit) || n > uint64(len(d.data)) {
		d.fail("text of %d bytes", n)
		return nil
	}
	b := d.data[:n:n]
	d.data = d.data[n:]
	return b
}

func (d *decoder) region() region.ID {
	id := region.ID(d.text(256))
	if d.err == nil && id.Valid() != nil {
		d.fail("region %q", string(id))
	}
	return id
}

func (d *decoder) stream() journal.Stream {
	s := journal.Stream(d.text(256))
	if d.err == nil && s.Valid() != nil {
		d.fail("stream %q", string(s))
	}
	return s
}

// count reads a number of things that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uint()
	if n > uint64(len(d.data)/size) {
		d.fail("%d entries", n)
		return 0
	}
	return int(n)
}

// state reads what appendState spells.
func (d *decoder) state(id region.Partition) *partition.State {
	s := partition.New()
	s.Incarnation, s.First, s.Next, s.UnixMilli = d.uint(), d.uint(), d.uint(), d.int()
	for range d.count(18) {
		h := journal.StreamHead{Stream: d.stream(), Last: d.uint(), Chain: d.sum()}
		if n := len(s.Heads); d.err == nil && (n == 0) != (h.Stream == journal.Full) || n > 1 && s.Heads[n-1].Stream >= h.Stream {
			d.fail("order of streams")
		}
		s.Heads = append(s.Heads, h)
	}
	last := region.ID("")
	for range d.count(36) {
		home := d.region()
		h := &partition.Sums{Changed: d.bool()}
		h.Shared = partition.Tally{Sum: d.sum(), Rows: d.uint()}
		h.Own = partition.Tally{Sum: d.sum(), Rows: d.uint()}
		if home <= last {
			d.fail("order of homes")
		}
		s.Sums[home], last = h, home
	}
	last = ""
	for range d.count(10) {
		home := d.region()
		if home <= last {
			d.fail("order of fences")
		}
		s.Fence[home], last = d.term(), home
	}
	before := partition.Source{}
	for range d.count(20) {
		at := journal.Position{Partition: id, Origin: d.region(), Stream: d.stream(), Incarnation: d.uint(), Seq: d.uint(), Chain: d.sum(), UnixMilli: d.int()}
		k := partition.Source{Origin: at.Origin, Stream: at.Stream}
		if compareSources(before, k) >= 0 {
			d.fail("order of positions")
		}
		s.Positions[k], before = at, k
	}
	last = ""
	for range d.count(50) {
		home := d.region()
		if home <= last {
			d.fail("order of turns")
		}
		s.Turns[home], last = d.turn(), home
	}
	return s
}

// turn reads what appendTurn spells.
func (d *decoder) turn() (t store.Turn) {
	t.Opened = d.term()
	t.After.Origin, t.After.Stream = region.ID(d.text(256)), journal.Stream(d.text(256))
	id := d.uint()
	if id > 1<<16-1 {
		d.fail("partition %d", id)
	}
	t.After.Partition, t.After.Incarnation, t.After.Seq = region.Partition(id), d.uint(), d.uint()
	t.After.Chain, t.After.UnixMilli = d.sum(), d.int()
	t.Handed, t.Until, t.Ended = d.term(), d.uint(), d.term()
	return t
}

// row reads what appendRow spells.
func (d *decoder) row() (owner region.UIN, t journal.Table, key []byte, r partition.Row) {
	owner, t, key = region.UIN(d.uint()), journal.Table(d.byte()), d.text(store.MaxRowKey)
	r.Deleted, r.Version = d.bool(), d.uint()
	r.Epoch = region.Epoch{Moves: d.uint(), Term: d.term()}
	r.Home, r.Value = d.region(), d.text(store.MaxValue)
	if d.err == nil && (owner == 0 || t == 0 || r.Version == 0 || r.Deleted && len(r.Value) > 0) {
		d.fail("row %q of table %d of %d", key, t, owner)
	}
	return owner, t, key, r
}
