package rpc

import (
	"crypto/tls"
	"io"
	"testing"
	"time"

	"github.com/homing-im/homing/region/access/accesstest"
)

// Behind TLS the proof holds for that connection only: somebody whose
// certificate is trusted, and who passes the handshake on, is found out.
func TestProofIsBoundToTLS(t *testing.T) {
	conf, pool := accesstest.Authority("rpc.test")
	s, err := Listen(ServerOptions{Identity: identity("logic-1"), Address: "127.0.0.1:0", Handler: newService(), TLS: conf})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	client := &tls.Config{RootCAs: pool, ServerName: "rpc.test", MinVersion: tls.VersionTLS13}
	ready(t, dial(t, ClientOptions{Address: s.Addr().String(), TLS: client}))

	between, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		in, err := between.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := tls.Dial("tcp", s.Addr().String(), client)
		if err != nil {
			return
		}
		defer out.Close()
		go func() { _, _ = io.Copy(out, in) }()
		_, _ = io.Copy(in, out)
	}()
	c := dial(t, ClientOptions{Address: between.Addr().String(), TLS: client})
	failed := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.failure != nil
	}
	for end := time.Now().Add(10 * time.Second); !failed() && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if !failed() || c.Up() {
		t.Error("a proof that was passed on is believed")
	}
	_ = between.Close()
	_ = c.Close()
	<-done
}
