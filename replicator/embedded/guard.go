package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxRequest bounds a request, in bytes. The largest ones are produces.
const maxRequest = 64 << 20

// guard hands the broker only requests whose frame is sound. kfake is made for
// tests: it allocates whatever the first four bytes say, and an unknown request
// key ends the process.
type guard struct {
	net.Listener
	logger *slog.Logger
	cut    cut
}

// cut ends the connections of whoever reads.
type cut struct {
	mu      sync.Mutex
	on      bool
	readers map[net.Conn]bool
}

func (c *cut) set(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = on
	for conn := range c.readers {
		if on {
			_ = conn.Close()
		}
	}
}

// reads says whether a connection may read.
func (c *cut) reads(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers == nil {
		c.readers = map[net.Conn]bool{}
	}
	c.readers[conn] = true
	return !c.on
}

func (c *cut) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers, conn)
}

func (g *guard) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &guarded{Conn: c, logger: g.logger, cut: &g.cut}, nil
}

// guarded checks the header of each request as it is read: u32 length, u16
// request key, u16 version.
type guarded struct {
	net.Conn
	logger *slog.Logger
	cut    *cut
	reader bool
	header [8]byte
	unread []byte // of header
	left   int    // bytes of the request after the header
	err    error
}

func (g *guarded) Read(p []byte) (int, error) {
	if len(g.unread) == 0 && g.left == 0 && g.err == nil {
		g.err = g.next()
	}
	switch {
	case g.err != nil:
		return 0, g.err
	case len(g.unread) > 0:
		n := copy(p, g.unread)
		g.unread = g.unread[n:]
		return n, nil
	}
	n, err := g.Conn.Read(p[:min(len(p), g.left)])
	g.left -= n
	return n, err
}

func (g *guarded) next() error {
	if _, err := io.ReadFull(g.Conn, g.header[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(g.header[:4])
	key := int16(binary.BigEndian.Uint16(g.header[4:6]))
	if size < 8 || size > maxRequest || kmsg.RequestForKey(key) == nil {
		g.logger.Warn("queue broker dropped a connection: not a Kafka request", "from", g.RemoteAddr().String(), "bytes", size, "key", key)
		return fmt.Errorf("not a Kafka request: %d bytes, key %d", size, key)
	}
	if fetch := (&kmsg.FetchRequest{}).Key(); key == fetch && !g.reader {
		g.reader = true
		if !g.cut.reads(g.Conn) {
			return errCut
		}
	}
	g.unread, g.left = g.header[:], int(size)-4
	return nil
}

// errCut ends the connection of a reader.
var errCut = errors.New("the broker is cut off from its readers")

// Close may come while another goroutine reads.
func (g *guarded) Close() error {
	err := g.Conn.Close()
	g.cut.forget(g.Conn)
	return err
}
