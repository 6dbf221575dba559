package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// distance makes connections as long as an ocean is wide: every byte arrives half
// a round trip after it was sent, in order, at any rate. A process of its own
// carries the bytes, or they would wait for this one's processor time too, which
// no ocean does. It counts what arrives.
type distance struct {
	proxy    string
	received atomic.Uint64 // bytes, by who dialled
	stop     func() error
}

func startDistance(ctx context.Context, rtt time.Duration) (*distance, error) {
	address, stop, err := startProcess(ctx, "distance", "--rtt", rtt.String())
	return &distance{proxy: address, stop: stop}, err
}

// dial connects; there is no more of a handshake than the system's. The proxy is
// told where to by the first line.
func (d *distance) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, network, d.proxy)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(c, address); err != nil {
		_ = c.Close()
		return nil, err
	}
	return &farConn{c, d}, nil
}

// late returns how late the proxy has passed bytes on, beyond the time they are to
// take, since it was last asked: the 99th percentile, in milliseconds.
func (d *distance) late(ctx context.Context) (float64, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", d.proxy)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if _, err := fmt.Fprintln(c, askLate); err != nil {
		return 0, err
	}
	var millis float64
	_, err = fmt.Fscanln(c, &millis)
	return millis, err
}

// askLate is the first line of a connection that asks how late the proxy is.
const askLate = "late"

// lateness is how late bytes were passed on.
type lateness struct {
	mu sync.Mutex
	histogram
}

func (l *lateness) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.histogram.add(d)
}

// take returns the 99th percentile, in milliseconds, and begins anew.
func (l *lateness) take() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	p99 := l.quantile(0.99)
	l.histogram = histogram{}
	return p99
}

// farConn counts what it reads.
type farConn struct {
	net.Conn
	over *distance
}

func (c *farConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.over.received.Add(uint64(n))
	return n, err
}

// newDistanceCommand is the proxy.
func newDistanceCommand(out io.Writer) *cobra.Command {
	var rtt time.Duration
	cmd := &cobra.Command{
		Use: "distance", Hidden: true, Short: "A distance between regions, for bench replicate", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			fmt.Fprintln(out, l.Addr())
			defer context.AfterFunc(contextOf(c), func() { _ = l.Close() })()
			var group sync.WaitGroup
			var late lateness
			for {
				near, err := l.Accept()
				if err != nil {
					group.Wait()
					return nil
				}
				group.Go(func() { cross(near, rtt/2, &late) })
			}
		},
	}
	cmd.Flags().DurationVar(&rtt, "rtt", 0, "round trip")
	return cmd
}

// cross joins a connection with where its first line says, until either ends.
func cross(near net.Conn, oneWay time.Duration, late *lateness) {
	defer func() { _ = near.Close() }()
	r := bufio.NewReader(near)
	address, err := r.ReadString('\n')
	if err != nil {
		return
	}
	address = strings.TrimSpace(address)
	if address == askLate {
		_, _ = fmt.Fprintln(near, late.take())
		return
	}
	far, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	end := func() { _, _ = near.Close(), far.Close() }
	var group sync.WaitGroup
	group.Go(func() { carry(far, r, oneWay, late, end) })
	group.Go(func() { carry(near, far, oneWay, late, end) })
	group.Wait()
}

// parcel is bytes under way.
type parcel struct {
	due  time.Time
	data []byte
}

// carry takes what comes out of one connection to another, in its time, and then
// ends both.
func carry(to io.Writer, from io.Reader, oneWay time.Duration, late *lateness, end func()) {
	under := make(chan parcel, 4096)
	var group sync.WaitGroup
	group.Go(func() {
		defer end()
		for p := range under {
			time.Sleep(time.Until(p.due))
			late.add(time.Since(p.due))
			if _, err := to.Write(p.data); err != nil {
				end()
				for range under { // until its reader has seen that from is closed
				}
				return
			}
		}
	})
	for {
		b := make([]byte, 64<<10)
		n, err := from.Read(b)
		if n > 0 {
			under <- parcel{time.Now().Add(oneWay), b[:n]}
		}
		if err != nil {
			break
		}
	}
	close(under)
	group.Wait()
}
