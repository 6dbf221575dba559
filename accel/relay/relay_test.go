package relay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/homing-im/homing/region/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns the two ends of a TCP connection.
func pair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"long.demo.test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13},
		&tls.Config{RootCAs: roots, ServerName: "long.demo.test", MinVersion: tls.VersionTLS13}
}

// legs returns a relay's two ends and the far ends they talk to.
func legs(t testing.TB, secure bool) (near, far *Conn, client, server *Conn) {
	t.Helper()
	c, n := pair(t)
	f, s := pair(t)
	if !secure {
		return Plain(n), Plain(f), Plain(c), Plain(s)
	}
	sc, cc := certificate(t)
	near, client = Server(n, sc), Client(c, cc)
	far, server = Client(f, cc), Server(s, sc)
	var wg sync.WaitGroup
	for _, x := range []*Conn{near, client, far, server} {
		wg.Go(func() {
			if err := x.Handshake(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return near, far, client, server
}

// TestBytesArriveUnchanged is guarantee 2 for the bytes, and 3: random writes,
// among them many of one byte, both ways at once, then a half-close.
func TestBytesArriveUnchanged(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			near, far, client, server := legs(t, secure)
			var relays, all sync.WaitGroup
			for _, d := range [][2]*Conn{{near, far}, {far, near}} {
				relays.Go(func() {
					if err := Copy(d[1], d[0], func(int) {}); err != nil {
						t.Error(err)
					}
					if err := d[1].CloseWrite(); err != nil {
						t.Error(err)
					}
				})
			}
			for i, d := range [][2]*Conn{{client, server}, {server, client}} {
				rng := mrand.New(mrand.NewPCG(uint64(i), 1))
				sent := make([]byte, 3<<20)
				for j := range sent {
					sent[j] = byte(rng.Uint32())
				}
				all.Go(func() {
					for rest := sent; len(rest) > 0; {
						n := min(len(rest), 1+rng.IntN(1<<rng.IntN(17)))
						if _, err := d[0].Write(rest[:n]); err != nil {
							t.Error(err)
							return
						}
						rest = rest[n:]
					}
					if err := d[0].CloseWrite(); err != nil {
						t.Error(err)
					}
				})
				all.Go(func() {
					got, err := io.ReadAll(d[1])
					if err != nil || !bytes.Equal(got, sent) {
						t.Errorf("direction %d: %d bytes of %d arrived, error %v", i, len(got), len(sent), err)
					}
				})
			}
			all.Wait()
			relays.Wait()
		})
	}
}

// TestNextReturnsWhatOneRecordHolds: several records that arrive in one segment,
// the last of a single byte, must not leave anything behind unseen.
func TestNextReturnsWhatOneRecordHolds(t *testing.T) {
	near, _, client, _ := legs(t, true)
	for _, s := range []string{"first", "second", "3"} {
		if _, err := client.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	for len(got) < len("firstsecond3") {
		b, err := near.Next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b.Bytes()...)
		b.Free()
	}
	if string(got) != "firstsecond3" {
		t.Errorf("got %q", got)
	}
	done := make(chan error, 1)
	go func() {
		_, err := near.Next()
		done <- err
	}()
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("after the peer's half-close: %v", err)
	}
}

// TestDeadlineEndsAWait: a wait is ended by the read deadline and by Abort.
func TestDeadlineEndsAWait(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			near, far, _, _ := legs(t, secure)
			if err := near.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			var ne net.Error
			if _, err := near.Next(); !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("after the deadline: %v", err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := far.Next()
				done <- err
			}()
			_ = far.Abort()
			if err := <-done; err == nil {
				t.Error("Abort did not end the wait")
			}
		})
	}
}

func frame(method wire.Method, n int) []byte {
	b, err := wire.AppendFrame(nil, wire.Frame{Method: method, Flags: wire.FlagPush, Body: bytes.Repeat([]byte{0xAA}, n)})
	if err != nil {
		panic(err)
	}
	return b
}

