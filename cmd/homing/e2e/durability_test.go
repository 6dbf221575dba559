package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/homing-im/homing/deploy/test/child"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// lone is how many messages are sent alone on each kind of connection.
const lone = 20

// Guarantee 2 of the design, as far as it can be seen from outside: a region
// never writes the acknowledgement of a message before the sync of what it
// acknowledges has returned. A kill would not show it, because the page cache
// survives the process. Every message is alone, so that no other's sync can
// cover for it.
func TestAcknowledgedIsOnDisk(t *testing.T) {
	need(t, "strace")
	if out, err := exec.Command("strace", "-o", "/dev/null", "true").CombinedOutput(); err != nil {
		t.Skipf("strace may not trace here: %v\n%s", err, out)
	}
	d := startDeployed(t)
	trace := filepath.Join(d.dir, "sh.trace")
	d.restartTraced("sh", trace)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Nothing of Bob's is written in sh: it is not the first backup of ca. It is hk's,
	// and what hk stores comes back, now and then before the answer has left.
	bob, err := client.Register(ctx, http.DefaultClient, "http://127.0.3.1:7200", "Bob", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	alice, err := client.Register(ctx, http.DefaultClient, "http://127.0.1.1:7200", "Alice", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	all := append(d.aloneLong(ctx, alice, bob.UIN), d.aloneShort(ctx, alice, bob.UIN)...)

	// A trace is complete when the process has ended.
	_ = d.nodes["sh"].cmd.Process.Signal(os.Interrupt)
	<-d.nodes["sh"].done
	var b []byte
	until(t, time.Minute, "strace has written all that it saw", func() bool {
		b, err = os.ReadFile(trace)
		return err == nil && regexp.MustCompile(fmt.Sprintf(`(?m)^%d .*\+\+\+ exited with \d+ \+\+\+$`, d.nodes["sh"].cmd.Process.Pid)).Match(tail(b, 2000))
	})
	calls, err := readTrace(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	proven := 0
	for _, x := range all {
		x.wal = isWAL(filepath.Join(d.dir, "state", "sh") + "/")
		if err := x.durable(calls); err != nil {
			t.Error(err)
			continue
		}
		proven++
	}
	t.Logf("%d of %d acknowledgements came after their sync, in a trace of %d calls", proven, 2*lone, len(calls))
	if proven != 2*lone {
		t.Errorf("want %d", 2*lone)
	}
}

// restartTraced starts a node again under strace.
func (d *deployed) restartTraced(name, trace string) {
	d.t.Helper()
	d.kill(name)
	log, err := os.OpenFile(filepath.Join(d.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	args := append(straceArgs(trace), filepath.Join(bin, "homing"), "run", "-c", filepath.Join(d.dir, "nodes", name+".yaml"))
	p := &process{cmd: exec.Command("strace", args...)}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if p.done, err = child.Start(p.cmd); err != nil {
		d.t.Fatal(err)
	}
	d.nodes[name] = p
	d.ready()
}

// oneConn dials and remembers the client's end of the newest connection.
type oneConn struct {
	mu    sync.Mutex
	local string
	dials int
}

func (o *oneConn) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		o.mu.Lock()
		o.local = c.LocalAddr().String()
		o.dials++
		o.mu.Unlock()
	}
	return c, err
}

// alone sends messages one after the other and returns what the trace has to
// show of each.
func (d *deployed) alone(o *oneConn, send func(text string) error) []exchange {
	d.t.Helper()
	var all []exchange
	for i := range lone {
		x := exchange{marker: fmt.Sprintf("alone%dx%016x", i, rand.Uint64()), asked: time.Now()}
		if err := send(x.marker); err != nil {
			d.t.Fatalf("message %d: %v", i, err)
		}
		x.told = time.Now()
		o.mu.Lock()
		x.client = o.local
		if o.dials != 1 {
			d.t.Errorf("message %d: %d connections were made, want one", i, o.dials)
		}
		o.mu.Unlock()
		all = append(all, x)
	}
	return all
}

func (d *deployed) aloneLong(ctx context.Context, from client.Identity, to region.UIN) []exchange {
	d.t.Helper()
	pem, err := os.ReadFile(filepath.Join(d.dir, "tls", "ca.pem"))
	if err != nil {
		d.t.Fatal(err)
	}
	cas := x509.NewCertPool()
	cas.AppendCertsFromPEM(pem)
	o := new(oneConn)
	c, err := client.New(client.Options{
		Zone: "im.test", Fallback: []netip.AddrPort{netip.MustParseAddrPort("127.0.1.1:7100")}, RootCAs: cas,
		Identity: from, ClientVersion: 80003, Platform: "e2e", Dial: o.dial, ConnectTimeout: time.Minute,
		Settle: time.Hour, // every request is a message
	})
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Connect(ctx); err != nil {
		d.t.Fatal(err)
	}
	return d.alone(o, func(text string) error {
		_, err := c.SendText(ctx, to, text)
		return err
	})
}

func (d *deployed) aloneShort(ctx context.Context, from client.Identity, to region.UIN) []exchange {
	d.t.Helper()
	o := new(oneConn)
	base := &http.Transport{DialContext: o.dial}
	defer base.CloseIdleConnections()
	im := v1.NewIMClient(&http.Client{Transport: client.Signed(func() client.Identity { return from }, base)}, "http://127.0.1.1:7200")
	return d.alone(o, func(text string) error {
		_, err := im.Send(ctx, connect.NewRequest(&v1.SendRequest{
			To: uint64(to), ClientMessageId: client.NewKey(), Body: &v1.Body{Kind: &v1.Body_Text{Text: text}},
		}))
		return err
	})
}
