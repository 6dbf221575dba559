package wire

import (
	"context"
	"errors"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// Error is a [region.Error] with what the connection adds to it.
type Error struct {
	Err          *region.Error
	WorldVersion uint64        // of the node that answered; 0 is unknown
	RetryAfter   time.Duration // 0 is the caller's choice
	Redirect     *v1.Redirect  // with WrongRegion
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the region.Error, so that region.KindOf works.
func (e *Error) Unwrap() error { return e.Err }

// RedirectOf returns the redirect that an error carries, or nil.
func RedirectOf(err error) *v1.Redirect {
	var e *Error
	if errors.As(err, &e) {
		return e.Redirect
	}
	return nil
}

// ToProto turns any error into what a client may see: causes stay here, and an
// error that is no region.Error becomes Internal. A context that ended is
// Unavailable, because the outcome is unknown and the idempotency key makes
// another try harmless. It returns nil for nil.
func ToProto(err error, worldVersion uint64) *v1.Error {
	if err == nil {
		return nil
	}
	var e *region.Error
	if !errors.As(err, &e) {
		e = classify(err)
	}
	p := &v1.Error{
		Code: uint32(e.Kind), Name: e.Kind.String(), Message: e.Message, Hint: e.Hint,
		Retryable: e.Kind.Retryable(), WorldVersion: worldVersion,
	}
	var w *Error
	if errors.As(err, &w) {
		p.Redirect = w.Redirect
		p.RetryAfterMilli = uint32(w.RetryAfter.Milliseconds())
		p.WorldVersion = max(p.WorldVersion, w.WorldVersion)
	}
	return p
}

func classify(err error) *region.Error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return region.Errorf(region.Unavailable, "the request took too long").WithHint("try again under the same idempotency key")
	case errors.Is(err, context.Canceled):
		return region.Errorf(region.Unavailable, "the request was cancelled").WithHint("try again under the same idempotency key")
	default:
		return region.Errorf(region.Internal, "internal error").WithHint("ask the operator")
	}
}

// FromProto is the inverse of [ToProto]; it returns an *Error, or nil for nil.
// Retryable is taken from the wire: a newer region may know kinds this code
// does not, and those become Unavailable or Internal.
func FromProto(p *v1.Error) error {
	if p == nil {
		return nil
	}
	k := region.Kind(p.Code)
	if k.Retryable() != p.Retryable {
		k = region.Internal
		if p.Retryable {
			k = region.Unavailable
		}
	}
	return &Error{
		Err:          &region.Error{Kind: k, Message: p.Message, Hint: p.Hint},
		WorldVersion: p.WorldVersion,
		RetryAfter:   time.Duration(p.RetryAfterMilli) * time.Millisecond,
		Redirect:     p.Redirect,
	}
}

// ErrorFlags returns the flags of a response frame that carries the error.
func ErrorFlags(p *v1.Error) Flags {
	f := FlagResponse | FlagError
	if p.Retryable {
		f |= FlagRetryable
	}
	return f
}

// connectCodes is how kinds look to a Connect or gRPC client that does not read
// the detail.
func connectCode(k region.Kind) connect.Code {
	switch k {
	case region.BadInput:
		return connect.CodeInvalidArgument
	case region.Unauthenticated:
		return connect.CodeUnauthenticated
	case region.Forbidden:
		return connect.CodePermissionDenied
	case region.NotFound:
		return connect.CodeNotFound
	case region.Conflict:
		return connect.CodeAlreadyExists
	case region.WrongRegion:
		return connect.CodeFailedPrecondition
	case region.Unavailable:
		return connect.CodeUnavailable
	case region.Overloaded, region.TooLarge:
		return connect.CodeResourceExhausted
	case region.Unsupported:
		return connect.CodeUnimplemented
	default:
		return connect.CodeInternal
	}
}

// ToConnect turns an error into a Connect error with the same Error as its
// detail, and the redirect's endpoints in a header. An error that is a Connect
// error already is returned as it is.
func ToConnect(err error, worldVersion uint64) error {
	if err == nil {
		return nil
	}
	var already *connect.Error
	if errors.As(err, &already) {
		return err
	}
	p := ToProto(err, worldVersion)
	text := p.Message
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	c := connect.NewError(connectCode(region.Kind(p.Code)), errors.New(text))
	if d, err := connect.NewErrorDetail(p); err == nil {
		c.AddDetail(d)
	}
	if p.Redirect != nil {
		c.Meta().Set(RedirectHeader, strings.Join(p.Redirect.Endpoints, ","))
	}
	return c
}

// FromConnect is the inverse of [ToConnect]. Errors without a detail, such as
// those of a proxy on the way, are classified by their code.
func FromConnect(err error) error {
	var c *connect.Error
	if err == nil || !errors.As(err, &c) {
		return err
	}
	for _, d := range c.Details() {
		if m, derr := d.Value(); derr == nil {
			if p, ok := m.(*v1.Error); ok {
				return FromProto(p)
			}
		}
	}
	k := region.Internal
	switch c.Code() {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		k = region.BadInput
	case connect.CodeUnauthenticated:
		k = region.Unauthenticated
	case connect.CodePermissionDenied:
		k = region.Forbidden
	case connect.CodeNotFound:
		k = region.NotFound
	case connect.CodeUnimplemented:
		k = region.Unsupported
	case connect.CodeResourceExhausted:
		k = region.TooLarge
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeAborted:
		k = region.Unavailable
	}
	return &Error{Err: region.Errorf(k, "%s", c.Message()).WithCause(err)}
}
