package relay

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// Conn is one end of a relay: a TCP connection, plain or with TLS on it. Reading
// is for one goroutine at a time, writing for another one.
type Conn struct {
	net.Conn // the TLS connection when there is one
	tcp      *net.TCPConn
	tls      *tls.Conn // nil when plain
	gate     *gate     // below tls; nil when plain
	one      [1]byte   // what a TLS read that may block reads into
}

// Plain makes an end without TLS.
func Plain(c *net.TCPConn) *Conn { return &Conn{Conn: c, tcp: c} }

// Server makes an end that is the server of a TLS connection. Nothing is read
// before Handshake or the first read.
func Server(c *net.TCPConn, cfg *tls.Config) *Conn {
	g := &gate{Conn: c}
	t := tls.Server(g, cfg)
	return &Conn{Conn: t, tcp: c, tls: t, gate: g}
}

// Client makes an end that is the client of a TLS connection.
func Client(c *net.TCPConn, cfg *tls.Config) *Conn {
	g := &gate{Conn: c}
	t := tls.Client(g, cfg)
	return &Conn{Conn: t, tcp: c, tls: t, gate: g}
}

// Handshake makes the TLS handshake, if there is TLS.
func (c *Conn) Handshake(ctx context.Context) error {
	if c.tls == nil {
		return nil
	}
	return c.tls.HandshakeContext(ctx)
}

// CloseWrite tells the peer that nothing more is coming: close_notify and FIN.
func (c *Conn) CloseWrite() error {
	if c.tls != nil {
		if err := c.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return c.tcp.CloseWrite()
}

// Abort closes the connection at once, without a word of TLS, so that a peer
// that does not read cannot hold the caller.
func (c *Conn) Abort() error { return c.tcp.Close() }

// Next blocks until there is data and returns it in a pooled buffer. While it
// blocks it holds none.
func (c *Conn) Next() (*Buffer, error) {
	if c.tls == nil {
		return nextPlain(c.tcp)
	}
	// A byte of room is enough to wait with. What the record holds beyond the
	// byte, and any record that was read along with it, stays inside the TLS
	// connection; it is fetched with the gate shut, so nothing blocks while a
	// buffer is held.
	n, err := c.tls.Read(c.one[:])
	if n == 0 {
		return nil, err
	}
	b := newBuffer()
	b.space[0] = c.one[0]
	b.n = 1
	if err != nil {
		return b, nil // the next call meets the error again
	}
	c.gate.shut = true
	for b.n < len(b.space) {
		n, err := c.tls.Read(b.space[b.n:])
		b.n += n
		if err != nil {
			break // errShut; a real one is sticky and comes back at the next call
		}
	}
	c.gate.shut = false
	return b, nil
}

// gate stands between a TLS connection and its socket. Shut, it says there is
// nothing more instead of waiting.
type gate struct {
	net.Conn
	shut bool // touched by the reading goroutine only
}

func (g *gate) Read(p []byte) (int, error) {
	if g.shut {
		return 0, errShut{}
	}
	return g.Conn.Read(p)
}

// errShut is temporary, and crypto/tls keeps no temporary error: the connection
// reads on when the gate is open.
type errShut struct{}

func (errShut) Error() string   { return "relay: gate is shut" }
func (errShut) Timeout() bool   { return true }
func (errShut) Temporary() bool { return true }

var _ net.Error = errShut{}

// WriteTimeout is how long one write may take before its peer counts as gone. A
// live peer that stops reading is met by nothing else: its kernel answers every
// keepalive.
const WriteTimeout = 30 * time.Second

// Write writes all of p within WriteTimeout.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.tcp.SetWriteDeadline(time.Now().Add(WriteTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
