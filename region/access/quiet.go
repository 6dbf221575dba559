package access

import (
	"errors"
	"net"
	"syscall"

	"github.com/pires/go-proxyproto"
)

// quiet is the socket of a long connection. It can be waited for without a
// buffer, and read without waiting, also from below TLS, which keeps what it
// has read and goes on later.
type quiet struct {
	net.Conn                 // with the PROXY header
	raw      syscall.RawConn // without: of use once the header and what came with it were read
	now      bool            // Read does not wait; of the reading goroutine
	spot     spot            // in the parking
}

func newQuiet(conn net.Conn) (*quiet, error) {
	tcp := conn
	if p, ok := conn.(*proxyproto.Conn); ok {
		tcp = p.Raw()
	}
	s, ok := tcp.(syscall.Conn)
	if !ok {
		return nil, errors.New("access: not a socket")
	}
	raw, err := s.SyscallConn()
	return &quiet{Conn: conn, raw: raw}, err
}

// errNotNow is a Read that would have had to wait. TLS takes it for an error
// that passes.
type errNotNow struct{}

func (errNotNow) Error() string   { return "access: nothing to read now" }
func (errNotNow) Timeout() bool   { return true }
func (errNotNow) Temporary() bool { return true }

func (q *quiet) Read(b []byte) (n int, err error) {
	if !q.now {
		return q.Conn.Read(b)
	}
	failed := q.raw.Read(func(fd uintptr) bool {
		for {
			n, err = syscall.Read(int(fd), b)
			if !errors.Is(err, syscall.EINTR) {
				return true
			}
		}
	})
	switch {
	case failed != nil:
		return 0, failed
	case errors.Is(err, syscall.EAGAIN):
		return 0, errNotNow{}
	case err != nil:
		return 0, err
	case n == 0 && len(b) > 0:
		return q.Conn.Read(b) // the end, as everybody knows it
	default:
		return n, nil
	}
}
