package accel

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

func TestMain(m *testing.M) {
	if servePOP() { // the child process of the benchmarks
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what has to happen.
const patience = 10 * time.Second

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// stage is the world as a POP sees it; tests change it.
type stage struct {
	mu      sync.Mutex
	view    *region.View
	changed chan struct{}
	hint    atomic.Uint64
}

func (s *stage) View() *region.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *stage) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *stage) Hint(v uint64) { s.hint.Store(v) }

func (s *stage) set(w *region.World) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = region.NewView(w, region.Hash{byte(w.Version)}, nil)
	close(s.changed)
	s.changed = make(chan struct{})
}

// certs is one CA for a whole test binary: all names, TLS 1.3.
var certs = sync.OnceValues(func() (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"long.demo.test", "short.demo.test", "web.demo.test"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13},
		&tls.Config{RootCAs: roots, ServerName: "long.demo.test", MinVersion: tls.VersionTLS13}
})

// arrival is a client connection as a region sees it after HELLO.
type arrival struct {
	net.Conn
	reader *wire.Reader
	from   netip.AddrPort // by the PROXY header
	pop    string         // by its TLV
	sni    string
	frame  wire.Frame // HELLO
	hello  v1.Hello
}

func (a *arrival) send(t testing.TB, m wire.Method, f wire.Flags, seq uint64, body proto.Message) {
	b, err := wire.AppendMessage(nil, m, f, seq, body)
	if err == nil {
		_, err = a.Write(b)
	}
	if err != nil {
		t.Logf("region cannot send: %v", err)
	}
}

func (a *arrival) welcome(t testing.TB, name string) {
	a.send(t, wire.Hello, wire.FlagResponse, a.frame.Sequence, &v1.HelloReply{WireVersion: 1, Nonce: make([]byte, 32), Region: name})
}

// echo answers heartbeats until the client ends.
func (a *arrival) echo(t testing.TB) {
	for {
		f, err := a.reader.Next()
		if err != nil {
			return
		}
		var h v1.Heartbeat
		if wire.Unmarshal(f, &h) != nil {
			return
		}
		a.send(t, wire.Heartbeat, wire.FlagResponse, f.Sequence, &v1.HeartbeatReply{WorldVersion: h.WorldVersion})
	}
}

// place is a scripted region: a real listener that speaks PROXY v2, TLS when
// asked to, and the wire, and then does what the test says.
type place struct {
	t      testing.TB
	id     region.ID
	l      net.Listener
	secure bool
	script func(*arrival)

	mu     sync.Mutex
	conns  map[net.Conn]bool
	wg     sync.WaitGroup
	hellos atomic.Int32
	probed atomic.Int32
}

func newPlace(t testing.TB, id region.ID, secure bool, script func(*arrival)) *place {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, id: id, l: l, secure: secure, script: script, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *place) close() {
	_ = p.l.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *place) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = true
		p.mu.Unlock()
		p.wg.Go(func() {
			defer func() {
				_ = c.Close()
				p.mu.Lock()
				delete(p.conns, c)
				p.mu.Unlock()
			}()
			p.serve(c)
		})
	}
}

func (p *place) serve(c net.Conn) {
	br := bufio.NewReader(c)
	if _, err := br.Peek(1); err != nil {
		return // a dial that was given up
	}
	header, err := proxyproto.Read(br)
	if err != nil {
		p.t.Errorf("region %s: PROXY header: %v", p.id, err)
		return
	}
	if header.Command == proxyproto.LOCAL {
		p.probed.Add(1)
		return
	}
	a := &arrival{from: header.SourceAddr.(*net.TCPAddr).AddrPort()}
	tlvs, err := header.TLVs()
	if err != nil {
		p.t.Errorf("region %s: TLVs: %v", p.id, err)
	}
	for _, x := range tlvs {
		if x.Type == TLV {
			a.pop = string(x.Value)
		}
	}
	a.Conn = buffered{c, br}
	if p.secure {
		server, _ := certs()
		tc := tls.Server(a.Conn, server)
		if err := tc.Handshake(); err != nil {
			p.t.Errorf("region %s: TLS: %v", p.id, err)
			return
		}
		a.sni, a.Conn = tc.ConnectionState().ServerName, tc
	}
	a.reader = wire.NewReader(a.Conn)
	f, err := a.reader.Next()
	if err != nil {
		return
	}
	f.Body = append([]byte(nil), f.Body...)
	a.frame = f
	if err := wire.Unmarshal(f, &a.hello); err != nil || f.Method != wire.Hello {
		p.t.Errorf("region %s: first frame %s: %v", p.id, f.Method, err)
	}
	p.hellos.Add(1)
	p.script(a)
}

