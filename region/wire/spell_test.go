package wire

import (
	"bytes"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	v1 "github.com/homing-im/homing/region/homingv1"
)

// twins are bodies that are spelled by hand, and next to them some that must not
// be.
func twins() (ordinary, others []proto.Message) {
	text := func(s string) *v1.Body { return &v1.Body{Kind: &v1.Body_Text{Text: s}} }
	strange := &v1.Body{}
	strange.ProtoReflect().SetUnknown([]byte{0x7a, 1, 'x'})
	full := &v1.Message{Id: bytes.Repeat([]byte{7}, 16), Sequence: 300, Sender: 1_000_001, To: math.MaxUint64, ClientMessageId: "m-1", SentUnixMilli: 1_700_000_000_123, Body: text("你好"), Recalled: true}
	ordinary = []proto.Message{
		&v1.Notice{}, &v1.Notice{Sequence: 1}, &v1.Notice{Sequence: 5, Message: &v1.Message{}}, &v1.Notice{Sequence: math.MaxUint64, Message: full},
		&v1.SendResponse{}, &v1.SendResponse{Mark: &v1.Mark{}},
		&v1.SendResponse{Id: full.Id, Sequence: 128, SentUnixMilli: -1, Repeated: true, Mark: &v1.Mark{Incarnation: 3, Sequence: 1 << 40}},
		&v1.SendRequest{}, &v1.SendRequest{To: 5, ClientMessageId: "é", Body: text("")}, &v1.SendRequest{ToHandle: "bob", ClientMessageId: "1", Body: text(string(bytes.Repeat([]byte("x"), 5000)))},
		&v1.Message{}, full, &v1.Message{Body: text("x")},
	}
	others = []proto.Message{
		&v1.Notice{Message: &v1.Message{Body: &v1.Body{}}}, &v1.Notice{Message: &v1.Message{Body: strange}},
		&v1.SendRequest{Body: &v1.Body{Kind: &v1.Body_Media{Media: &v1.Media{Url: "https://x.example/1"}}}}, &v1.SendRequest{Body: strange},
		&v1.Message{Body: &v1.Body{Kind: &v1.Body_System{System: &v1.System{Event: "e"}}}}, &v1.Heartbeat{WorldVersion: 4},
	}
	return ordinary, others
}

// TestSpell compares what is spelled by hand with its twin in package proto.
func TestSpell(t *testing.T) {
	ordinary, others := twins()
	for i, m := range append(ordinary, others...) {
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := AppendProto([]byte("before"), m); err != nil || string(got) != "before"+string(want) {
			t.Errorf("%T %v: %x, %v; want %x", m, m, got, err, want)
		}
		if _, ok := spell(nil, m); ok != (i < len(ordinary)) {
			t.Errorf("%T %v: by hand %v", m, m, ok)
		}
	}
	for _, bad := range []proto.Message{&v1.Message{ClientMessageId: "\xff"}, &v1.SendRequest{ToHandle: "\xff"}, &v1.Notice{Message: &v1.Message{Body: &v1.Body{Kind: &v1.Body_Text{Text: "\xff"}}}}} {
		if _, err := AppendProto(nil, bad); err == nil {
			t.Errorf("%T with a text that is not UTF-8 was spelled", bad)
		}
	}
}

// FuzzReadSend: what is read by hand is read in the same way by package proto,
// and what is not a SendRequest is never read.
func FuzzReadSend(f *testing.F) {
	ordinary, others := twins()
	for _, m := range append(ordinary, others...) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x22, 2, 0x0a, 0, 0x22, 2, 0x0a, 0}) // two bodies, which are merged
	f.Add([]byte{0x08, 1, 0x08, 2, 0x1a, 1, 'a', 0x1a, 1, 'b'})
	f.Add([]byte{0x22, 4, 0x0a, 0, 0x0a, 0})
	f.Add([]byte{0x1a, 1, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, want := new(v1.SendRequest), new(v1.SendRequest)
		if !readSend(b, got) {
			return
		}
		if err := proto.Unmarshal(b, want); err != nil {
			t.Fatalf("%x was read, and is none: %v", b, err)
		}
		if !proto.Equal(got, want) {
			t.Fatalf("%x: %v, want %v", b, got, want)
		}
	})
}

// TestReadSend: what clients send is read by hand.
func TestReadSend(t *testing.T) {
	for _, m := range []*v1.SendRequest{{}, {To: 7, ClientMessageId: "1", Body: &v1.Body{Kind: &v1.Body_Text{Text: "hello"}}}, {ToHandle: "bob", ClientMessageId: "2", Body: &v1.Body{Kind: &v1.Body_Text{Text: ""}}}} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := new(v1.SendRequest)
		if !readSend(b, got) || !proto.Equal(got, m) {
			t.Errorf("%v is read as %v", m, got)
		}
	}
}

func BenchmarkSpell(b *testing.B) {
	n := &v1.Notice{Sequence: 300, Message: &v1.Message{Id: make([]byte, 16), Sequence: 300, Sender: 1_000_001, To: 1_000_002, ClientMessageId: "abcdefgh-0000000000000000", SentUnixMilli: 1_700_000_000_123,
		Body: &v1.Body{Kind: &v1.Body_Text{Text: string(bytes.Repeat([]byte("x"), 128))}}}}
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := AppendProto(nil, n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("proto", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := (proto.MarshalOptions{Deterministic: true}).Marshal(n); err != nil {
				b.Fatal(err)
			}
		}
	})
}
