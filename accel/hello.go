package accel

import (
	"errors"
	"io"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// hello is the first frame of a client: what it says, and its bytes.
type hello struct {
	header wire.Header
	bytes  []byte // the whole frame as it came
	body   v1.Hello
}

func (h *hello) uin() region.UIN { return region.UIN(h.body.Uin) }

// readFrame reads exactly one frame and not a byte more, so that what follows
// can be relayed from the connection itself. The bytes include the header.
//
// Errors: io.EOF before the first byte, io.ErrUnexpectedEOF in the middle, the
// reader's own, and region errors for a frame that cannot be.
func readFrame(r io.Reader, limit uint32) (wire.Header, []byte, error) {
	b := make([]byte, wire.HeaderSize, 512)
	if _, err := io.ReadFull(r, b); err != nil {
		return wire.Header{}, nil, err
	}
	h, err := wire.ParseHeader(b)
	if err != nil {
		return h, nil, err
	}
	if h.Length > limit {
		return h, nil, region.Errorf(region.TooLarge, "%s of %d bytes is over the limit of %d", h.Method, h.Length, limit)
	}
	// At most limit bytes, which is small here: a header that promises and does
	// not deliver costs no more.
	b = append(b, make([]byte, h.Length)...)
	if _, err := io.ReadFull(r, b[wire.HeaderSize:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return h, nil, err
	}
	return h, b, nil
}

// readHello reads the client's first frame. The header is set as far as it was
// understood, so that an error can be sent in reply to it.
func readHello(r io.Reader) (*hello, error) {
	header, b, err := readFrame(r, MaxHello)
	h := &hello{header: header, bytes: b}
	if err != nil {
		return h, err
	}
	if header.Method != wire.Hello || header.Flags != 0 {
		return h, region.Errorf(region.BadInput, "the first frame is %s, not Hello", header.Method).WithHint("a long connection begins with Hello")
	}
	if err := wire.Unmarshal(wire.Frame{Method: header.Method, Body: b[wire.HeaderSize:]}, &h.body); err != nil {
		return h, err
	}
	if h.body.Uin == 0 {
		return h, region.Errorf(region.BadInput, "Hello names no UIN").WithHint("register on the short connection first")
	}
	return h, nil
}

// refusal is the frame that answers HELLO with an error.
func (h *hello) refusal(err error, world uint64) []byte {
	e := wire.ToProto(err, world)
	b, ferr := wire.AppendMessage(nil, wire.Hello, wire.ErrorFlags(e), h.header.Sequence, e)
	if ferr != nil { // our own short sentences: cannot be too large
		return nil
	}
	return b
}

// redirectOf returns the redirect in a region's reply to HELLO, or nil: it is
// either the method's own response or the detail of an error.
func redirectOf(header wire.Header, b []byte) *v1.Redirect {
	f := wire.Frame{Method: header.Method, Body: b[wire.HeaderSize:]}
	switch {
	case header.Flags&wire.FlagError != 0:
		var e v1.Error
		if wire.Unmarshal(f, &e) != nil || region.Kind(e.Code) != region.WrongRegion {
			return nil
		}
		return e.Redirect
	case header.Method == wire.Redirect:
		r := new(v1.Redirect)
		if wire.Unmarshal(f, r) != nil {
			return nil
		}
		return r
	default:
		return nil
	}
}
