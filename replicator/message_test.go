package replicator

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

var testSpot = spot{origin: "sh", stream: journal.Full, partition: 0}

func TestDecodeRefusesWhatTheShipperWouldNotWrite(t *testing.T) {
	good := message(history(1)[0])
	if _, err := decode(testSpot, good); err != nil {
		t.Fatal(err)
	}
	other := *history(1)[0]
	other.Links = []journal.Link{{Stream: journal.Shared}}
	for name, c := range map[string]struct {
		at spot
		m  Message
	}{
		"another origin":    {spot{"hk", journal.Full, 0}, good},
		"another partition": {spot{"sh", journal.Full, 1}, good},
		"another stream":    {testSpot, message(&other)},
		"another key":       {testSpot, Message{Key: []byte("1-3"), Value: good.Value}},
		"no key":            {testSpot, Message{Value: good.Value}},
		"cut":               {testSpot, Message{Key: good.Key, Value: good.Value[:len(good.Value)-1]}},
		"longer":            {testSpot, Message{Key: good.Key, Value: append(bytes.Clone(good.Value), 0)}},
		"empty":             {testSpot, Message{}},
		"text":              {testSpot, Message{Key: []byte("1-2"), Value: []byte("hello")}},
	} {
		if _, err := decode(c.at, c.m); region.KindOf(err) != region.BadInput && region.KindOf(err) != region.Unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLastOfKey(t *testing.T) {
	for key, want := range map[string]uint64{
		"1-2": 2, "7-7": 7, "18446744073709551615-18446744073709551615": 18446744073709551615,
		"": 0, "1": 0, "-": 0, "0-1": 0, "2-1": 0, "1-2-3": 0, "a-b": 0, "1-18446744073709551616": 0, "+1-2": 0,
	} {
		last, ok := lastOf([]byte(key))
		if ok != (want > 0) || (ok && last != want) {
			t.Errorf("%q ends at %d, %v; want %d", key, last, ok, want)
		}
	}
}

// goldenAnswer is how the body of GET /journal for history(2) begins: the length
// of the first batch, then the batch as package journal pins it: format, one
// link, "full", after 0.
const goldenAnswer = "0000008a" + "01" + "01" + "0466756c6c" + "00"

func TestJournalAnswerGolden(t *testing.T) {
	var body []byte
	for _, b := range history(2) {
		body = appendBatch(body, b)
	}
	if got := hex.EncodeToString(body[:len(goldenAnswer)/2]); got != goldenAnswer {
		t.Errorf("body begins with %s, want %s", got, goldenAnswer)
	}
	back, err := decodeBatches(testSpot, body)
	if err != nil || len(back) != 2 || back[1].Last() != 4 {
		t.Fatalf("read back %d batches, %v", len(back), err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, b := range history(3) {
		m := message(b)
		f.Add(m.Key, m.Value)
	}
	f.Add([]byte("1-2"), []byte{1, 1})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		b, err := decode(testSpot, Message{Key: key, Value: value})
		if err != nil {
			return
		}
		if m := message(b); !bytes.Equal(m.Key, key) || !bytes.Equal(m.Value, value) {
			t.Fatalf("two spellings of a message: %q %x and %q %x", key, value, m.Key, m.Value)
		}
		last, ok := lastOf(key)
		if !ok || last != b.Last() {
			t.Fatalf("key %q of a batch that ends at %d", key, b.Last())
		}
		newTestOrder(1).offer(b, len(value), testTime) // must not panic, whatever it holds
	})
}

func FuzzJournalAnswer(f *testing.F) {
	var body []byte
	for _, b := range history(3) {
		body = appendBatch(body, b)
	}
	f.Add(body)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, body []byte) {
		batches, err := decodeBatches(testSpot, body)
		if err != nil {
			return
		}
		var again []byte
		for _, b := range batches {
			again = appendBatch(again, b)
		}
		if !bytes.Equal(again, body) {
			t.Fatal("two spellings of an answer")
		}
	})
}
