package journal

import (
	"encoding/binary"

	"github.com/homing-im/homing/region"
)

// Format is the number of the layout [Encode] writes: the first byte.
const Format = 1

// Encode returns the bytes of a batch with all its links: see the package
// comment. The batch has to be well formed (at least one record, ascending
// sequences, the pointer that each Kind names set); Encode panics on a record
// without its pointer, or of kind 0.
func Encode(b *Batch) []byte {
	return AppendBatch(make([]byte, 0, sizeHint(b)), b)
}

// AppendBatch appends the bytes of the batch to dst and returns it.
func AppendBatch(dst []byte, b *Batch) []byte {
	return AppendBody(AppendLinks(dst, b.Links), b)
}

// AppendLinks appends what comes before the body: the format and the links. An
// engine encodes a body once, hashes it, and only then knows the links.
func AppendLinks(dst []byte, links []Link) []byte {
	dst = append(dst, Format)
	dst = binary.AppendUvarint(dst, uint64(len(links)))
	for i := range links {
		l := &links[i]
		dst = appendText(dst, l.Stream)
		dst = binary.AppendUvarint(dst, l.Prev)
		dst = append(dst, l.Chain[:]...)
	}
	return dst
}

// AppendBody appends the body of the batch: what the chain is computed over.
func AppendBody(dst []byte, b *Batch) []byte {
	dst = appendText(dst, b.Origin)
	dst = binary.AppendUvarint(dst, uint64(b.Partition))
	dst = binary.AppendUvarint(dst, b.Incarnation)
	dst = binary.AppendUvarint(dst, uint64(b.Owner))
	dst = appendText(dst, b.Home)
	dst = binary.AppendUvarint(dst, b.Epoch.Moves)
	dst = appendTerm(dst, b.Epoch.Term)
	dst = binary.AppendVarint(dst, b.UnixMilli)
	dst = binary.AppendUvarint(dst, uint64(len(b.Records)))
	before := uint64(0)
	for i := range b.Records {
		r := &b.Records[i]
		// The length comes first and is not known yet. Most records are
		// shorter than 128 bytes or 16 KiB, so leave room for two bytes and
		// move the record only when that guess was wrong.
		start := len(dst)
		dst = append(dst, 0, 0)
		dst = appendRecord(dst, r, before)
		dst = setLength(dst, start)
		before = r.Seq
	}
	return dst
}

func setLength(dst []byte, start int) []byte {
	const room = 2
	n := len(dst) - start - room
	var length [binary.MaxVarintLen64]byte
	w := binary.PutUvarint(length[:], uint64(n))
	if w != room {
		for len(dst) < start+w+n {
			dst = append(dst, 0)
		}
		copy(dst[start+w:], dst[start+room:start+room+n])
		dst = dst[:start+w+n]
	}
	copy(dst[start:], length[:w])
	return dst
}

func appendRecord(dst []byte, r *Record, before uint64) []byte {
	dst = binary.AppendUvarint(dst, r.Seq-before)
	dst = append(dst, byte(r.Kind))
	switch r.Kind {
	case KindRow:
		w := r.Row
		dst = append(dst, byte(w.Table), bit(w.Deleted))
		dst = binary.AppendUvarint(dst, w.Version)
		dst = appendText(dst, w.Row)
		dst = appendText(dst, w.Value)
		dst = append(dst, w.Before[:]...)
		dst = append(dst, w.After[:]...)
	case KindCommand:
		c := r.Command
		dst = append(dst, c.ID[:]...)
		dst = appendText(dst, c.To)
		dst = binary.AppendUvarint(dst, uint64(c.Target))
		dst = binary.AppendUvarint(dst, uint64(c.Method))
		dst = appendText(dst, c.Payload)
	case KindWatermark:
		m := r.Watermark
		dst = appendText(dst, m.Home)
		dst = append(dst, m.SharedSum[:]...)
		dst = binary.AppendUvarint(dst, m.SharedRows)
		dst = append(dst, m.OwnSum[:]...)
		dst = binary.AppendUvarint(dst, m.OwnRows)
	case KindPosition:
		p := r.Position
		dst = appendText(dst, p.Origin)
		dst = appendText(dst, p.Stream)
		dst = binary.AppendUvarint(dst, uint64(p.Partition))
		dst = binary.AppendUvarint(dst, p.Incarnation)
		dst = binary.AppendUvarint(dst, p.Seq)
		dst = append(dst, p.Chain[:]...)
		dst = binary.AppendVarint(dst, p.UnixMilli)
	case KindTerm:
		t := r.Term
		dst = appendText(dst, t.Home)
		dst = appendTerm(dst, t.Term)
		dst = append(dst, t.What)
	case 0:
		panic("journal: record of no kind")
	default:
		dst = append(dst, r.Opaque...)
	}
	return dst
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendTerm(dst []byte, t region.Term) []byte {
	dst = binary.AppendUvarint(dst, t.Counter)
	return append(dst, t.Raised[:]...)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// sizeHint is a little more than the encoded length of ordinary batches.
func sizeHint(b *Batch) int {
	n := 96 + 48*len(b.Links)
	for i := range b.Records {
		n += 64 + len(b.Records[i].Opaque)
		if w := b.Records[i].Row; w != nil {
			n += len(w.Row) + len(w.Value)
		}
		if c := b.Records[i].Command; c != nil {
			n += len(c.Payload)
		}
	}
	return n
}