type buffered struct {
	net.Conn
	r io.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

func (b buffered) CloseWrite() error { return b.Conn.(*net.TCPConn).CloseWrite() }

func (p *place) addr() netip.AddrPort { return p.l.Addr().(*net.TCPAddr).AddrPort() }

// welcoming is the script of a healthy region.
func welcoming(t testing.TB, name string) func(*arrival) {
	return func(a *arrival) {
		a.welcome(t, name)
		a.echo(t)
	}
}

// world says that each place acts for its own home: sh has 1000000 to 1999999,
// hk 2000000 to 2999999, ca 3000000 to 3999999.
func world(version uint64, acting map[region.ID]region.ID, places ...*place) *region.World {
	w := &region.World{
		Version: version, Name: "test", Zone: "demo.test", Partitions: 8,
		POPs: []region.POP{{ID: "pop-1", Place: region.Place{Latitude: 31, Longitude: 121}}},
	}
	for i, p := range places {
		a := p.id
		if acting[p.id] != "" {
			a = acting[p.id]
		}
		w.Regions = append(w.Regions, region.Region{
			ID: p.id, Acting: region.Acting{Region: a}, Serves: region.Endpoints{Long: p.addr()},
			Place: region.Place{Latitude: 31 - float64(10*i), Longitude: 121},
		})
		first := region.UIN(1000000 * (1 + i))
		w.Segments = append(w.Segments, region.Segment{First: first, Last: first + 999999, Home: p.id})
	}
	return w
}

type rig struct {
	*POP
	t     testing.TB
	stage *stage
	reg   *prometheus.Registry
}

// newRig starts a POP in front of places, plain unless secure.
func newRig(t testing.TB, secure bool, w *region.World, change func(*Options)) *rig {
	s := &stage{changed: make(chan struct{})}
	if w != nil {
		s.set(w)
	}
	reg := prometheus.NewRegistry()
	o := Options{ID: "pop-1", World: s, Long: "127.0.0.1:0", Short: "127.0.0.1:0", Web: "127.0.0.1:0", Registry: reg, Spread: 100 * time.Millisecond}
	if secure {
		o.TLS, o.RegionTLS = certs()
		o.RegionTLS = o.RegionTLS.Clone()
		o.RegionTLS.ServerName = "" // the POP's business
	}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{p, t, s, reg}
}

func (r *rig) counter(name string, labels ...string) float64 {
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metric:
		for _, m := range f.GetMetric() {
			for i, l := range m.GetLabel() {
				if i < len(labels) && l.GetValue() != labels[i] {
					continue metric
				}
			}
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return total
}

// phone is a client.
type phone struct {
	net.Conn
	t      testing.TB
	reader *wire.Reader
	local  netip.AddrPort
}

func (r *rig) dial() *phone {
	r.t.Helper()
	addr, _ := r.Addr(region.Long)
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		r.t.Fatal(err)
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	if r.o.TLS != nil {
		_, client := certs()
		c = tls.Client(c, client)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &phone{c, r.t, wire.NewReader(c), local}
}

func helloFrame(uin uint64) []byte {
	b, err := wire.AppendMessage(nil, wire.Hello, 0, 42, &v1.Hello{
		WireVersion: 1, Uin: uin, ClientVersion: 80003, Platform: "cli", Ticket: "v4.public.x", ConnectionId: make([]byte, 16),
	})
	if err != nil {
		panic(err)
	}
	return b
}

func (c *phone) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *phone) next() wire.Frame {
	c.t.Helper()
	f, err := c.reader.Next()
	if err != nil {
		c.t.Fatalf("client waits for a frame: %v", err)
	}
	return f
}

// hello sends HELLO and returns the region that welcomed it, or the error.
func (c *phone) hello(uin uint64) (string, *v1.Error) {
	c.t.Helper()
	c.write(helloFrame(uin))
	return c.welcomed()
}

func (c *phone) welcomed() (string, *v1.Error) {
	c.t.Helper()
	f := c.next()
	if f.Method != wire.Hello || f.Sequence != 42 && f.Sequence != 0 || !f.Is(wire.FlagResponse) {
		c.t.Fatalf("reply to HELLO is %+v", f)
	}
	if f.Is(wire.FlagError) {
		e := new(v1.Error)
		if err := wire.Unmarshal(f, e); err != nil {
			c.t.Fatal(err)
		}
		if f.Is(wire.FlagRetryable) != e.Retryable {
			c.t.Errorf("flags %b of %v", f.Flags, e)
		}
		return "", e
	}
	var r v1.HelloReply
	if err := wire.Unmarshal(f, &r); err != nil {
		c.t.Fatal(err)
	}
	return r.Region, nil
}

// beat sends a heartbeat and waits for its echo.
func (c *phone) beat(n uint64) {
	c.t.Helper()
	b, err := wire.AppendMessage(nil, wire.Heartbeat, 0, n, &v1.Heartbeat{WorldVersion: n})
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(b)
	var r v1.HeartbeatReply
	if f := c.next(); f.Method != wire.Heartbeat || f.Sequence != n || wire.Unmarshal(f, &r) != nil || r.WorldVersion != n {
		c.t.Fatalf("echo of %d is %+v", n, f)
	}
}

// over says whether the connection has ended, waiting for it.
func (c *phone) over() bool {
	f, err := c.reader.Next()
	if err == nil {
		c.t.Errorf("client expected the end and got %s", f.Method)
	}
	return err != nil
}
