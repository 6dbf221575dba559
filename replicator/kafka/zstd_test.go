package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/protocol"
)

// recordBatch spells a record batch with one record, compressed by a codec.
func recordBatch(t testing.TB, codec protocol.Attributes, value []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	set := protocol.RecordSet{Version: 2, Attributes: codec, Records: protocol.NewRecordReader(
		protocol.Record{Key: protocol.NewBytes([]byte("key")), Value: protocol.NewBytes(value)})}
	if _, err := set.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()[4:] // behind the length of the set
}

// answerOf is a broker's answer to a fetch: one log with record batches, which the
// library has no way to say.
func answerOf(_ testing.TB, batches ...[]byte) []byte {
	var log []byte
	for i, batch := range batches {
		log = append(log, batch...)
		binary.BigEndian.PutUint64(log[len(log)-len(batch):], uint64(i)) // the offset, which no checksum covers
	}
	b := make([]byte, 4, 128+len(log))
	b = binary.BigEndian.AppendUint32(b, 1)           // correlation ID
	b = append(b, make([]byte, 4+2+4)...)             // throttle, error, session
	b = append(b, 0, 0, 0, 1, 0, 1, 'a', 0, 0, 0, 1)  // one topic, a, one partition
	b = append(b, make([]byte, 4+2)...)               // partition, error
	b = binary.BigEndian.AppendUint64(b, 1<<40)       // high watermark
	b = append(b, make([]byte, 8+8)...)               // last stable offset, log start
	b = append(b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff) // no aborted transactions, no preferred replica
	b = binary.BigEndian.AppendUint32(b, uint32(len(log)))
	b = append(b, log...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// TestInflated reads every codec that a topic can be set to, and refuses what
// inflates to more than a broker would have taken.
func TestInflated(t *testing.T) {
	value, zeros := bytes.Repeat([]byte("a value of some length "), 1000), make([]byte, 2*maxInflated)
	for name, codec := range map[string]protocol.Attributes{"none": 0, "gzip": protocol.Gzip, "snappy": protocol.Snappy, "lz4": protocol.Lz4, "zstd": protocol.Zstd} {
		good := recordBatch(t, codec, value)
		if n, err := exchange(answerOf(t, good, good, good)); n != 3 || err != nil {
			t.Errorf("%s: %d records, %v", name, n, err)
		}
		if codec == 0 {
			continue
		}
		bomb := recordBatch(t, codec, zeros)
		if n, err := exchange(answerOf(t, good, bomb)); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %d bytes that inflate to %d: %d records, %v", name, len(bomb), len(zeros), n, err)
		}
	}
}

// TestInflatedAnswer has an answer of many good batches inflate to more than is
// taken at once: the rest is left to the next fetch.
func TestInflatedAnswer(t *testing.T) {
	const size = 4 << 20
	good := recordBatch(t, protocol.Zstd, make([]byte, size))
	many := make([][]byte, 2*maxInflatedAnswer/size)
	for i := range many {
		many[i] = good
	}
	if n, err := exchange(answerOf(t, many...)); err != nil || n != maxInflatedAnswer/size {
		t.Fatalf("%d of %d records of %d bytes, %v", n, len(many), size, err)
	}
}

// TestInflatedWindow refuses a frame that wants its reader to hold more than the
// largest batch is.
func TestInflatedWindow(t *testing.T) {
	const header = 61
	for window, refused := range map[int]bool{maxWindow: false, 8 * maxWindow: true} {
		good := recordBatch(t, protocol.Zstd, []byte("value"))
		plain, err := zstd.NewReader(bytes.NewReader(good[header:]), zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		var frame bytes.Buffer
		w, err := zstd.NewWriter(&frame, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plain.WriteTo(w); err != nil {
			t.Fatal(err)
		}
		plain.Close()
		if err := errors.Join(w.Flush(), w.Close()); err != nil { // flushed, so that the frame does not say its size
			t.Fatal(err)
		}
		batch := append(bytes.Clone(good[:header]), frame.Bytes()...)
		binary.BigEndian.PutUint32(batch[8:], uint32(len(batch)-12))
		binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
		n, err := exchange(answerOf(t, batch))
		if refused != errors.Is(err, errDamaged) || !refused && n != 1 {
			t.Errorf("a window of %d bytes: %d records, %v", window, n, err)
		}
	}
}