// TestInjectedFramesStandBetweenFrames is guarantee 2 for frames of our own:
// however the stream is cut into writes, the result is the same frames with the
// injected ones in between.
func TestInjectedFramesStandBetweenFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 40), 0, 12).Draw(t, "sizes")
		var stream []byte
		for _, n := range sizes {
			stream = append(stream, frame(wire.Notice, n)...)
		}
		var out bytes.Buffer
		f := NewFrames(&out)
		injected := 0
		for len(stream) > 0 {
			if rapid.IntRange(0, 3).Draw(t, "inject") == 0 && (f.pending.Load() == nil) {
				f.Inject(frame(wire.GoAway, 5))
				injected++
			}
			n := rapid.IntRange(1, len(stream)).Draw(t, "cut")
			if k, err := f.Write(stream[:n]); err != nil || k != n {
				t.Fatalf("write: %d, %v", k, err)
			}
			stream = stream[n:]
		}
		if !f.Between() || f.pending.Load() != nil {
			t.Fatal("the stream ended on a boundary, but the tracker is elsewhere")
		}
		r := wire.NewReader(&out)
		notices, goAways := 0, 0
		for {
			got, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch got.Method {
			case wire.Notice:
				if len(got.Body) != sizes[notices] {
					t.Fatalf("frame %d has %d bytes, want %d", notices, len(got.Body), sizes[notices])
				}
				notices++
			case wire.GoAway:
				goAways++
			default:
				t.Fatalf("a frame %s from nowhere", got.Method)
			}
		}
		if notices != len(sizes) || goAways != injected {
			t.Fatalf("%d of %d frames, %d of %d injected ones", notices, len(sizes), goAways, injected)
		}
	})
}

// TestInjectWhileWriting has many injectors against one writer.
func TestInjectWhileWriting(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	f := NewFrames(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				f.Inject(frame(wire.GoAway, 3))
			}
		})
	}
	wg.Go(func() {
		for range 500 {
			b := frame(wire.Notice, 30)
			for _, part := range [][]byte{b[:7], b[7:20], b[20:]} {
				if _, err := f.Write(part); err != nil {
					t.Error(err)
				}
			}
		}
	})
	wg.Wait()
	if f.pending.Load() != nil {
		t.Error("a frame was left behind")
	}
	r, notices, goAways := wire.NewReader(&out), 0, 0
	for {
		got, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if got.Method == wire.Notice {
			notices++
		} else if got.Method == wire.GoAway {
			goAways++
		}
	}
	if notices != 500 || goAways == 0 {
		t.Errorf("%d notices, %d injected", notices, goAways)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestLayout keeps the two numbers copied from the wire honest.
func TestLayout(t *testing.T) {
	b := wire.Header{Length: 0x01020304, Method: 0x0506}.Append(nil)
	if len(b) != headerSize || binary.BigEndian.Uint32(b[lengthOffset:]) != 0x01020304 || binary.BigEndian.Uint16(b[methodOffset:]) != 0x0506 {
		t.Errorf("header is % x", b)
	}
}

// FuzzFrames: no stream, however broken, makes the tracker lose or invent bytes.
func FuzzFrames(f *testing.F) {
	f.Add(frame(wire.Notice, 3), 5)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		var out bytes.Buffer
		fr := NewFrames(&out)
		cut = max(0, min(cut, len(stream)))
		for _, p := range [][]byte{stream[:cut], stream[cut:]} {
			if _, err := fr.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(out.Bytes(), stream) {
			t.Fatal("bytes changed")
		}
	})
}

func BenchmarkRoundTrip(b *testing.B) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		b.Run(name, func(b *testing.B) {
			near, far, client, server := legs(b, secure)
			var wg sync.WaitGroup
			frames := NewFrames(near)
			wg.Go(func() { _ = Copy(far, near, func(int) {}); _ = far.CloseWrite() })
			wg.Go(func() { _ = Copy(frames, far, func(int) {}); _ = near.CloseWrite() })
			wg.Go(func() { _ = Copy(server, server, func(int) {}); _ = server.CloseWrite() })
			msg := frame(wire.Notice, 100)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Write(msg); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(client, msg); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			_ = client.CloseWrite()
			wg.Wait()
		})
	}
}
