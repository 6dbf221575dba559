package wire

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func TestFrameRoundTrip(t *testing.T) {
	var all []byte
	var want []Frame
	for _, size := range []int{0, 1, 100, readBuffer, keepBuffer + 1, growStep * 3, MaxBody} {
		f := Frame{Method: Send, Flags: FlagResponse, Sequence: uint64(size), Body: bytes.Repeat([]byte{byte(size)}, size)}
		b, err := AppendFrame(all, f)
		if err != nil {
			t.Fatal(err)
		}
		all, want = b, append(want, f)
	}
	for name, r := range map[string]io.Reader{
		"whole":    bytes.NewReader(all),
		"halves":   iotest.HalfReader(bytes.NewReader(all)),
		"with EOF": iotest.DataErrReader(bytes.NewReader(all)),
		"bytes":    iotest.OneByteReader(bytes.NewReader(all)),
	} {
		t.Run(name, func(t *testing.T) {
			rd := NewReader(r)
			for i, w := range want {
				f, err := rd.Next()
				if err != nil {
					t.Fatalf("frame %d: %v", i, err)
				}
				if f.Method != w.Method || f.Flags != w.Flags || f.Sequence != w.Sequence || !bytes.Equal(f.Body, w.Body) {
					t.Fatalf("frame %d differs", i)
				}
			}
			if _, err := rd.Next(); err != io.EOF {
				t.Fatalf("at the end: %v, want io.EOF", err)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		flags Flags
		kind  region.Kind
	}{
		{0, 0},
		{FlagResponse, 0},
		{FlagPush, 0},
		{FlagResponse | FlagError, 0},
		{FlagResponse | FlagError | FlagRetryable, 0},
		{FlagPush | FlagError, 0},
		{FlagError, region.BadInput},
		{FlagResponse | FlagPush, region.BadInput},
		{FlagResponse | FlagRetryable, region.BadInput},
		{1 << 5, region.BadInput},
		{1 << 15, region.BadInput},
		{FlagResponse | FlagCompressed, region.Unsupported},
	} {
		if k := region.KindOf(tt.flags.Valid()); k != tt.kind {
			t.Errorf("flags %#04x: kind %v, want %v", uint16(tt.flags), k, tt.kind)
		}
	}
}

func TestRefused(t *testing.T) {
	header := func(h Header) []byte { return h.Append(nil) }
	for _, tt := range []struct {
		name  string
		input []byte
		kind  region.Kind // 0: check err
		err   error
	}{
		{"nothing", nil, 0, io.EOF},
		{"half a header", header(Header{})[:7], 0, io.ErrUnexpectedEOF},
		{"half a body", append(header(Header{Length: 10, Method: Send}), 1, 2, 3), 0, io.ErrUnexpectedEOF},
		{"no body at all", header(Header{Length: 10, Method: Send}), 0, io.ErrUnexpectedEOF},
		{"one byte too large", header(Header{Length: MaxBody + 1}), region.TooLarge, nil},
		{"giant", header(Header{Length: 1<<32 - 1}), region.TooLarge, nil},
		{"unknown flag", header(Header{Flags: 1 << 9}), region.BadInput, nil},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), region.TooLarge, nil},
		{"TLS", []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0}, region.TooLarge, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewReader(bytes.NewReader(tt.input)).Next()
			if tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if tt.kind != 0 && region.KindOf(err) != tt.kind {
				t.Errorf("error %v is of kind %v, want %v", err, region.KindOf(err), tt.kind)
			}
		})
	}
	if _, err := AppendFrame(nil, Frame{Body: make([]byte, MaxBody+1)}); region.KindOf(err) != region.TooLarge {
		t.Errorf("writing a body over the limit: %v", err)
	}
	r := NewReader(bytes.NewReader(header(Header{Length: 101, Method: Hello})))
	r.Limit(100)
	if _, err := r.Next(); region.KindOf(err) != region.TooLarge {
		t.Errorf("a frame over the reader's own limit: %v", err)
	}
}

