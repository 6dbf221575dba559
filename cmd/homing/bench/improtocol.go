package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// control is set in the sequences of requests that are not measured.
const control = 1 << 63

// person is a user with one long connection. One goroutine reads it; frames are
// written by the one that sends.
type person struct {
	client.Identity
	index int
	nc    net.Conn
	out   []byte // frames that wait for flush; of the sending goroutine

	mu      sync.Mutex
	next    uint64 // control sequences
	waiting map[uint64]chan wire.Frame

	ended chan struct{} // closed when nothing is read any more
	err   error         // why; set before ended is closed
}

// register makes users over the short connection, some at a time.
func register(ctx context.Context, short string, n int) ([]*person, error) {
	h := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer h.CloseIdleConnections()
	people := make([]*person, n)
	err := parallel(ctx, 64, n, func(ctx context.Context, i int) error {
		id, err := client.Register(ctx, h, short, "bench-"+strconv.Itoa(i), "bench")
		people[i] = &person{Identity: id, index: i}
		return err
	})
	return people, err
}

// parallel calls f for 0 to n-1, some at a time, until one fails.
func parallel(ctx context.Context, width, n int, f func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(width, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// connect dials the region, proves the device key, and reads from then on:
// pushed gets the body of every notice, answered the sequence of every answer
// to a measured Send and whether it was good.
func (p *person) connect(ctx context.Context, t *target, tc *tls.Config, pushed func(*person, []byte), answered func(*person, uint64, bool)) error {
	d := net.Dialer{Timeout: 30 * time.Second, KeepAlive: -1}
	d.SetMultipathTCP(false)
	nc, err := d.DialContext(ctx, "tcp", t.long.String())
	if err != nil {
		return err
	}
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	if tc != nil {
		c := tls.Client(nc, tc)
		if err := c.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return err
		}
		nc = c
	}
	r := wire.NewReader(nc)
	if err := p.handshake(nc, r); err != nil {
		_ = nc.Close()
		return fmt.Errorf("user %d: %w", p.UIN, err)
	}
	_ = nc.SetDeadline(time.Time{})
	p.nc, p.waiting, p.ended = nc, map[uint64]chan wire.Frame{}, make(chan struct{})
	go p.read(r, pushed, answered)
	return nil
}

func (p *person) handshake(nc net.Conn, r *wire.Reader) error {
	ask := func(m wire.Method, sequence uint64, q, a proto.Message) error {
		b, err := wire.AppendMessage(nil, m, 0, sequence, q)
		if err != nil {
			return err
		}
		if _, err := nc.Write(b); err != nil {
			return err
		}
		f, err := r.Next()
		if err != nil {
			return err
		}
		return good(f, a)
	}
	keyID := wire.KeyID(p.Key.Public().(ed25519.PublicKey))
	connection := make([]byte, 16)
	_, _ = rand.Read(connection)
	hr := new(v1.HelloReply)
	if err := ask(wire.Hello, 1, &v1.Hello{WireVersion: wire.Version, Uin: uint64(p.UIN), ClientVersion: 80003, Platform: "bench",
		DeviceKeyId: keyID[:], Ticket: p.Ticket, ConnectionId: connection}, hr); err != nil {
		return err
	}
	epoch, err := wire.EpochFromProto(hr.Epoch)
	if err != nil {
		return err
	}
	signature := ed25519.Sign(p.Key, wire.ConnectionProof(hr.Region, epoch, connection, hr.Nonce, p.UIN))
	return ask(wire.Reauth, 2, &v1.Reauth{Nonce: hr.Nonce, Signature: signature}, new(v1.ReauthReply))
}

// good decodes an answer, or the error it carries.
func good(f wire.Frame, into proto.Message) error {
	if f.Is(wire.FlagError) {
		e := new(v1.Error)
		if err := wire.Unmarshal(f, e); err != nil {
			return err
		}
		return wire.FromProto(e)
	}
	if f.Method == wire.Redirect {
		return fmt.Errorf("the region sends its users elsewhere")
	}
	return wire.Unmarshal(f, into)
}

func (p *person) read(r *wire.Reader, pushed func(*person, []byte), answered func(*person, uint64, bool)) {
	defer close(p.ended)
	for {
		f, err := r.Next()
		if err != nil {
			p.err = err
			return
		}
		switch {
		case f.Is(wire.FlagResponse) && f.Sequence&control == 0:
			answered(p, f.Sequence, !f.Is(wire.FlagError))
		case f.Is(wire.FlagResponse):
			p.mu.Lock()
			ch := p.waiting[f.Sequence]
			delete(p.waiting, f.Sequence)
			p.mu.Unlock()
			if ch != nil {
				f.Body = append([]byte(nil), f.Body...)
				ch <- f
			}
		case f.Method == wire.Notice:
			pushed(p, f.Body)
		}
	}
}

// call makes a request that is not measured. Nothing may be sent meanwhile.
func (p *person) call(ctx context.Context, m wire.Method, q, a proto.Message) error {
	ch := make(chan wire.Frame, 1)
	p.mu.Lock()
	p.next++
	sequence := p.next | control
	p.waiting[sequence] = ch
	p.mu.Unlock()
	b, err := wire.AppendMessage(nil, m, 0, sequence, q)
	if err != nil {
		return err
	}
	if _, err := p.nc.Write(b); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case f := <-ch:
		return good(f, a)
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush writes what waits in one call.
func (p *person) flush() error {
	_, err := p.nc.Write(p.out)
	p.out = p.out[:0]
	return err
}

// disconnect ends the connection and waits for its reader.
func (p *person) disconnect() {
	if p.nc == nil {
		return
	}
	_ = p.nc.Close()
	<-p.ended
	p.nc = nil
}

// noticed finds what a notice says about a measured message: its number, which
// is its client message ID's, and its sender. The run of a message that bench
// did not send is empty. It is false for a notice that carries no message.
func noticed(body []byte) (run string, number uint64, sender region.UIN, ok bool) {
	const message, senderField, idField = 2, 3, 5 // of v1.Notice and v1.Message
	m := field(body, message)
	if m == nil {
		return "", 0, 0, false
	}
	for len(m) > 0 {
		n, kind, size := protowire.ConsumeTag(m)
		if size < 0 {
			return "", 0, 0, false
		}
		m = m[size:]
		switch {
		case n == senderField && kind == protowire.VarintType:
			v, size := protowire.ConsumeVarint(m)
			if size < 0 {
				return "", 0, 0, false
			}
			sender, m = region.UIN(v), m[size:]
		case n == idField && kind == protowire.BytesType:
			id, size := protowire.ConsumeBytes(m)
			if size < 0 {
				return "", 0, 0, false
			}
			m = m[size:]
			run, number, _ = parseID(string(id))
		default:
			size := protowire.ConsumeFieldValue(n, kind, m)
			if size < 0 {
				return "", 0, 0, false
			}
			m = m[size:]
		}
	}
	return run, number, sender, true
}

// field returns the first field of that number that holds bytes; nil when
// there is none.
func field(b []byte, want protowire.Number) []byte {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return nil
		}
		b = b[size:]
		if n == want && kind == protowire.BytesType {
			v, size := protowire.ConsumeBytes(b)
			if size < 0 {
				return nil
			}
			return v
		}
		if size = protowire.ConsumeFieldValue(n, kind, b); size < 0 {
			return nil
		}
		b = b[size:]
	}
	return nil
}

// Client message IDs are eight characters of the run, a dash, and the number in
// sixteen hexadecimal digits.
func appendID(dst []byte, run string, number uint64) []byte {
	const digits = "0123456789abcdef"
	dst = append(append(dst, run...), '-')
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[number>>shift&15])
	}
	return dst
}

func parseID(id string) (run string, number uint64, ok bool) {
	if len(id) != 25 || id[8] != '-' {
		return "", 0, false
	}
	number, err := strconv.ParseUint(id[9:], 16, 64)
	return id[:8], number, err == nil
}

func clientTLS(t *target) *tls.Config {
	if t.roots == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "long." + t.zone, RootCAs: t.roots}
}

func parseAddr(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, fmt.Errorf("--target %q: want IP:port of a long listener", s)
	}
	return a, nil
}
