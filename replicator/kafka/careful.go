package kafka

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"

	"github.com/homing-im/homing/replicator"
)

const (
	// fetchVersion is the version of the fetch API asked for, the newest the
	// library speaks; brokers have had it since Kafka 2.3.
	fetchVersion = 11

	// maxAnswerBytes bounds the answer to a fetch. A broker may exceed what was
	// asked for by one record batch.
	maxAnswerBytes = maxFetchBytes + 8<<20
)

// carefulFetch is a fetch whose answer is read here. The library decodes record
// batches on a goroutine of its own, panics at lengths that make no sense,
// allocates whatever a count says and reads beyond the answer's end: a log whose
// file has rotted on the broker's disk would end the process, again after every
// restart, until retention takes the log. It also takes several times longer, for
// it copies every key and value twice.
type carefulFetch struct {
	*fetch.Request
	offsets       map[replicator.TopicPartition]int64 // asked for
	frames        *sync.Pool                          // of *[]byte, for answers
	inflater      *zstd.Decoder
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
	lent := f.frames.Get().(*[]byte)
	defer f.frames.Put(lent)
	if cap(*lent) < int(n) {
		*lent = make([]byte, n)
	}
	frame := (*lent)[:n]
	if _, err := io.ReadFull(rw, frame); err != nil {
		return nil, err
	}
	if id := int32(binary.BigEndian.Uint32(frame)); id != f.correlationID {
		return nil, fmt.Errorf("the answer to request %d where that to %d was expected", id, f.correlationID)
	}
	defer func() { // what a codec does with damage is its own affair
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	a, err := readAnswer(frame[4:], &inflater{zstd: f.inflater}, f.asked)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// asked returns the offset that was asked of a log.
func (f *carefulFetch) asked(topic string, p int) (offset int64, ok bool) {
	offset, ok = f.offsets[replicator.TopicPartition{Topic: topic, Partition: partition(p)}]
	return offset, ok
}
