package accel

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// The benchmarks run the POP in a child process, so that what they measure is the
// POP and neither its clients nor its regions.

const childEnv = "HOMING_TEST_POP"

// childConfig goes to the child, childReport comes back at every line it is sent.
type childConfig struct {
	Region netip.AddrPort
	Secure bool
	Chain  [][]byte
	Key    []byte
}

type childReport struct {
	Long  netip.AddrPort
	Heap  uint64        // bytes in use
	Stack uint64        // bytes in use
	RSS   uint64        // bytes
	CPU   time.Duration // user and system, since the start
	Conns int
}

// servePOP is the child.
func servePOP() bool {
	text := os.Getenv(childEnv)
	if text == "" {
		return false
	}
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	s := &stage{changed: make(chan struct{})}
	s.set(&region.World{
		Version: 1, Zone: "demo.test",
		Regions:  []region.Region{{ID: "sh", Acting: region.Acting{Region: "sh"}, Serves: region.Endpoints{Long: c.Region}}},
		Segments: []region.Segment{{First: 1, Last: 1 << 40, Home: "sh"}},
	})
	o := Options{ID: "pop-1", World: s, Long: "127.0.0.1:0", MaxPerAddress: 1 << 20, Handshake: time.Minute, Probe: time.Hour}
	if c.Secure {
		key, err := x509.ParsePKCS8PrivateKey(c.Key)
		if err != nil {
			panic(err)
		}
		leaf, err := x509.ParseCertificate(c.Chain[0])
		if err != nil {
			panic(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(leaf)
		o.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: c.Chain, PrivateKey: key}}, MinVersion: tls.VersionTLS13}
		o.RegionTLS = &tls.Config{RootCAs: roots}
	}
	p, err := New(o)
	if err != nil {
		panic(err)
	}
	long, _ := p.Addr(region.Long)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "settle" {
			for range 5 { // stacks shrink by half at each collection
				runtime.GC()
			}
			debug.FreeOSMemory()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		var ru syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
			panic(err)
		}
		var pages, resident uint64
		statm, _ := os.ReadFile("/proc/self/statm")
		_, _ = fmt.Sscan(string(statm), &pages, &resident)
		_ = json.NewEncoder(os.Stdout).Encode(childReport{
			Long: long, Heap: m.HeapAlloc, Stack: m.StackInuse, RSS: resident * uint64(os.Getpagesize()),
			CPU: time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), Conns: p.Status().Connections.Long,
		})
	}
	if err := p.Close(); err != nil {
		panic(err)
	}
	return true
}

type child struct {
	b   testing.TB
	ask func(string) childReport
}

func startChild(b testing.TB, secure bool, home *place) *child {
	c := childConfig{Region: home.addr(), Secure: secure}
	if secure {
		server, _ := certs()
		c.Chain = server.Certificates[0].Certificate
		var err error
		if c.Key, err = x509.MarshalPKCS8PrivateKey(server.Certificates[0].PrivateKey); err != nil {
			b.Fatal(err)
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		b.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	answers := json.NewDecoder(out)
	return &child{b, func(q string) (r childReport) {
		if _, err := fmt.Fprintln(in, q); err != nil {
			b.Fatal(err)
		}
		if err := answers.Decode(&r); err != nil {
			b.Fatal(err)
		}
		return r
	}}
}

// connect opens n clients and has each exchange a heartbeat with its region.
func (c *child) connect(n int, secure bool) []*phone {
	addr := c.ask("").Long
	all := make([]*phone, n)
	work := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range work {
				conn, err := net.Dial("tcp", addr.String())
				if err != nil {
					c.b.Error(err)
					continue
				}
				if secure {
					_, cc := certs()
					conn = tls.Client(conn, cc)
				}
				p := &phone{Conn: conn, t: c.b, reader: wire.NewReader(conn)}
				if _, err := p.Write(helloFrame(uint64(i + 1))); err != nil {
					c.b.Error(err)
				}
				if _, err := p.reader.Next(); err != nil {
					c.b.Error(err)
				}
				if _, err := readBeat(p); err != nil {
					c.b.Error(err)
				}
				all[i] = p
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	return all
}

func hangUp(all []*phone) {
	for _, p := range all {
		if p != nil {
			_ = p.Close()
		}
	}
}

// BenchmarkIdleConnection reports what an idle relayed connection costs the POP.
func BenchmarkIdleConnection(b *testing.B) {
	const n = 2000
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				home := newPlace(b, "sh", secure, welcoming(b, "sh"))
				c := startChild(b, secure, home)
				warm := c.connect(50, secure) // pools, caches and the runtime's own
				hangUp(warm)
				eventually(b, "the warm-up is over", func() bool { return c.ask("").Conns == 0 })
				before := c.ask("settle")
				all := c.connect(n, secure)
				after := c.ask("settle")
				if after.Conns != n {
					b.Fatalf("%d of %d connections are relayed", after.Conns, n)
				}
				b.ReportMetric(float64(after.Heap-before.Heap)/n, "heap-B/conn")
				b.ReportMetric(float64(after.Stack-before.Stack)/n, "stack-B/conn")
				b.ReportMetric(float64(after.RSS-before.RSS)/n, "rss-B/conn")
				hangUp(all)
				home.close()
			}
		})
	}
}

// BenchmarkRelayedRoundTrip reports the POP's CPU time per heartbeat there and
// back: two frames, four socket operations.
func BenchmarkRelayedRoundTrip(b *testing.B) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		b.Run(name, func(b *testing.B) {
			home := newPlace(b, "sh", secure, welcoming(b, "sh"))
			c := startChild(b, secure, home)
			all := c.connect(1, secure)
			before := c.ask("").CPU
			for b.Loop() {
				if _, err := readBeat(all[0]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((c.ask("").CPU-before).Nanoseconds())/float64(b.N), "pop-cpu-ns/op")
			hangUp(all)
		})
	}
}
