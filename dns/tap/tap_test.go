package tap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	framestream "github.com/farsightsec/golang-framestream"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/dns/authority"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ authority.QueryLog = (*Log)(nil)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// asked is a question for long.demo.test A with its answer, and the line of it.
func asked(t *testing.T) (line authority.LogLine, query, answer []byte) {
	name := "04 6c6f6e67 04 64656d6f 04 74657374 00 0001 0001"
	return authority.LogLine{At: time.Unix(1_800_000_000, 5), Via: "udp", Peer: netip.MustParseAddr("192.0.2.7")},
		unhex(t, "abcd 0000 0001 0000 0000 0000"+name), unhex(t, "abcd 8400 0001 0001 0000 0000"+name+"c00c 0001 0001 00000014 0004 7f020001")
}

func write(t *testing.T, l *Log, via string) {
	t.Helper()
	line, query, answer := asked(t)
	line.Via = via
	if err := l.Log(line, query, answer); err != nil {
		t.Fatal(err)
	}
}

// frames reads one stream to its end.
func frames(t *testing.T, from io.Reader, socket bool) (out []*dnstap.Dnstap) {
	t.Helper()
	r, err := framestream.NewReader(from, &framestream.ReaderOptions{ContentTypes: [][]byte{dnstap.FSContentType}, Bidirectional: socket, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for {
		room := make([]byte, 1<<16)
		n, err := r.ReadFrame(room)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		d := new(dnstap.Dnstap)
		if err := proto.Unmarshal(room[:n], d); err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
}

func framesIn(t *testing.T, path string) []*dnstap.Dnstap {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	return frames(t, f, false)
}

// A frame says what was asked and answered, by whom, over what and when.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queries.dnstap")
	l, err := Open(Options{Target: path, Identity: "dns-1", Version: "homing"})
	if err != nil {
		t.Fatal(err)
	}
	line, query, answer := asked(t)
	for via := range protocols {
		write(t, l, via)
	}
	dropped := line
	dropped.Peer = netip.MustParseAddr("2001:db8::7")
	if err := l.Log(dropped, query, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Log(authority.LogLine{Via: "http", Name: "long.demo.test."}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := framesIn(t, path)
	if len(all) != len(protocols)+1 {
		t.Fatalf("%d frames", len(all))
	}
	seen := map[dnstap.SocketProtocol]bool{}
	for _, d := range all[:len(protocols)] {
		m := d.Message
		seen[m.GetSocketProtocol()] = true
		if string(d.Identity) != "dns-1" || m.GetType() != dnstap.Message_AUTH_RESPONSE || !bytes.Equal(m.QueryMessage, query) || !bytes.Equal(m.ResponseMessage, answer) ||
			m.GetQueryTimeSec() != 1_800_000_000 || m.GetResponseTimeNsec() != 5 || !bytes.Equal(m.QueryAddress, []byte{192, 0, 2, 7}) || m.GetSocketFamily() != dnstap.SocketFamily_INET {
			t.Errorf("%v", d)
		}
	}
	if len(seen) != len(protocols) {
		t.Errorf("protocols %v", seen)
	}
	if m := all[len(protocols)].Message; m.GetType() != dnstap.Message_AUTH_QUERY || m.ResponseMessage != nil || m.GetSocketFamily() != dnstap.SocketFamily_INET6 || len(m.QueryAddress) != 16 {
		t.Errorf("%v", m)
	}
}

// The bytes of a stream with one frame are what they have always been.
func TestGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "golden")
	l, err := Open(Options{Target: path, Identity: "dns-1"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, l, "udp")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = "" +
		"00000000 00000022 00000002 00000001 00000016 70726f746f6275663a646e737461702e446e73746170" // START, protobuf:dnstap.Dnstap
	if !bytes.HasPrefix(got, unhex(t, want)) || !bytes.HasSuffix(got, unhex(t, "00000000 00000004 00000003")) { // STOP
		t.Errorf("%x", got)
	}
}

// Another implementation reads it.
func TestKdigReads(t *testing.T) {
	if _, err := exec.LookPath("kdig"); err != nil {
		t.Skip("kdig is not installed (Debian: knot-dnsutils)")
	}
	path := filepath.Join(t.TempDir(), "queries.dnstap")
	l, err := Open(Options{Target: path})
	if err != nil {
		t.Fatal(err)
	}
	write(t, l, "tcp")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("kdig", "-G", path, "+multiline").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "127.2.0.1") || !strings.Contains(string(out), "long.demo.test.") || !strings.Contains(string(out), "192.0.2.7") {
		t.Errorf("kdig: %v\n%s", err, out)
	}
}

// A file that is there is moved aside, and a log that is opened anew goes on in a
// file of its own; each is a whole stream.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "queries.dnstap")
	if err := os.WriteFile(path, []byte("somebody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(Options{Target: path})
	if err != nil {
		t.Fatal(err)
	}
	write(t, l, "udp")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	write(t, l, "udp")
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	write(t, l, "udp")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if old, now := framesIn(t, path+".old"), framesIn(t, path); len(old) != 2 || len(now) != 1 {
		t.Errorf("%d and %d frames", len(old), len(now))
	}
	aside, err := filepath.Glob(path + ".2*")
	if err != nil || len(aside) != 1 {
		t.Fatal(aside, err)
	}
	if b, err := os.ReadFile(aside[0]); err != nil || string(b) != "somebody's" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Open(Options{Target: filepath.Join(dir, "none", "x")}); err == nil {
		t.Error("a file in a folder that is not there")
	}
}

// A collector that is not there, or goes away, costs frames and no time; when it
// is back it gets what comes then.
func TestCollector(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	clock := time.Unix(1_800_000_000, 0)
	l, err := Open(Options{Target: Socket + path})
	if err != nil {
		t.Fatal(err)
	}
	l.tried, l.now = clock, func() time.Time { return clock }
	defer func() { _ = l.Close() }()
	line, query, answer := asked(t)
	if err := l.Log(line, query, answer); !errors.Is(err, errAway) {
		t.Errorf("%v", err)
	}
	clock = clock.Add(tryEvery)
	if err := l.Log(line, query, answer); err == nil || errors.Is(err, errAway) {
		t.Errorf("nobody tried to reach it: %v", err)
	}
	for range 2 { // it comes, gets frames, goes
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan int, 1)
		conns := make(chan net.Conn, 1)
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				got <- 0
				return
			}
			conns <- conn
			got <- len(frames(t, conn, true))
		}()
		clock = clock.Add(tryEvery)
		write(t, l, "udp")
		write(t, l, "udp")
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if n := <-got; n != 2 {
			t.Errorf("the collector got %d frames", n)
		}
		_ = (<-conns).Close()
		_ = listener.Close()
		clock = clock.Add(tryEvery)
		if err := l.Log(line, query, answer); err == nil {
			t.Error("a frame for nobody is no error")
		}
	}
}
