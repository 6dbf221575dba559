package relay

import "io"

// Copy moves what src sends to w until src ends, which is no error, or one of
// the two fails. Each piece is counted after it was written.
func Copy(w io.Writer, src *Conn, count func(n int)) error {
	for {
		b, err := src.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &Error{Reading: true, Err: err}
		}
		n, err := w.Write(b.Bytes())
		b.Free()
		count(n)
		if err != nil {
			return &Error{Err: err}
		}
	}
}

// Error says which side of a copy failed.
type Error struct {
	Reading bool // the source; else the destination
	Err     error
}

func (e *Error) Error() string {
	if e.Reading {
		return "relay: read: " + e.Err.Error()
	}
	return "relay: write: " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }
