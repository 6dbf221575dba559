package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"

	"github.com/homing-im/homing/replicator"
)

// whole is a broker's answer to a fetch: one log with three records.
func whole(t testing.TB) []byte {
	t.Helper()
	var records []protocol.Record
	for i := range 3 {
		records = append(records, protocol.Record{Offset: int64(i), Key: protocol.NewBytes([]byte("key")), Value: protocol.NewBytes([]byte("a value of some length"))})
	}
	res := &fetch.Response{Topics: []fetch.ResponseTopic{{Topic: "a", Partitions: []fetch.ResponsePartition{{
		HighWatermark: 3, RecordSet: protocol.RecordSet{Version: 2, Records: protocol.NewRecordReader(records...)},
	}}}}}
	var b bytes.Buffer
	if err := protocol.WriteResponse(&b, fetchVersion, 1, res); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// exchange reads an answer as from a connection, and counts the messages in it.
func exchange(answered []byte) (int, error) {
	got, err := exchangeFrom(0, answered)
	return len(got), err
}

// exchangeFrom reads an answer about a log that was asked for from an offset on.
func exchangeFrom(offset int64, answered []byte) (values []string, err error) {
	decoder, err := newInflater()
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	f := &carefulFetch{Request: &fetch.Request{}, correlationID: 1, version: fetchVersion, inflater: decoder,
		offsets: map[replicator.TopicPartition]int64{{Topic: "a"}: offset}, frames: &sync.Pool{New: func() any { return new([]byte) }}}
	m, err := f.RawExchange(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(answered), io.Discard})
	if err != nil {
		return nil, err
	}
	for _, l := range m.(*answer).logs {
		for _, m := range l.messages {
			values = append(values, fmt.Sprintf("%d %s=%s", m.Offset, m.Key, m.Value))
		}
	}
	return values, nil
}

// TestAnswer: what was asked for comes, and nothing before it.
func TestAnswer(t *testing.T) {
	got, err := exchangeFrom(1, whole(t))
	if want := []string{"1 key=a value of some length", "2 key=a value of some length"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// Whatever a rotten log contains, the process lives: what is damaged is an
// error, before or while the library decodes it.
func TestDamagedAnswers(t *testing.T) {
	whole := whole(t)
	if n, err := exchange(whole); n != 3 || err != nil {
		t.Fatalf("undamaged: %d records, %v", n, err)
	}
	damages := 0
	for i := 8; i < len(whole); i++ { // behind the frame's length and the correlation ID
		for _, b := range []byte{0x00, 0x7f, 0x80, 0xff} {
			damaged := bytes.Clone(whole)
			damaged[i] = b
			if _, err := exchange(damaged); errors.Is(err, errDamaged) {
				damages++
			}
		}
	}
	if damages == 0 {
		t.Error("nothing was found damaged")
	}
	for cut := range len(whole) {
		if n, err := exchange(whole[:cut]); err == nil {
			t.Errorf("%d of %d bytes: %d records and no error", cut, len(whole), n)
		}
	}
	// A negative length of a record batch.
	rotten := bytes.Clone(whole)
	at := bytes.Index(rotten, []byte("key")) - 61 + 8 - 6
	for i := range 4 {
		rotten[at+i] = 0xca
	}
	if _, err := exchange(rotten); err == nil {
		t.Error("a record batch of negative length was accepted")
	}
	if _, err := exchange([]byte{0x7f, 0, 0, 0, 0, 0, 0, 1}); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("an answer of 2 GB: %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(whole(f))
	f.Add(answerOf(f, recordBatch(f, protocol.Zstd, []byte("value")), recordBatch(f, protocol.Lz4, []byte("value"))))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = exchange(b) })
}
