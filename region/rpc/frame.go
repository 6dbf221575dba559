package rpc

import (
	"encoding/binary"
	"io"

	"github.com/homing-im/homing/region"
)

// Version of the frames, sent in hello.
//
//	1: the first one
const Version = 1

// Sizes in bytes.
const (
	HeaderSize = 20
	// MaxBody holds the store's largest batch (1 MiB) and the largest scan.
	MaxBody = 4 << 20
	// maxHello is the limit before the other end has proven anything.
	maxHello = 4 << 10
)

// Method numbers what a call or tell is about. Each service numbers its own.
type Method uint16

type kind uint8

const (
	kindHello    kind = 1
	kindProof    kind = 2
	kindReady    kind = 3
	kindRequest  kind = 4
	kindResponse kind = 5
	kindError    kind = 6
	kindRefused  kind = 7
	kindTell     kind = 8
	kindCancel   kind = 9
	kindBye      kind = 10
)

// frame is a header and its body.
type frame struct {
	kind     kind
	method   Method
	sequence uint64
	timeout  uint32 // milliseconds; of a request
	body     []byte
}

func appendFrame(dst []byte, f frame) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(f.body)))
	dst = append(dst, byte(f.kind), 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(f.method))
	dst = binary.BigEndian.AppendUint64(dst, f.sequence)
	dst = binary.BigEndian.AppendUint32(dst, f.timeout)
	return append(dst, f.body...)
}

// parseHeader reads the first 20 bytes of b, and returns the length of the body.
// Errors: region.BadInput, region.TooLarge; the connection is useless then.
func parseHeader(b []byte, limit int) (frame, int, error) {
	if len(b) < HeaderSize {
		return frame{}, 0, region.Errorf(region.BadInput, "a frame header has %d bytes, want %d", len(b), HeaderSize)
	}
	n := binary.BigEndian.Uint32(b)
	f := frame{
		kind: kind(b[4]), method: Method(binary.BigEndian.Uint16(b[6:])),
		sequence: binary.BigEndian.Uint64(b[8:]), timeout: binary.BigEndian.Uint32(b[16:]),
	}
	numbered := f.kind == kindRequest || f.kind == kindResponse || f.kind == kindError || f.kind == kindRefused || f.kind == kindCancel
	switch {
	case n > uint32(limit):
		return f, 0, region.Errorf(region.TooLarge, "a frame of %d bytes is over the limit of %d", n, limit)
	case f.kind < kindHello || f.kind > kindBye || b[5] != 0:
		return f, 0, region.Errorf(region.BadInput, "a frame of kind %d.%d", b[4], b[5]).WithHint("the other end speaks another version")
	case numbered != (f.sequence != 0):
		return f, 0, region.Errorf(region.BadInput, "a frame of kind %d with sequence %d", f.kind, f.sequence)
	case f.timeout != 0 && f.kind != kindRequest:
		return f, 0, region.Errorf(region.BadInput, "a frame of kind %d with a timeout", f.kind)
	case n != 0 && (f.kind == kindReady || f.kind == kindCancel || f.kind == kindBye):
		return f, 0, region.Errorf(region.BadInput, "a frame of kind %d with a body", f.kind)
	}
	return f, int(n), nil
}

// growStep bounds what is allocated ahead of the bytes that arrived: a header
// that promises 4 MiB and sends nothing costs this much.
const growStep = 64 << 10

// readFrame reads a whole frame; its body is the caller's.
func readFrame(r io.Reader, limit int) (frame, error) {
	var h [HeaderSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, err
	}
	f, n, err := parseHeader(h[:], limit)
	if err != nil || n == 0 {
		return f, err
	}
	f.body = make([]byte, 0, min(n, growStep))
	for len(f.body) < n {
		have := len(f.body)
		step := min(n-have, max(have, growStep))
		f.body = append(f.body, make([]byte, step)...)
		if _, err := io.ReadFull(r, f.body[have:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return f, err
		}
	}
	return f, nil
}
