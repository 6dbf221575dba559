package rpc

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func identity(name string) Identity { return Identity{Region: "sh", Name: name, Key: key("sh")} }

// service echoes; its method says what else it does.
type service struct {
	mu      sync.Mutex
	told    []string
	peers   map[*Peer]bool
	started chan struct{} // a token for every call of methodWait
	release chan struct{}
	ended   chan error // why the context of methodWait ended
}

const (
	methodEcho  Method = 1
	methodFail  Method = 2
	methodWait  Method = 3
	methodPanic Method = 4
)

func newService() *service {
	return &service{peers: map[*Peer]bool{}, started: make(chan struct{}, 10_000), release: make(chan struct{}), ended: make(chan error, 10_000)}
}

func (s *service) Call(ctx context.Context, from *Peer, m Method, body []byte) ([]byte, error) {
	switch m {
	case methodFail:
		return nil, region.Errorf(region.Conflict, "%s", body).WithHint("a hint").WithCause(errors.New("a secret"))
	case methodWait:
		s.started <- struct{}{}
		select {
		case <-s.release:
			return []byte("released"), nil
		case <-ctx.Done():
			s.ended <- ctx.Err()
			return nil, ctx.Err()
		}
	case methodPanic:
		panic("asked for")
	}
	return append([]byte(from.Name+":"), body...), nil
}

func (s *service) Tell(p *Peer, m Method, body []byte) {
	s.mu.Lock()
	s.told = append(s.told, string(body))
	s.mu.Unlock()
	p.Tell(m, body)
}
func (s *service) Connected(p *Peer) { s.mu.Lock(); s.peers[p] = true; s.mu.Unlock() }
func (s *service) Gone(p *Peer)      { s.mu.Lock(); delete(s.peers, p); s.mu.Unlock() }

func listen(t *testing.T, h Handler, address string) *Server {
	t.Helper()
	s, err := Listen(ServerOptions{Identity: identity("logic-1"), Address: address, Handler: h, MaxInFlight: 8})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func dial(t *testing.T, o ClientOptions) *Client {
	t.Helper()
	if o.Identity.Name == "" {
		o.Identity = identity("access-1")
	}
	c, err := Dial(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func ready(t *testing.T, c *Client) {
	t.Helper()
	if err := c.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestCalls(t *testing.T) {
	h := newService()
	s := listen(t, h, "127.0.0.1:0")
	defer stop(t, s)
	c := dial(t, ClientOptions{Address: s.Addr().String()})
	ready(t, c)

	b, err := c.Call(within(t), methodEcho, []byte("x"))
	if err != nil || string(b) != "access-1:x" {
		t.Fatalf("%q, %v", b, err)
	}
	_, err = c.Call(within(t), methodFail, []byte("a message"))
	var e *region.Error
	if !errors.As(err, &e) || e.Kind != region.Conflict || e.Message != "a message" || e.Hint != "a hint" || !Answered(err) || strings.Contains(err.Error(), "secret") {
		t.Errorf("the handler's error arrives as %v", err)
	}
	if _, err = c.Call(within(t), methodPanic, nil); region.KindOf(err) != region.Internal {
		t.Errorf("a panic is answered %v", err)
	}
	if _, err := c.Call(within(t), methodEcho, make([]byte, MaxBody+1)); region.KindOf(err) != region.TooLarge {
		t.Errorf("too large: %v", err)
	}
	big := bytes.Repeat([]byte("y"), MaxBody-len("access-1:"))
	if b, err := c.Call(within(t), methodEcho, big); err != nil || len(b) != MaxBody {
		t.Errorf("the largest: %d, %v", len(b), err)
	}
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			want := fmt.Sprint("n", i)
			for {
				b, err := c.Call(within(t), methodEcho, []byte(want))
				if region.KindOf(err) == region.Overloaded {
					continue // MaxInFlight is 8
				}
				if err != nil || string(b) != "access-1:"+want {
					t.Errorf("%q, %v", b, err)
				}
				return
			}
		})
	}
	all.Wait()
}

func TestDeadlineAndCancellationTravel(t *testing.T) {
	h := newService()
	s := listen(t, h, "127.0.0.1:0")
	defer stop(t, s)
	c := dial(t, ClientOptions{Address: s.Addr().String()})
	ready(t, c)

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Call(ctx, methodWait, nil); Answered(err) && region.KindOf(err) != region.Unavailable {
		t.Errorf("past the deadline: %v", err)
	}
	if err := <-h.ended; !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v", err)
	}
	<-h.started

	ctx, cancel = context.WithCancel(context.Background())
	go func() { <-h.started; cancel() }()
	if _, err := c.Call(ctx, methodWait, nil); !Sent(err) || Answered(err) {
		t.Errorf("cancelled: %v", err)
	}
	if err := <-h.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v", err)
	}
}

