//go:build linux

package netns_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/deploy/lab/netns"
	"github.com/homing-im/homing/deploy/lab/wan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two namespaces have addresses of their own in 127.0.0.0/8, and what one sends
// to the other takes the line's delay each way; a cut line carries nothing.
func TestTwoSites(t *testing.T) {
	if err := netns.Possible(); err != nil {
		t.Skip("no network namespaces: ", err)
	}
	const delay = 30 * time.Millisecond
	w := wan.New(slog.New(slog.DiscardHandler))
	defer func() { _ = w.Close() }()
	at := map[wan.Site]netip.Addr{"a": netip.MustParseAddr("127.0.1.1"), "b": netip.MustParseAddr("127.0.2.1")}
	ns := map[wan.Site]*netns.Namespace{}
	for _, s := range []wan.Site{"a", "b"} {
		n, port, err := netns.New(wan.MTU, at[s])
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = n.Close() }()
		ns[s] = n
		if err := w.Add(s, port, func(wan.Site) wan.Shape { return wan.Shape{Delay: delay} }, at[s]); err != nil {
			t.Fatal(err)
		}
	}
	var l net.Listener
	if err := ns["b"].Do(func() (err error) {
		l, err = net.Listen("tcp", "127.0.2.1:7000")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var echoing sync.WaitGroup
	defer echoing.Wait()
	defer func() { _ = l.Close() }()
	echoing.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.Close()
	})
	var c net.Conn
	began := time.Now()
	if err := ns["a"].Do(func() (err error) {
		c, err = net.DialTimeout("tcp", "127.0.2.1:7000", 10*time.Second)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if took := time.Since(began); took < 2*delay {
		t.Errorf("connecting over a line of %s each way took %s", delay, took)
	}
	if got := c.LocalAddr().String(); netip.MustParseAddrPort(got).Addr() != at["a"] {
		t.Errorf("the connection comes from %s, want %s", got, at["a"])
	}
	echo := func(limit time.Duration) error {
		_ = c.SetDeadline(time.Now().Add(limit))
		if _, err := c.Write([]byte("ping")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
	began = time.Now()
	if err := echo(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*delay {
		t.Errorf("there and back over a line of %s each way took %s", delay, took)
	}
	if err := w.Change("b", "a", func(s *wan.Shape) { s.Cut = true }); err != nil {
		t.Fatal(err)
	}
	if err := echo(5 * delay); err == nil {
		t.Error("an answer came over a line that is cut")
	}
	if err := w.Change("b", "a", func(s *wan.Shape) { s.Cut = false }); err != nil {
		t.Fatal(err)
	}
	// The host's own loopback is another network.
	if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", "127.0.2.1:7000"); err == nil {
		_ = c.Close()
		t.Error("the host reaches into a namespace")
	}
}
