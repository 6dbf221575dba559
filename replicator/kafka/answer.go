package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/segmentio/kafka-go/protocol"

	"github.com/homing-im/homing/replicator"
)

const (
	// maxBatchRecords bounds a record batch. The shipper's are of 1 MiB, with
	// messages far larger than the four bytes this amounts to; a count beyond it
	// is damage.
	maxBatchRecords = 1 << 18
)

// errDamaged is an answer that no broker means: a log's file may have rotted.
var errDamaged = errors.New("damaged answer")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// answer is a broker's answer to a fetch.
type answer struct {
	code int16
	logs []answered
}

// answered is what it says of one log. Messages are read only where it has no
// error.
type answered struct {
	topic     string
	partition int
	code      int16
	bounds    replicator.Bounds
	messages  []replicator.Message
}

var _ protocol.Message = (*answer)(nil)

// ApiKey implements protocol.Message.
func (*answer) ApiKey() protocol.ApiKey { return protocol.Fetch }

// readAnswer reads the answer to a fetch (Kafka protocol, FetchResponse version
// 11, record batches of magic 2) and holds every length, count and checksum in it
// against the bytes there are. What it returns shares no memory with b. From gives
// the offset that was asked of a log, false of one that was not asked and is left
// out; so are messages before it, which come because a broker answers with whole
// record batches.
func readAnswer(b []byte, in *inflater, from func(topic string, partition int) (int64, bool)) (*answer, error) {
	w := walk{b: b}
	w.take(4) // throttle
	a := &answer{code: int16(w.uint(2))}
	w.take(4) // session
	for range w.count(2 + 4) {
		topic := string(w.take(int(int16(w.uint(2)))))
		for range w.count(4 + 2 + 8 + 8 + 8 + 4 + 4 + 4) {
			l := answered{topic: topic, partition: int(int32(w.uint(4))), code: int16(w.uint(2))}
			l.bounds.End = w.int64() // high watermark
			w.take(8)                // last stable offset
			l.bounds.Start = w.int64()
			for range w.count(8 + 8) { // aborted transactions
				w.take(8 + 8)
			}
			w.take(4) // preferred replica
			records := w.take(w.count(1))
			if w.damaged {
				return nil, errDamaged
			}
			offset, asked := from(l.topic, l.partition)
			if !asked {
				continue
			}
			if l.code == 0 {
				var err error
				if l.messages, err = readLog(records, in, offset); err != nil {
					return nil, fmt.Errorf("%w, in %s/%d", err, l.topic, l.partition)
				}
			}
			a.logs = append(a.logs, l)
		}
	}
	if w.damaged {
		return nil, errDamaged
	}
	return a, nil
}

// Offsets of the fields of a record batch.
const (
	batchLength  = 8  // of what follows it
	batchMagic   = 16 // the version
	batchSum     = 17 // CRC-32C of all that follows it
	batchFlags   = 21
	batchLast    = 23 // last offset minus the first
	batchCount   = 57
	batchRecords = 61
)

// readLog reads record batches. The last one may be cut short, which is how a
// broker keeps to the bytes asked for, and those that are too much once inflated
// are left for the next fetch. The messages lie in a copy of b, so that
// who keeps one keeps no more than this log's.
func readLog(b []byte, in *inflater, from int64) ([]replicator.Message, error) {
	var out []replicator.Message
	copied := false
	for len(b) > batchMagic {
		n := int(int32(binary.BigEndian.Uint32(b[batchLength:])))
		if b[batchMagic] != 2 { // or of before Kafka 0.11
			return nil, errDamaged
		}
		if n > len(b)-batchLength-4 {
			break
		}
		if n < batchRecords-batchLength-4 {
			return nil, errDamaged
		}
		first, last := int64(binary.BigEndian.Uint64(b)), int64(int32(binary.BigEndian.Uint32(b[batchLast:])))
		if first < 0 || last < 0 || first > math.MaxInt64-last {
			return nil, errDamaged
		}
		if first+last >= from {
			if !copied {
				b, copied = bytes.Clone(b), true
			}
			if in.enough() {
				break
			}
			var err error
			if out, err = readBatch(out, b[:batchLength+4+n], in, from); err != nil {
				return nil, err
			}
		}
		b = b[batchLength+4+n:]
	}
	return out, nil
}

// readBatch appends the messages of a record batch to dst.
func readBatch(dst []replicator.Message, b []byte, in *inflater, from int64) ([]replicator.Message, error) {
	if crc32.Checksum(b[batchFlags:], castagnoli) != binary.BigEndian.Uint32(b[batchSum:]) {
		return nil, fmt.Errorf("%w: the checksum of a record batch differs", errDamaged)
	}
	n, first := binary.BigEndian.Uint32(b[batchCount:]), int64(binary.BigEndian.Uint64(b))
	records := b[batchRecords:]
	if codec := protocol.Attributes(binary.BigEndian.Uint16(b[batchFlags:])).Compression(); codec != 0 {
		var err error
		if records, err = in.inflate(codec, records); err != nil {
			return nil, err
		}
	}
	w := walk{b: records}
	if n > maxBatchRecords || int(n) > len(records)/leastRecord {
		return nil, errDamaged
	}
	if dst == nil {
		dst = make([]replicator.Message, 0, n)
	}
	for range n {
		r := walk{b: w.take(w.varint())}
		r.take(1)  // attributes
		r.varint() // time
		m := replicator.Message{Offset: first + int64(r.varint())}
		m.Key = r.take(r.varint())
		m.Value = r.take(r.varint())
		if w.damaged || r.damaged || m.Offset < first {
			return nil, errDamaged
		}
		if m.Offset >= from {
			dst = append(dst, m)
		}
	}
	return dst, nil
}

// leastRecord is the length of the shortest record.
const leastRecord = 7

// walk goes through bytes; it stands still once damaged.
type walk struct {
	b       []byte
	damaged bool
}

// take returns the next n bytes, nil when there are fewer; -1 is nothing.
func (w *walk) take(n int) []byte {
	if n == -1 {
		return nil
	}
	if n < 0 || n > len(w.b) {
		w.damaged, w.b = true, nil
		return nil
	}
	head := w.b[:n:n]
	w.b = w.b[n:]
	return head
}

// uint returns the next n bytes as a number, 0 when there are fewer.
func (w *walk) uint(n int) (v uint32) {
	for _, c := range w.take(n) {
		v = v<<8 | uint32(c)
	}
	return v
}

func (w *walk) int64() int64 { return int64(uint64(w.uint(4))<<32 | uint64(w.uint(4))) }

// varint returns a number in zigzag spelling, 0 when there is none.
func (w *walk) varint() int {
	v, n := binary.Varint(w.b)
	if n <= 0 {
		w.damaged, w.b = true, nil
		return 0
	}
	w.b = w.b[n:]
	return int(v)
}

// count returns the number of things that follow, of size bytes at least; a
// null array or string, -1, has none.
func (w *walk) count(size int) int {
	n := int(int32(w.uint(4)))
	if n == -1 {
		return 0
	}
	if n < 0 || n > len(w.b)/size {
		w.damaged, w.b = true, nil
		return 0
	}
	return n
}