func TestTooManyCallsAreRefused(t *testing.T) {
	h := newService()
	s := listen(t, h, "127.0.0.1:0")
	defer stop(t, s)
	c := dial(t, ClientOptions{Address: s.Addr().String()})
	ready(t, c)
	var waiting sync.WaitGroup
	for range 8 {
		waiting.Go(func() {
			if _, err := c.Call(within(t), methodWait, nil); err != nil {
				t.Error(err)
			}
		})
	}
	for range 8 {
		<-h.started
	}
	if _, err := c.Call(within(t), methodEcho, nil); region.KindOf(err) != region.Overloaded {
		t.Errorf("the ninth: %v", err)
	}
	close(h.release)
	waiting.Wait()
	if _, err := c.Call(within(t), methodEcho, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// What is told arrives in order, both ways.
func TestTells(t *testing.T) {
	h := newService()
	s := listen(t, h, "127.0.0.1:0")
	defer stop(t, s)
	const n = 2000
	var back []string
	all := make(chan struct{})
	c := dial(t, ClientOptions{Address: s.Addr().String(), Tell: func(_ Method, b []byte) {
		if back = append(back, string(b)); len(back) == n {
			close(all)
		}
	}})
	if c.Tell(1, nil) {
		// Before the connection a tell may be lost, never claimed to be sent.
		t.Log("the connection was there at once")
	}
	ready(t, c)
	for i := range n {
		if !c.Tell(1, fmt.Append(nil, i)) {
			t.Fatal("a tell was dropped")
		}
	}
	select {
	case <-all:
	case <-within(t).Done():
		t.Fatal("not all came back")
	}
	for i, b := range back {
		if b != fmt.Sprint(i) {
			t.Fatalf("tell %d is %q", i, b)
		}
	}
}

// A server that closes finishes what it has begun, and what comes afterwards is
// refused as not begun; the client finds the next process by itself.
func TestClose(t *testing.T) {
	h := newService()
	s := listen(t, h, "127.0.0.1:0")
	c := dial(t, ClientOptions{Address: s.Addr().String()})
	ready(t, c)
	begun := make(chan error, 1)
	go func() {
		b, err := c.Call(within(t), methodWait, nil)
		if err == nil && string(b) != "released" {
			err = fmt.Errorf("answered %q", b)
		}
		begun <- err
	}()
	<-h.started
	closed := make(chan struct{})
	go func() { stop(t, s); close(closed) }()
	for c.Up() {
		if _, err := c.Call(within(t), methodEcho, nil); err != nil && Sent(err) {
			t.Fatalf("while it closes: %v", err)
		}
	}
	if _, err := c.Call(within(t), methodEcho, nil); err == nil || Sent(err) || region.KindOf(err) != region.Unavailable {
		t.Errorf("after bye: %v", err)
	}
	close(h.release)
	if err := <-begun; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	<-closed
	s = listen(t, newService(), s.Addr().String())
	defer stop(t, s)
	ready(t, c)
	if _, err := c.Call(within(t), methodEcho, nil); err != nil {
		t.Error(err)
	}
}

// A connection that breaks answers the calls under way as begun.
func TestBrokenConnection(t *testing.T) {
	h := newService()
	s := listen(t, h, "127.0.0.1:0")
	defer stop(t, s)
	c := dial(t, ClientOptions{Address: s.Addr().String()})
	ready(t, c)
	begun := make(chan error, 1)
	go func() { _, err := c.Call(within(t), methodWait, nil); begun <- err }()
	<-h.started
	s.mu.Lock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	if err := <-begun; Answered(err) || !Sent(err) || region.KindOf(err) != region.Unavailable {
		t.Errorf("got %v", err)
	}
	<-h.ended // its context ended too
	ready(t, c)
}

func TestStrangersAreRefused(t *testing.T) {
	s := listen(t, newService(), "127.0.0.1:0")
	defer stop(t, s)
	refused := func(what string, id Identity, want region.Kind) {
		t.Helper()
		c := dial(t, ClientOptions{Identity: id, Address: s.Addr().String()})
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		err := c.Ready(ctx)
		if err == nil {
			t.Errorf("%s is let in", what)
		}
		if _, err := c.Call(within(t), methodEcho, nil); err == nil || Sent(err) {
			t.Errorf("%s may call: %v", what, err)
		}
		if want != 0 {
			c.mu.Lock()
			defer c.mu.Unlock()
			if region.KindOf(c.failure) != want {
				t.Errorf("%s is told %v", what, c.failure)
			}
		}
	}
	refused("another key", Identity{Region: "sh", Name: "x", Key: key("hk")}, region.Unauthenticated)
	refused("another region", Identity{Region: "hk", Name: "x", Key: key("sh")}, 0)
	// It trusts the listener, and cannot prove itself.
	own := key("sh").Public().(ed25519.PublicKey)
	refused("the key without its private half", Identity{Region: "sh", Name: "x", Key: key("hk"), Public: func() ed25519.PublicKey { return own }}, 0)

	for _, b := range [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n-------------"), appendFrame(nil, frame{kind: kindRequest, sequence: 1}), make([]byte, HeaderSize)} {
		nc, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write(b)
		_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("garbage is answered")
		} else if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Errorf("garbage keeps its connection")
		}
		_ = nc.Close()
	}
}

