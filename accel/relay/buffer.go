package relay

import "sync"

// BufferSize is the size of a pooled buffer in bytes: the largest TLS record, so
// that one read passes on all that one record held.
const BufferSize = 16 << 10

// Buffer is a pooled buffer with data in it. Whoever holds it calls Free once.
type Buffer struct {
	space [BufferSize]byte
	n     int
}

// buffers is shared by all relays of the process: a pool per relay would hold
// what it is there to save.
var buffers = sync.Pool{New: func() any { return new(Buffer) }}

func newBuffer() *Buffer { return buffers.Get().(*Buffer) }

// Bytes returns the data; it is valid until Free.
func (b *Buffer) Bytes() []byte { return b.space[:b.n] }

// Free gives the buffer back.
func (b *Buffer) Free() {
	b.n = 0
	buffers.Put(b)
}
