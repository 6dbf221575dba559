package wire

import (
	"errors"
	"io"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
)

const (
	// readBuffer is the smallest read buffer, bytes.
	readBuffer = 2 << 10
	// keepBuffer is the largest buffer kept between frames: one large message
	// must not make a connection expensive for the rest of its life.
	keepBuffer = 16 << 10
	// growStep bounds what is allocated ahead of the bytes that arrived: a
	// header that promises 1 MiB and sends nothing costs this much, not 1 MiB.
	growStep = 32 << 10
)

// buffers are those of readBuffer bytes that nobody reads into now.
var buffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

// Reader reads frames. It is not safe for concurrent use. An error that passes,
// such as a deadline moved on later, loses nothing: Next goes on where it was.
type Reader struct {
	r          io.Reader
	buf        []byte
	start, end int // unread bytes are buf[start:end]
	limit      int
}

// NewReader makes a reader with MaxBody as its limit.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, limit: MaxBody} }

// Limit refuses bodies above n bytes from now on (at most MaxBody), so that a
// peer that has proven nothing yet cannot make the reader hold much.
func (r *Reader) Limit(n int) { r.limit = min(n, MaxBody) }

// Next blocks for a whole frame. Its body is valid until the next call.
//
// Errors: io.EOF between frames, io.ErrUnexpectedEOF within one, the
// connection's own, and those of [ParseHeader], after which the stream is
// useless.
func (r *Reader) Next() (Frame, error) {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if len(r.buf) > keepBuffer {
			r.buf = nil
		}
	}
	if err := r.fill(HeaderSize); err != nil {
		return Frame{}, err
	}
	h, err := ParseHeader(r.buf[r.start:r.end])
	if err != nil {
		return Frame{}, err
	}
	if int(h.Length) > r.limit {
		return Frame{}, region.Errorf(region.TooLarge, "%s of %d bytes is over the limit of %d", h.Method, h.Length, r.limit)
	}
	size := HeaderSize + int(h.Length)
	if err := r.fill(size); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	body := r.buf[r.start+HeaderSize : r.start+size : r.start+size]
	r.start += size
	return Frame{Method: h.Method, Flags: h.Flags, Sequence: h.Sequence, Body: body}, nil
}

// Buffered returns how many bytes were read but not yet returned in frames.
func (r *Reader) Buffered() int { return r.end - r.start }

// Release gives the buffer back while nothing waits in it, so that a connection
// that is silent holds none. The body of the last frame is no longer valid.
func (r *Reader) Release() {
	if r.start != r.end {
		return
	}
	if len(r.buf) == readBuffer {
		buffers.Put((*[readBuffer]byte)(r.buf))
	}
	r.buf, r.start, r.end = nil, 0, 0
}

// Ready says whether Next returns without reading.
func (r *Reader) Ready() bool {
	have := r.end - r.start
	if have < HeaderSize {
		return false
	}
	h, err := ParseHeader(r.buf[r.start:r.end])
	return err != nil || int(h.Length) > r.limit || have >= HeaderSize+int(h.Length)
}

// fill makes at least n unread bytes available.
func (r *Reader) fill(n int) error {
	for r.end-r.start < n {
		r.makeRoom(n)
		m, err := r.r.Read(r.buf[r.end:])
		r.end += m
		if r.end-r.start >= n {
			return nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) && r.end > r.start {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// makeRoom leaves room for at least one byte, growing towards n.
func (r *Reader) makeRoom(n int) {
	if r.start+n <= len(r.buf) {
		return
	}
	have := r.end - r.start
	if n <= len(r.buf) || (r.start > 0 && have < len(r.buf)) {
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, have
		return
	}
	if have < len(r.buf) {
		return
	}
	size := max(readBuffer, min(n, 2*have+growStep))
	if size == readBuffer {
		r.buf, r.start, r.end = buffers.Get().(*[readBuffer]byte)[:], 0, 0 // have is 0: else the buffer there would do
		return
	}
	grown := make([]byte, size)
	copy(grown, r.buf[r.start:r.end])
	r.buf, r.start, r.end = grown, 0, have
}

// Writer collects frames and writes them together. It is not safe for
// concurrent use.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter makes a writer.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Frame adds a frame; nothing is written before [Writer.Flush].
func (w *Writer) Frame(f Frame) error {
	b, err := AppendFrame(w.buf, f)
	w.buf = b
	return err
}

// Message adds a frame whose body is m; nothing is written before [Writer.Flush].
func (w *Writer) Message(method Method, flags Flags, sequence uint64, m proto.Message) error {
	b, err := AppendMessage(w.buf, method, flags, sequence, m)
	w.buf = b
	return err
}

// Buffered returns how many bytes wait for Flush.
func (w *Writer) Buffered() int { return len(w.buf) }

// Flush writes what was added in one call of the underlying writer.
func (w *Writer) Flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.w.Write(w.buf)
	w.buf = w.buf[:0]
	if cap(w.buf) > keepBuffer {
		w.buf = nil
	}
	return err
}
