//go:build unix

package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// nextPlain takes a buffer only inside the callback that runs when the socket
// may be readable, and gives it back when it is not.
func nextPlain(c *net.TCPConn) (*Buffer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var b *Buffer
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		b = newBuffer()
		for {
			b.n, failed = syscall.Read(int(fd), b.space[:])
			if !errors.Is(failed, syscall.EINTR) {
				break
			}
		}
		if errors.Is(failed, syscall.EAGAIN) {
			b.Free()
			b = nil
			return false
		}
		return true
	})
	switch {
	case err != nil:
		if b != nil {
			b.Free()
		}
		return nil, err
	case failed != nil:
		b.Free()
		return nil, os.NewSyscallError("read", failed)
	case b.n == 0:
		b.Free()
		return nil, io.EOF
	}
	return b, nil
}
