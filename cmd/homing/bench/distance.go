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
			for {
				near, err := l.Accept()
				if err != nil {
					group.Wait()
					return nil
				}
				group.Go(func() { cross(near, rtt/2) })
			}
		},
	}
	cmd.Flags().DurationVar(&rtt, "rtt", 0, "round trip")
	return cmd
}

// cross joins a connection with where its first line says, until either ends.
func cross(near net.Conn, oneWay time.Duration) {
	defer func() { _ = near.Close() }()
	r := bufio.NewReader(near)
	address, err := r.ReadString('\n')
	if err != nil {
		return
	}
	far, err := net.DialTimeout("tcp", strings.TrimSpace(address), 5*time.Second)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	end := func() { _, _ = near.Close(), far.Close() }
	var group sync.WaitGroup
	group.Go(func() { carry(far, r, oneWay, end) })
	group.Go(func() { carry(near, far, oneWay, end) })
	group.Wait()
}

// parcel is bytes under way.
type parcel struct {
	due  time.Time
	data []byte
}

// carry takes what comes out of one connection to another, in its time, and then
// ends both.
func carry(to io.Writer, from io.Reader, oneWay time.Duration, end func()) {
	under := make(chan parcel, 4096)
	var group sync.WaitGroup
	group.Go(func() {
		defer end()
		for p := range under {
			time.Sleep(time.Until(p.due))
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