func TestPlainIsForLoopback(t *testing.T) {
	for _, a := range []string{"192.0.2.1:1", "example.org:1", "127.0.0.1", ""} {
		if _, err := Listen(ServerOptions{Identity: identity("x"), Handler: newService(), Address: a}); region.KindOf(err) != region.BadInput {
			t.Errorf("listening on %q: %v", a, err)
		}
		if _, err := Dial(ClientOptions{Identity: identity("x"), Address: a}); region.KindOf(err) != region.BadInput {
			t.Errorf("dialling %q: %v", a, err)
		}
	}
}

func TestGoldenBytes(t *testing.T) {
	f := frame{kind: kindRequest, method: 0x0203, sequence: 0x0405060708090a0b, timeout: 1500, body: []byte("body")}
	if got := hex.EncodeToString(appendFrame(nil, f)); got != "00000004"+"04"+"00"+"0203"+"0405060708090a0b"+"000005dc"+"626f6479" {
		t.Errorf("frame: %s", got)
	}
	b := covered("dial", "sh", "access-1", "logic-1", []byte{1}, []byte{2}, nil)
	want := "homing.rpc.v1\x00" + "\x00\x00\x00\x04dial" + "\x00\x00\x00\x02sh" + "\x00\x00\x00\x08access-1" + "\x00\x00\x00\x07logic-1" + "\x00\x00\x00\x01\x01" + "\x00\x00\x00\x01\x02" + "\x00\x00\x00\x00"
	if string(b) != want {
		t.Errorf("covered: %q", b)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, frame{kind: kindRequest, method: 1, sequence: 1, timeout: 5, body: []byte("x")}))
	f.Add(appendFrame(nil, frame{kind: kindTell, method: 1, body: make([]byte, 100)}))
	f.Add(appendFrame(nil, frame{kind: kindBye}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		got, err := readFrame(r, MaxBody)
		if err != nil {
			if cap(got.body) > 2*len(b)+2*growStep {
				t.Fatalf("%d bytes made it hold %d", len(b), cap(got.body))
			}
			return
		}
		if again := appendFrame(nil, got); !bytes.Equal(again, b[:len(b)-r.Len()]) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}
