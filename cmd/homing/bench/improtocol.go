package bench

import (
	"context"
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
	"github.com/homing-im/homing/region/wire"
)

// control is set in the sequences of requests that are not measured.
const control = 1 << 63

// person is a user with one long connection. One goroutine reads it; frames are
// written by the one that sends.
type person struct {
	client.Identity
	index int
	link  *client.Link // nil while there is none
	out   []byte       // frames that wait for flush; of the sending goroutine

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

// connect makes the person's connection, and reads from then on: pushed gets the
// body of every notice, answered the sequence of every answer to a measured Send
// and whether it was good.
func (p *person) connect(ctx context.Context, t *target, pushed func(*person, []byte), answered func(*person, uint64, bool)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d := net.Dialer{KeepAlive: -1} // nor would a phone's
	d.SetMultipathTCP(false)
	p.link, err = client.DialLink(ctx, t.long, client.LinkOptions{Identity: p.Identity, ClientVersion: 80003, Platform: "bench",
		Zone: t.zone, RootCAs: t.roots, Plain: t.roots == nil, Dial: d.DialContext})
	if err != nil {
		return fmt.Errorf("user %d: %w", p.UIN, err)
	}
	p.waiting, p.ended = map[uint64]chan wire.Frame{}, make(chan struct{})
	go p.read(pushed, answered)
	return nil
}

// good decodes an answer, or the error it carries.
func good(f wire.Frame, into proto.Message) error {
	if err := client.ErrorOf(f); err != nil {
		return err
	}
	return wire.Unmarshal(f, into)
}

func (p *person) read(pushed func(*person, []byte), answered func(*person, uint64, bool)) {
	defer close(p.ended)
	for {
		f, err := p.link.Next()
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
	if err := p.link.Write(b); err != nil {
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
	err := p.link.Write(p.out)
	p.out = p.out[:0]
	return err
}

// disconnect ends the connection and waits for its reader.
func (p *person) disconnect() {
	if p.link == nil {
		return
	}
	_ = p.link.Close()
	<-p.ended
	p.link = nil
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

func parseAddr(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, fmt.Errorf("--target %q: want IP:port of a long listener", s)
	}
	return a, nil
}
