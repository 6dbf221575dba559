package relay

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
)

// Layout of the wire's frame header; see region/wire. Only what is needed to
// find where a frame ends and what it was is read.
const (
	headerSize   = 16
	lengthOffset = 0
	methodOffset = 4
)

// Frames writes a stream of frames through to a writer and knows where frames
// end, so that a frame of one's own can be put in between. It is safe for
// concurrent use: one goroutine writes, others inject.
type Frames struct {
	pending atomic.Pointer[[]byte] // to be written at the next boundary

	mu     sync.Mutex
	w      io.Writer
	header [methodOffset + 2]byte // of the frame under way, as far as it is needed
	have   int                    // bytes of the header seen, 0 to headerSize
	left   uint32                 // bytes of the body to come
	method uint16                 // of the newest frame
	err    error                  // sticky: after it the position is unknown
}

// NewFrames makes a Frames in front of a writer. The writer's stream has to be
// at a frame boundary.
func NewFrames(w io.Writer) *Frames { return &Frames{w: w} }

// Write passes p on, with a pending frame at the first boundary.
func (f *Frames) Write(p []byte) (int, error) {
	f.mu.Lock()
	n, err := f.write(p)
	f.mu.Unlock()
	f.flush() // a frame may have been injected while the lock was held
	return n, err
}

func (f *Frames) write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.pending.Load() == nil {
		for rest := p; len(rest) > 0; {
			rest = rest[f.advance(rest):]
		}
		n, err := f.w.Write(p)
		f.err = err
		return n, err
	}
	done := 0
	for done < len(p) {
		if f.boundary() {
			if err := f.put(); err != nil {
				return done, err
			}
		}
		k := f.advance(p[done:])
		n, err := f.w.Write(p[done : done+k])
		done += n
		if err != nil {
			f.err = err
			return done, err
		}
	}
	return done, nil
}

// Inject writes a whole frame, at once when the stream is between frames and
// nobody is writing, else as soon as it is. A frame that was still pending is
// replaced. It blocks at most as long as one write does.
func (f *Frames) Inject(frame []byte) {
	f.pending.Store(&frame)
	f.flush()
}

// flush writes the pending frame if it may be written now. Whoever fails to get
// the lock leaves the frame to the holder, who flushes after unlocking.
func (f *Frames) flush() {
	for f.pending.Load() != nil && f.mu.TryLock() {
		blocked := f.err != nil || !f.boundary()
		if !blocked {
			_ = f.put() // sticky: the writer meets it
		}
		f.mu.Unlock()
		if blocked {
			return
		}
	}
}

// put writes the pending frame; the lock is held and the stream at a boundary.
func (f *Frames) put() error {
	frame := f.pending.Swap(nil)
	if frame == nil {
		return nil
	}
	_, err := f.w.Write(*frame)
	f.err = err
	return err
}

// Newest returns the method of the frame that was begun last; 0 when none was.
func (f *Frames) Newest() uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.method
}

// Between says whether the stream is between frames.
func (f *Frames) Between() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.boundary()
}

func (f *Frames) boundary() bool { return f.have == 0 && f.left == 0 }

// advance moves the position over the part of p, at least one byte, that
// belongs to the frame under way, and returns its length.
func (f *Frames) advance(p []byte) int {
	n := 0
	for f.have < headerSize && n < len(p) && (f.have > 0 || f.left == 0) {
		if f.have < len(f.header) {
			f.header[f.have] = p[n]
		}
		f.have++
		n++
		if f.have == headerSize {
			f.left = binary.BigEndian.Uint32(f.header[lengthOffset:])
			f.method = binary.BigEndian.Uint16(f.header[methodOffset:])
			f.have = 0
			if f.left == 0 {
				return n
			}
			break
		}
	}
	if f.have > 0 {
		return n
	}
	k := min(uint32(min(len(p)-n, 1<<30)), f.left)
	f.left -= k
	return n + int(k)
}
