package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

const (
	// fetchVersion is the version of the fetch API asked for, the newest the
	// library speaks; brokers have had it since Kafka 2.3.
	fetchVersion = 11

	// maxAnswerBytes bounds the answer to a fetch. A broker may exceed what was
	// asked for by one record batch.
	maxAnswerBytes = maxFetchBytes + 8<<20

	// maxBatchRecords bounds a record batch. The shipper's are of 1 MiB, with
	// messages far larger than the four bytes this amounts to; a count beyond it
	// is damage, for which the library would allocate before it looks.
	maxBatchRecords = 1 << 18

	// maxInflated bounds a record batch once it is inflated, in bytes: twice what a
	// broker takes of the largest one. A few KiB can say that they are GiB.
	maxInflated = 8 << 20

	// maxInflatedAnswer is after how many inflated bytes the rest of an answer is
	// left for the next fetch.
	maxInflatedAnswer = 64 << 20

	// maxWindow is the window of a frame's back references, which its reader has
	// to hold: that of the strongest ordinary level.
	maxWindow = 8 << 20
)

// carefulFetch is a fetch whose answer may be damaged. The library decodes
// record batches on a goroutine of its own, panics at lengths that make no
// sense, allocates whatever a count says and reads beyond the answer's end. A
// log whose file has rotted on the broker's disk is enough for the first, which
// would end the process, again after every restart, until retention takes the
// log. A request that exchanges its bytes itself is run where its answer can be
// looked at first, and a panic turned into an error.
type carefulFetch struct {
	*fetch.Request
	clientID      string
	correlationID int32
	version       int16 // agreed on with the broker
	inflater      *zstd.Decoder
}

var (
	_ protocol.BrokerMessage = (*carefulFetch)(nil)
	_ protocol.RawExchanger  = (*carefulFetch)(nil)
)

// Required notes the version that was agreed on.
func (f *carefulFetch) Required(versions map[protocol.ApiKey]int16) bool {
	f.version = versions[protocol.Fetch]
	return true
}

