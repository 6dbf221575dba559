package pebble

import (
	"encoding/binary"
	"errors"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// layout is the version of the layout in the package comment.
const layout = 1

var keyMeta = []byte{'m'}

func keyFence(home region.ID) []byte { return append([]byte{'f'}, home...) }

func keyState(p region.Partition) []byte {
	return binary.BigEndian.AppendUint16([]byte{'s'}, uint16(p))
}

func keyPosition(p region.Partition, k partition.Source) []byte {
	b := binary.BigEndian.AppendUint16([]byte{'p'}, uint16(p))
	return append(appendText(b, string(k.Origin)), k.Stream...)
}

func appendRowKey(dst []byte, p region.Partition, owner region.UIN, t journal.Table, row []byte) []byte {
	dst = append(dst, 'r')
	dst = binary.BigEndian.AppendUint16(dst, uint16(p))
	dst = binary.BigEndian.AppendUint64(dst, uint64(owner))
	dst = append(dst, byte(t))
	return append(dst, row...)
}

// rowPrefix is the length of a row's key before the row.
const rowPrefix = 1 + 2 + 8 + 1

func appendJournalKey(dst []byte, p region.Partition, first uint64) []byte {
	dst = append(dst, 'j')
	dst = binary.BigEndian.AppendUint16(dst, uint16(p))
	return binary.BigEndian.AppendUint64(dst, first)
}

// appendCopyKey is appendJournalKey of what is kept of another region's journal.
func appendCopyKey(dst []byte, p region.Partition, origin region.ID, first uint64) []byte {
	dst = append(dst, 'k')
	dst = binary.BigEndian.AppendUint16(dst, uint16(p))
	dst = appendText(dst, string(origin))
	return binary.BigEndian.AppendUint64(dst, first)
}

func copySeq(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

func keyTurn(p region.Partition, home region.ID) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{'t'}, uint16(p)), home...)
}

func journalSeq(key []byte) uint64 { return binary.BigEndian.Uint64(key[3:]) }

// after returns the first key behind every key that begins with prefix; nil
// when there is none.
func after(prefix []byte) []byte {
	b := append([]byte(nil), prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}

// stored is a row as it lies in the store; home is where its owner was at home
// when it was written, whose digest it counts in.
type stored struct {
	version uint64 // 0: never written
	epoch   region.Epoch
	deleted bool
	home    region.ID
	value   []byte
}

func (s *stored) row(t journal.Table, row []byte) store.Row {
	return store.Row{Table: t, Row: row, Version: s.version, Epoch: s.epoch, Deleted: s.deleted, Value: s.value}
}

// appendRowHead appends all of a row but its value, which comes last.
func appendRowHead(dst []byte, s *partition.Row) []byte {
	if s.Deleted {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, s.Version)
	dst = binary.AppendUvarint(dst, s.Epoch.Moves)
	dst = appendTerm(dst, s.Epoch.Term)
	return appendText(dst, string(s.Home))
}

// decodeRow reads a row; its value shares memory with b. A state that knows the
// row's home saves making a string of it; it may be nil.
func decodeRow(b []byte, state *partition.State) (stored, error) {
	s, home, err := cutRow(b)
	if state != nil {
		for id := range state.Sums {
			if string(id) == string(home) {
				s.home = id
			}
		}
	}
	if string(s.home) != string(home) {
		s.home = region.ID(home)
	}
	return s, err
}

// cutRow is decodeRow for who does not ask for the home, which it leaves where it
// is.
func cutRow(b []byte) (s stored, home []byte, err error) {
	r := reader{data: b}
	s = stored{deleted: r.byte() == 1, version: r.uint(), epoch: region.Epoch{Moves: r.uint(), Term: r.term()}}
	home = r.text()
	s.value = r.data
	return s, home, r.err
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTerm(dst []byte, t region.Term) []byte {
	return append(binary.AppendUvarint(dst, t.Counter), t.Raised[:]...)
}

func appendPosition(dst []byte, p *journal.Position) []byte {
	dst = binary.AppendUvarint(dst, p.Incarnation)
	dst = binary.AppendUvarint(dst, p.Seq)
	dst = append(dst, p.Chain[:]...)
	return binary.AppendVarint(dst, p.UnixMilli)
}

// decodePosition reads a position from its key and value.
func decodePosition(key, value []byte) (journal.Position, error) {
	k := reader{data: key[1:]}
	p := journal.Position{Partition: region.Partition(binary.BigEndian.Uint16(k.bytes(2)))}
	p.Origin = region.ID(k.text())
	p.Stream = journal.Stream(k.data)
	v := reader{data: value}
	p.Incarnation, p.Seq, p.Chain, p.UnixMilli = v.uint(), v.uint(), v.sum(), v.int()
	return p, errors.Join(k.err, v.err)
}

// errCorrupt is a stored value that this engine did not write.
var errCorrupt = errors.New("store: a stored value is malformed")

// reader reads from the front of data; after the first error it returns zeros.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail() { r.err, r.data = errCorrupt, nil }

func (r *reader) uint() uint64 {
	n, w := binary.Uvarint(r.data)
	if w <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[w:]
	return n
}

func (r *reader) int() int64 {
	n, w := binary.Varint(r.data)
	if w <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[w:]
	return n
}

var zeros [16]byte

// bytes returns n bytes, n at most 16.
func (r *reader) bytes(n int) []byte {
	if len(r.data) < n {
		r.fail()
		return zeros[:n]
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) byte() byte       { return r.bytes(1)[0] }
func (r *reader) sum() journal.Sum { return journal.Sum(r.bytes(16)) }
func (r *reader) term() region.Term {
	return region.Term{Counter: r.uint(), Raised: region.ShortHash(r.bytes(8))}
}

func (r *reader) text() []byte {
	n := r.uint()
	if n > uint64(len(r.data)) {
		r.fail()
		return nil
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}
