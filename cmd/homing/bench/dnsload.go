package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
)

// The load: sockets with a window of questions under way each. Batches per
// system call keep the generator cheaper than any server.
const (
	floodSockets = 4
	floodWindow  = 50
	floodBatch   = 25
)

// dnsRun is what a flood found.
type dnsRun struct {
	took            time.Duration
	asked, answered uint64
	delays          []time.Duration // of a paced run, in order of size
	heldUp          time.Duration   // the paced generator itself
	uncounted       uint64          // answers meanwhile
	cpu             time.Duration
	rss             uint64 // bytes
	collections     int    // of garbage, as far as the server tells
	paused          time.Duration
}

// questions are packets for the one name on behalf of different networks of
// three continents.
func questions(networks int) [][]byte { return questionsFor(networks, 0, false) }

// questionsWithUsers are the same, one in eight about a user.
func questionsWithUsers(networks int) [][]byte { return questionsFor(networks, 8, false) }

// questionsSigned want signatures.
func questionsSigned(networks int) [][]byte { return questionsFor(networks, 0, true) }

func questionsFor(networks, everyUser int, do bool) [][]byte {
	r := rand.New(rand.NewPCG(5, 7))
	blocks := []string{"223.0.0.0", "88.0.0.0", "99.0.0.0"}
	out := make([][]byte, networks)
	for i := range out {
		a := netip.MustParseAddr(blocks[i%len(blocks)]).As4()
		a[1], a[2] = byte(r.Uint32()), byte(r.Uint32())
		name := benchName + "."
		if everyUser > 0 && i%everyUser == 1 {
			name = fmt.Sprintf("u-%d.%s", 1_000_000+r.IntN(100_000), name)
		}
		p, err := question(name, a, do)
		if err != nil {
			panic(err) // a constant form
		}
		out[i] = p
	}
	return out
}

// question asks for A on behalf of a /24, with signatures or without.
func question(name string, client [4]byte, do bool) ([]byte, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, err
	}
	var opt dnsmessage.ResourceHeader
	if err := opt.SetEDNS0(1232, dnsmessage.RCodeSuccess, do); err != nil {
		return nil, err
	}
	const subnet, family = 8, 1 // RFC 7871
	m := dnsmessage.Message{
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Additionals: []dnsmessage.Resource{{Header: opt, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{
			{Code: subnet, Data: []byte{0, family, 24, 0, client[0], client[1], client[2]}},
		}}}},
	}
	return m.Pack()
}

// flood keeps windows full for some time.
func flood(ctx context.Context, at netip.AddrPort, asks [][]byte, d time.Duration) (*dnsRun, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	began := time.Now()
	runs, errs := make([]*dnsRun, floodSockets), make([]error, floodSockets)
	var wg sync.WaitGroup
	for i := range floodSockets {
		wg.Go(func() {
			runs[i], errs[i] = windowed(ctx, at, asks)
		})
	}
	wg.Wait()
	total := &dnsRun{took: time.Since(began)}
	for _, r := range runs {
		if r != nil {
			total.asked += r.asked
			total.answered += r.answered
		}
	}
	return total, errors.Join(errs...)
}

func messages(n, room int) []ipv4.Message {
	out := make([]ipv4.Message, n)
	for i := range out {
		out[i].Buffers = [][]byte{make([]byte, room)}
	}
	return out
}

// windowed keeps a window of questions under way on one socket.
func windowed(ctx context.Context, at netip.AddrPort, asks [][]byte) (*dnsRun, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	p := ipv4.NewPacketConn(conn)
	in, out := messages(floodWindow, 1500), messages(floodBatch, 512)
	run := &dnsRun{}
	next := rand.IntN(len(asks))
	send := func(n int) error {
		for n > 0 {
			k := min(n, floodBatch)
			for i := range k {
				b := out[i].Buffers[0][:len(asks[next])]
				copy(b, asks[next])
				out[i].Buffers[0] = b
				if next++; next == len(asks) {
					next = 0
				}
			}
			sent, err := p.WriteBatch(out[:k], 0)
			for i := range k {
				out[i].Buffers[0] = out[i].Buffers[0][:cap(out[i].Buffers[0])]
			}
			if err != nil {
				return err
			}
			run.asked += uint64(sent)
			n -= sent
		}
		return nil
	}
	due := floodWindow
	for ctx.Err() == nil {
		if err := send(due); err != nil {
			return run, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := p.ReadBatch(in, 0)
		switch {
		case err == nil:
			run.answered += uint64(n)
			due = n
		case errors.Is(err, os.ErrDeadlineExceeded): // what is missing is lost: fill the window again
			due = floodWindow
		default:
			return run, err
		}
	}
	return run, nil
}

func (r *dnsRun) delay() *DNSDelay {
	at := func(share float64) float64 {
		if len(r.delays) == 0 {
			return 0
		}
		return float64(r.delays[min(len(r.delays)-1, int(share*float64(len(r.delays))))].Nanoseconds()) / 1e6
	}
	return &DNSDelay{HeldUpMillis: float64(r.heldUp.Nanoseconds()) / 1e6, Uncounted: r.uncounted, Collections: r.collections, PausedMillis: float64(r.paused.Nanoseconds()) / 1e6, PerSecond: float64(r.answered) / r.took.Seconds(), P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1), Lost: r.asked - min(r.asked, r.answered)}
}