// RawExchange sends the request and reads the answer. After an error the
// library drops the connection.
func (f *carefulFetch) RawExchange(rw io.ReadWriter) (m protocol.Message, err error) {
	if f.version != fetchVersion {
		return nil, fmt.Errorf("the broker speaks version %d of the fetch API where %d is needed: use Kafka 2.3 or newer", f.version, fetchVersion)
	}
	if err := protocol.WriteRequest(rw, f.version, f.correlationID, f.clientID, f.Request); err != nil {
		return nil, err
	}
	var length [4]byte
	if _, err := io.ReadFull(rw, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 4 || n > maxAnswerBytes {
		return nil, fmt.Errorf("an answer of %d bytes; the limit is %d", n, maxAnswerBytes)
	}
	frame := make([]byte, 4+n)
	copy(frame, length[:])
	if _, err := io.ReadFull(rw, frame[4:]); err != nil {
		return nil, err
	}
	if id := int32(binary.BigEndian.Uint32(frame[4:])); id != f.correlationID {
		return nil, fmt.Errorf("the answer to request %d where that to %d was expected", id, f.correlationID)
	}
	if frame, err = checkAnswer(frame, f.inflater); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	_, m, err = protocol.ReadResponse(bytes.NewBuffer(frame), protocol.Fetch, f.version)
	return m, err
}

var errDamaged = errors.New("damaged answer")

// checkAnswer walks the answer to a fetch (Kafka protocol, FetchResponse
// version 11, record batches of magic 2) and holds every length and count in it
// against the bytes there are. It returns the answer as the library shall read it:
// with what is compressed inflated, within the limits. Where it inflates to more
// than is wanted at once it is cut short, as a broker does that keeps to the bytes
// asked for.
func checkAnswer(frame []byte, inflater *zstd.Decoder) ([]byte, error) {
	w := walk{b: frame, frame: frame, inflater: inflater}
	w.take(4 + 4)     // length, correlation ID
	w.take(4 + 2 + 4) // throttle, error, session
	for range w.count(2 + 4) {
		w.take(int(int16(w.uint(2)))) // topic
		for range w.count(4 + 2 + 8 + 8 + 8 + 4 + 4 + 4) {
			w.take(4 + 2 + 8 + 8 + 8)  // partition, error, high watermark, last stable offset, log start
			for range w.count(8 + 8) { // aborted transactions
				w.take(8 + 8)
			}
			w.take(4) // preferred replica
			w.batches(w.take(w.count(1)))
		}
	}
	if w.damaged {
		return nil, errDamaged
	}
	if w.out == nil {
		return frame, nil
	}
	w.out = append(w.out, frame[w.copied:]...)
	binary.BigEndian.PutUint32(w.out, uint32(len(w.out)-4))
	return w.out, nil
}

// walk goes through bytes; it stands still once damaged.
type walk struct {
	b        []byte
	damaged  bool
	frame    []byte // all of it
	inflater *zstd.Decoder

	out      []byte // the answer inflated, as far as copied; nil while nothing was compressed
	copied   int    // bytes of frame that are in out
	inflated int    // bytes that inflated batches take in out
	scratch  []byte
}

// take returns the next n bytes, nil when there are fewer.
func (w *walk) take(n int) []byte {
	if n < 0 || n > len(w.b) {
		w.damaged, w.b = true, nil
		return nil
	}
	head := w.b[:n]
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

// The record batch of magic 2: offsets of its fields.
const (
	batchLength  = 8 // of what follows it
	batchPrefix  = 8 + 4
	batchMagic   = 16
	batchCRC     = 17 // of what follows it
	batchAttrs   = 21
	batchCount   = 57
	batchRecords = 61
)

// batches checks the record batches of a log, and inflates those that are
// compressed. The last one may be cut short, which is how a broker keeps to the
// bytes asked for.
func (w *walk) batches(log []byte) {
	end := len(w.frame) - len(w.b)
	var out []byte // the log inflated; nil while nothing of it was compressed
	b := log
	for len(b) > batchMagic {
		n := int(int32(binary.BigEndian.Uint32(b[batchLength:])))
		if b[batchMagic] != 2 {
			w.damaged = true // or of before Kafka 0.11
			return
		}
		if n > len(b)-batchPrefix {
			break
		}
		if n < batchRecords-batchPrefix || binary.BigEndian.Uint32(b[batchCount:]) > maxBatchRecords {
			w.damaged = true
			return
		}
		batch := b[:batchPrefix+n]
		codec := protocol.Attributes(binary.BigEndian.Uint16(batch[batchAttrs:])).Compression()
		if codec != 0 && out == nil {
			out = append(make([]byte, 0, 4*len(log)), log[:len(log)-len(b)]...)
		}
		switch {
		case codec != 0 && w.inflated >= maxInflatedAnswer:
			w.replace(end, len(log), out)
			return
		case codec != 0:
			before := len(out)
			if out = w.inflate(out, codec, batch); w.damaged {
				return
			}
			w.inflated += len(out) - before
		case out != nil:
			out = append(out, batch...)
		}
		b = b[len(batch):]
	}
	if out != nil {
		w.replace(end, len(log), append(out, b...))
	}
}

// replace puts another log, and its length, in the place of one of size bytes that
// ends at an offset of the frame.
func (w *walk) replace(end, size int, log []byte) {
	w.out = append(w.out, w.frame[w.copied:end-size-4]...)
	w.out = binary.BigEndian.AppendUint32(w.out, uint32(len(log)))
	w.out = append(w.out, log...)
	w.copied = end
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// inflate appends a batch that is not compressed in the place of one that is.
func (w *walk) inflate(out []byte, codec compress.Compression, batch []byte) []byte {
	if crc32.Checksum(batch[batchAttrs:], castagnoli) != binary.BigEndian.Uint32(batch[batchCRC:]) {
		w.damaged = true
		return out
	}
	at := len(out)
	out = append(out, batch[:batchRecords]...)
	out, err := w.records(out, codec, batch[batchRecords:])
	if err != nil || len(out)-at > maxInflated {
		w.damaged = true
		return out
	}
	plain := out[at:]
	plain[batchAttrs+1] &^= 7 // the codec
	binary.BigEndian.PutUint32(plain[batchLength:], uint32(len(plain)-batchPrefix))
	binary.BigEndian.PutUint32(plain[batchCRC:], crc32.Checksum(plain[batchAttrs:], castagnoli))
	return out
}

// records appends what compressed records inflate to, and little more than the
// limit at most.
func (w *walk) records(out []byte, codec compress.Compression, records []byte) ([]byte, error) {
	if codec == compress.Zstd {
		inflated, err := w.inflater.DecodeAll(records, w.scratch[:0]) // the limit counts what is there already
		w.scratch = inflated
		return append(out, inflated...), err
	}
	c := codec.Codec()
	if c == nil {
		return out, errDamaged
	}
	r := c.NewReader(bytes.NewReader(records))
	inflated, err := io.ReadAll(io.LimitReader(r, maxInflated+1))
	return append(out, inflated...), errors.Join(err, r.Close())
}

// newInflater returns what zstd is inflated with, within the limits.
func newInflater() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxInflated), zstd.WithDecoderMaxWindow(maxWindow))
}
