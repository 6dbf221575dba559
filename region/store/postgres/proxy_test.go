package postgres_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/homing-im/homing/deploy/test/pgtest"
)

const socket = ".s.PGSQL.5432"

// proxy stands between a client and a server's socket. After swallow is set it
// lets one COMMIT through and the connection break instead of the answer.
type proxy struct {
	dir     string
	swallow atomic.Bool
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp(pgtest.Memory(), "homing-px-")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, socket))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{dir: dir}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		_ = os.RemoveAll(dir)
	})
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			pg, err := net.Dial("unix", filepath.Join(server, socket))
			if err != nil {
				_ = client.Close()
				continue
			}
			var lost atomic.Bool
			both := func() { _, _ = client.Close(), pg.Close() }
			wg.Go(func() {
				defer both()
				buf := make([]byte, 64<<10)
				for {
					n, err := client.Read(buf)
					if err != nil {
						return
					}
					if bytes.Contains(buf[:n], []byte("COMMIT\x00")) && p.swallow.CompareAndSwap(true, false) {
						lost.Store(true)
					}
					if _, err := pg.Write(buf[:n]); err != nil {
						return
					}
				}
			})
			wg.Go(func() {
				defer both()
				buf := make([]byte, 64<<10)
				for {
					n, err := pg.Read(buf)
					if err != nil || lost.Load() { // the answer has come this far
						return
					}
					if _, err := client.Write(buf[:n]); err != nil && err != io.ErrClosedPipe {
						return
					}
				}
			})
		}
	})
	return p
}
