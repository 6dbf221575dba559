package region

import (
	"errors"
	"fmt"
)

// Kind classifies an error. Code branches on the kind; people act on the hint.
// The numbers are the wire's error codes: append only.
type Kind uint16

// The kinds of error.
const (
	Internal        Kind = 1  // a defect or a broken disk; ask the operator
	BadInput        Kind = 2  // the request is wrong and stays wrong
	Unauthenticated Kind = 3  // no, expired or foreign ticket, or no proof of the device key
	Forbidden       Kind = 4  // authenticated, but not allowed
	NotFound        Kind = 5  // no such owner, group, handle
	Conflict        Kind = 6  // somebody else was first: handle taken, precondition failed
	WrongRegion     Kind = 7  // another region acts for the owner: follow the redirect
	Unavailable     Kind = 8  // not now: fenced, starting, dependency down; retry later
	Overloaded      Kind = 9  // load shedding; retry after a pause
	TooLarge        Kind = 10 // over a stated limit
	Unsupported     Kind = 11 // wire version, method or world format this node does not speak
)

var kindNames = map[Kind]string{
	Internal: "internal", BadInput: "bad-input", Unauthenticated: "unauthenticated", Forbidden: "forbidden",
	NotFound: "not-found", Conflict: "conflict", WrongRegion: "wrong-region", Unavailable: "unavailable",
	Overloaded: "overloaded", TooLarge: "too-large", Unsupported: "unsupported",
}

func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind-%d", uint16(k))
}

// Retryable says whether the very same request, under the same idempotency
// key, may succeed later. This is the one place that decides it.
func (k Kind) Retryable() bool { return k == Unavailable || k == Overloaded }

// Error is an error of Homing: a kind, what went wrong, what to do about it,
// and the cause.
type Error struct {
	Kind    Kind
	Message string // one sentence, no secret, fit for the client
	Hint    string // what to do; may be empty
	Err     error  // cause; stays on the server
}

func (e *Error) Error() string {
	s := e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind without a cause.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// WithHint sets the hint and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithCause sets the cause and returns e.
func (e *Error) WithCause(err error) *Error {
	e.Err = err
	return e
}

// KindOf returns the kind of the first [Error] in err's chain; Internal when
// there is none, 0 for nil.
func KindOf(err error) Kind {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
