package bench

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// distance makes connections as long as an ocean is wide: every byte arrives half
// a round trip after it was sent, in order, at any rate. It counts what arrives.
type distance struct {
	rtt      time.Duration
	received atomic.Uint64 // bytes, by who dialled
	group    sync.WaitGroup
}

// dial connects; there is no more of a handshake than the system's.
func (d *distance) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	d.carry(c, far, nil)
	d.carry(far, c, &d.received)
	return &farConn{near, c}, nil
}

// wait returns when all that was carried has ended: its connections are closed.
func (d *distance) wait() { d.group.Wait() }

// parcel is bytes under way.
type parcel struct {
	due  time.Time
	data []byte
}

// carry takes what comes out of one connection to another, in its time. Either's
// end ends both.
func (d *distance) carry(to, from net.Conn, count *atomic.Uint64) {
	under := make(chan parcel, 4096)
	d.group.Go(func() {
		defer close(under)
		for {
			b := make([]byte, 64<<10)
			n, err := from.Read(b)
			if n > 0 {
				under <- parcel{time.Now().Add(d.rtt / 2), b[:n]}
			}
			if err != nil {
				return
			}
		}
	})
	d.group.Go(func() {
		defer func() { _, _ = to.Close(), from.Close() }()
		for p := range under {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.data); err != nil {
				for range under { // until its reader has seen that from is closed
					_ = from.Close()
				}
				return
			}
			if count != nil {
				count.Add(uint64(len(p.data)))
			}
		}
	})
}

// farConn is a pipe with the addresses of the connection behind it.
type farConn struct {
	net.Conn
	behind net.Conn
}

func (c *farConn) LocalAddr() net.Addr  { return c.behind.LocalAddr() }
func (c *farConn) RemoteAddr() net.Addr { return c.behind.RemoteAddr() }
