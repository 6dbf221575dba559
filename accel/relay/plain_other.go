//go:build !unix

package relay

import "net"

// nextPlain holds its buffer while it waits: without access to the socket there
// is no other way. Plain connections are for loopback only.
func nextPlain(c *net.TCPConn) (*Buffer, error) {
	b := newBuffer()
	n, err := c.Read(b.space[:])
	if n == 0 {
		b.Free()
		return nil, err
	}
	b.n = n
	return b, nil
}
