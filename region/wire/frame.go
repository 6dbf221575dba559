package wire

import (
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// Version is the wire version this package speaks, sent in Hello.
//
//	1: the first one
const Version = 1

// Sizes in bytes.
const (
	HeaderSize = 16
	MaxBody    = 1 << 20 // larger bodies are refused by both sides
)

// Flags qualify a frame. A request has none.
type Flags uint16

// The flags. Every other bit is refused.
const (
	FlagResponse   Flags = 1 << 0 // answers the request of the same sequence
	FlagPush       Flags = 1 << 1 // sent by the server without being asked; its sequence is 0
	FlagError      Flags = 1 << 2 // the body is an Error
	FlagRetryable  Flags = 1 << 3 // with FlagError: the same request may succeed later
	FlagCompressed Flags = 1 << 4 // reserved; refused in wire version 1

	knownFlags = FlagResponse | FlagPush | FlagError | FlagRetryable | FlagCompressed
)

// Valid reports why the combination of flags cannot be, or nil.
func (f Flags) Valid() error {
	switch {
	case f&^knownFlags != 0:
		return region.Errorf(region.BadInput, "frame has unknown flags %#04x", uint16(f&^knownFlags))
	case f&FlagCompressed != 0:
		return region.Errorf(region.Unsupported, "compressed frames are not part of wire version %d", Version)
	case f&FlagResponse != 0 && f&FlagPush != 0:
		return region.Errorf(region.BadInput, "frame is flagged both response and push")
	case f&FlagError != 0 && f&(FlagResponse|FlagPush) == 0:
		return region.Errorf(region.BadInput, "a request cannot carry the error flag")
	case f&FlagRetryable != 0 && f&FlagError == 0:
		return region.Errorf(region.BadInput, "frame is flagged retryable without being an error")
	}
	return nil
}

// Header is what precedes every body.
type Header struct {
	Length   uint32 // of the body, bytes
	Method   Method
	Flags    Flags
	Sequence uint64 // chosen by the client, echoed by the response; 0 in pushes
}

// Append appends the 16 bytes of the header.
func (h Header) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, h.Length)
	dst = binary.BigEndian.AppendUint16(dst, uint16(h.Method))
	dst = binary.BigEndian.AppendUint16(dst, uint16(h.Flags))
	return binary.BigEndian.AppendUint64(dst, h.Sequence)
}

// ParseHeader reads the first 16 bytes of b. It refuses lengths above MaxBody
// and flags that cannot be, with region.TooLarge, region.BadInput or
// region.Unsupported; after that the stream cannot be trusted any more.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, region.Errorf(region.BadInput, "frame header has %d bytes, want %d", len(b), HeaderSize)
	}
	h := Header{
		Length:   binary.BigEndian.Uint32(b),
		Method:   Method(binary.BigEndian.Uint16(b[4:])),
		Flags:    Flags(binary.BigEndian.Uint16(b[6:])),
		Sequence: binary.BigEndian.Uint64(b[8:]),
	}
	if h.Length > MaxBody {
		return h, region.Errorf(region.TooLarge, "frame body of %d bytes is over the limit of %d", h.Length, MaxBody)
	}
	return h, h.Flags.Valid()
}

// Frame is a header and its body.
type Frame struct {
	Method   Method
	Flags    Flags
	Sequence uint64
	Body     []byte
}

// Is says whether all of the flags are set.
func (f *Frame) Is(flags Flags) bool { return f.Flags&flags == flags }

// AppendFrame appends the frame. Errors: region.TooLarge, and flags that cannot
// be; dst is then returned as it was.
func AppendFrame(dst []byte, f Frame) ([]byte, error) {
	if len(f.Body) > MaxBody {
		return dst, tooLarge(f.Method, len(f.Body))
	}
	if err := f.Flags.Valid(); err != nil {
		return dst, err
	}
	h := Header{Length: uint32(len(f.Body)), Method: f.Method, Flags: f.Flags, Sequence: f.Sequence}
	return append(h.Append(dst), f.Body...), nil
}

// AppendMessage appends a frame whose body is m, encoded in place.
func AppendMessage(dst []byte, method Method, flags Flags, sequence uint64, m proto.Message) ([]byte, error) {
	if err := flags.Valid(); err != nil {
		return dst, err
	}
	start := len(dst)
	dst = Header{Method: method, Flags: flags, Sequence: sequence}.Append(grow(dst, HeaderSize+room(m)))
	dst, err := AppendProto(dst, m)
	if err != nil {
		return dst[:start], region.Errorf(region.Internal, "cannot encode %s", method).WithCause(err)
	}
	n := len(dst) - start - HeaderSize
	if n > MaxBody {
		return dst[:start], tooLarge(method, n)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(n))
	return dst, nil
}

// Unmarshal decodes a body into m. Unknown fields are kept and are no error, so
// that a newer peer is understood. Errors: region.BadInput.
func Unmarshal(f Frame, m proto.Message) error {
	if r, ok := m.(*v1.SendRequest); ok && readSend(f.Body, r) {
		return nil
	}
	if err := proto.Unmarshal(f.Body, m); err != nil {
		return region.Errorf(region.BadInput, "body of %s is not a %s", f.Method, m.ProtoReflect().Descriptor().Name()).WithCause(err)
	}
	return nil
}

func tooLarge(m Method, n int) error {
	return region.Errorf(region.TooLarge, "%s of %d bytes is over the limit of %d", m, n, MaxBody)
}
