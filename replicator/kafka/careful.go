package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

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
	if err := checkAnswer(frame[8:]); err != nil {
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
// against the bytes there are, and what is compressed against the limits. Where
// the answer inflates to more than is wanted at once it is cut short, as a broker
// does that keeps to the bytes asked for.
func checkAnswer(b []byte) error {
	w := walk{b: b}
	defer w.close()
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
		return errDamaged
	}
	return nil
}

// walk goes through bytes; it stands still once damaged.
type walk struct {
	b        []byte
	damaged  bool
	inflated int // bytes of all batches so far
	zstd     *zstd.Decoder
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

// batches checks the record batches of a log. The last one may be cut short,
// which is how a broker keeps to the bytes asked for.
func (w *walk) batches(b []byte) {
	const (
		prefix = 8 + 4  // base offset, length of the rest
		header = 61     // with the count of records
		magic  = 16     // offset of the version
		attrs  = 21     // offset of the attributes
		counts = 61 - 4 // offset of the count
	)
	for len(b) > magic {
		n := int(int32(binary.BigEndian.Uint32(b[8:])))
		if b[magic] != 2 {
			w.damaged = true // or of before Kafka 0.11
			return
		}
		if n > len(b)-prefix {
			return
		}
		if n < header-prefix || binary.BigEndian.Uint32(b[counts:]) > maxBatchRecords {
			w.damaged = true
			return
		}
		if codec := protocol.Attributes(binary.BigEndian.Uint16(b[attrs:])).Compression(); codec != 0 {
			if w.inflated >= maxInflatedAnswer {
				binary.BigEndian.PutUint32(b[8:], math.MaxInt32) // cut short, for the library
				return
			}
			size, err := w.inflatedSize(codec, b[header:prefix+n])
			if err != nil || size > maxInflated {
				w.damaged = true
				return
			}
			w.inflated += size
		}
		b = b[prefix+n:]
	}
}

// inflatedSize returns how long compressed records are, reading no further than
// just beyond the limit.
func (w *walk) inflatedSize(codec compress.Compression, records []byte) (int, error) {
	if codec == compress.Zstd {
		return w.zstdSize(records)
	}
	c := codec.Codec()
	if c == nil {
		return 0, errDamaged
	}
	r := c.NewReader(bytes.NewReader(records))
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxInflated+1))
	return int(n), errors.Join(err, r.Close())
}

func (w *walk) zstdSize(records []byte) (n int, err error) {
	if w.zstd == nil {
		w.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return 0, err
		}
	}
	if err := w.zstd.Reset(bytes.NewReader(records)); err != nil {
		return 0, err
	}
	size, err := io.Copy(io.Discard, io.LimitReader(w.zstd, maxInflated+1))
	return int(size), err
}

func (w *walk) close() {
	if w.zstd != nil {
		w.zstd.Close()
	}
}