// A header that promises the largest body and sends none of it must not cost
// the largest body.
func TestPromisesCostNothing(t *testing.T) {
	head := Header{Length: MaxBody, Method: Send}.Append(nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 50
	for range n {
		if _, err := NewReader(bytes.NewReader(head)).Next(); err == nil {
			t.Fatal("half a frame was read")
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / n; per > 2*growStep {
		t.Errorf("%d bytes allocated per promise, want at most %d", per, 2*growStep)
	}
}

// One large frame must not make a connection expensive for ever.
func TestReaderForgetsLargeBuffers(t *testing.T) {
	large, _ := AppendFrame(nil, Frame{Method: Send, Body: make([]byte, MaxBody)})
	small, _ := AppendFrame(nil, Frame{Method: Send, Body: []byte{1}})
	r := NewReader(io.MultiReader(bytes.NewReader(large), bytes.NewReader(small)))
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.buf) > keepBuffer {
		t.Errorf("the reader still holds %d bytes", len(r.buf))
	}
}

func TestWriterBatches(t *testing.T) {
	var calls int
	var out bytes.Buffer
	w := NewWriter(writerFunc(func(b []byte) (int, error) { calls++; return out.Write(b) }))
	for i := range 10 {
		if err := w.Message(Notice, FlagPush, 0, &v1.Notice{Sequence: uint64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Message(Notice, FlagError, 0, &v1.Notice{}); err == nil {
		t.Error("a frame whose flags cannot be was written")
	}
	if err := w.Flush(); err != nil || calls != 1 {
		t.Fatalf("flush: %v in %d calls, want one", err, calls)
	}
	r := NewReader(&out)
	for i := range 10 {
		f, err := r.Next()
		n := new(v1.Notice)
		if err != nil || Unmarshal(f, n) != nil || n.Sequence != uint64(i) {
			t.Fatalf("frame %d: %v %v", i, n, err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func FuzzReader(f *testing.F) {
	for _, g := range golden() {
		f.Add(g.bytes())
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(Header{Length: MaxBody, Method: Hello}.Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(iotest.HalfReader(bytes.NewReader(in)))
		used := 0
		for {
			fr, err := r.Next()
			if err != nil {
				break
			}
			again, err := AppendFrame(nil, fr)
			if err != nil || !bytes.Equal(again, in[used:used+len(again)]) {
				t.Fatalf("frame at %d is not what was read: %v", used, err)
			}
			used += len(again)
			if info, ok := Lookup(fr.Method); ok {
				_ = Unmarshal(fr, info.NewRequest()) // must not panic
				_ = Unmarshal(fr, info.NewResponse())
			}
		}
	})
}

func FuzzError(f *testing.F) {
	b, _ := proto.Marshal(&v1.Error{Code: 7, Message: "m", Redirect: &v1.Redirect{Home: "sh"}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		p := new(v1.Error)
		if proto.Unmarshal(in, p) != nil {
			return
		}
		err := FromProto(p)
		if region.KindOf(err).Retryable() != p.Retryable {
			t.Fatalf("%v: retryable %v became %v", p, p.Retryable, region.KindOf(err))
		}
		again := ToProto(err, 0)
		if again.Retryable != p.Retryable || again.Message != p.Message || !proto.Equal(again.Redirect, p.Redirect) {
			t.Fatalf("%v became %v", p, again)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	one, _ := AppendMessage(nil, Send, 0, 1, &v1.SendRequest{To: 1000001, ClientMessageId: "0123456789abcdef", Body: &v1.Body{Kind: &v1.Body_Text{Text: "hello from Shanghai"}}})
	stream := bytes.Repeat(one, 1000)
	b.ReportAllocs()
	b.SetBytes(int64(len(one)))
	r := NewReader(nil)
	for b.Loop() {
		if r.Buffered() == 0 {
			r.r = bytes.NewReader(stream)
		}
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
