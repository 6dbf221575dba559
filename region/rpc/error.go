package rpc

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Lost is the error of a call that got no answer from a handler. It is
// region.Unavailable.
type Lost struct {
	Err  *region.Error
	Sent bool // the handler may have begun with it
}

func (l *Lost) Error() string { return l.Err.Error() }

// Unwrap returns the region.Error, so that region.KindOf works.
func (l *Lost) Unwrap() error { return l.Err }

// Sent says whether the other end may have begun with a call that ended in this
// error. It is true for an answer of the handler.
func Sent(err error) bool {
	var l *Lost
	return !errors.As(err, &l) || l.Sent
}

// Answered says whether the error is an answer of the handler, as opposed to a
// failure on the way.
func Answered(err error) bool {
	var l *Lost
	return !errors.As(err, &l)
}

func lost(sent bool, cause error, format string, args ...any) error {
	return &Lost{Err: region.Errorf(region.Unavailable, format, args...).WithHint("try again").WithCause(cause), Sent: sent}
}

func errorBody(err error) []byte {
	b, merr := proto.Marshal(wire.ToProto(err, 0))
	if merr != nil {
		return nil
	}
	return b
}

func errorOf(body []byte) error {
	p := new(v1.Error)
	if err := proto.Unmarshal(body, p); err != nil || p.Code == 0 {
		return region.Errorf(region.Internal, "the other end's error cannot be read").WithCause(err)
	}
	return wire.FromProto(p)
}
