//go:build amd64 || arm64

package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// pacedSocket has a share of the questions of a paced load.
type pacedSocket struct {
	fd   int
	next int             // question of this socket to be sent
	due  []time.Duration // when the question with this ID was, since the beginning
}

// paced sends on schedule and measures from the schedule, so that a server
// that stalls cannot hide it (coordinated omission). One thread sends and
// receives and never sleeps: where it woke up late, the server would seem slow.
func paced(ctx context.Context, at netip.AddrPort, asks [][]byte, d time.Duration, rate float64) (_ *dnsRun, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Setpriority(unix.PRIO_PROCESS, 0, -20) == nil { // of this thread; others' work is not the server's delay
		defer func() { err = errors.Join(err, unix.Setpriority(unix.PRIO_PROCESS, 0, 0)) }()
	}
	sockets := make([]pacedSocket, floodSockets)
	for i := range sockets {
		fd, failed := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if failed != nil {
			return nil, failed
		}
		defer func() { err = errors.Join(err, unix.Close(fd)) }()
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
			return nil, err
		}
		sockets[i] = pacedSocket{fd: fd, due: make([]time.Duration, 1<<16)}
	}
	p := newPackets(false)
	run := &dnsRun{took: d, delays: make([]time.Duration, 0, int(rate*d.Seconds())+1)}
	const (
		patience = 200 * time.Millisecond // for the last answers
		heldUp   = time.Millisecond       // a round that takes longer was interrupted: it takes microseconds
	)
	// What was due from the one to the other was sent late, or came behind a crowd of
	// such, by no fault of the server.
	from, to := time.Duration(-1), time.Duration(-1)
	last := time.Duration(0)
	began := time.Now()
	for now := last; now < d+patience && ctx.Err() == nil && (now < d || run.answered < run.asked); now = time.Since(began) {
		interrupted := now-last > heldUp
		if interrupted {
			run.heldUp += now - last
			from, to = last, now+(now-last)
		}
		last = now
		for i := range sockets {
			s := &sockets[i]
			run.asked += uint64(s.sendDue(p, asks, i, rate, min(now, d)))
			got, _ := p.receive(uintptr(s.fd))
			came := time.Since(began)
			for j := range got {
				b := p.received(j)
				if len(b) < 2 {
					continue
				}
				run.answered++
				if due := s.due[binary.BigEndian.Uint16(b)]; interrupted || from < due && due <= to {
					run.uncounted++
				} else {
					run.delays = append(run.delays, came-due)
				}
			}
		}
	}
	slices.Sort(run.delays)
	return run, ctx.Err()
}

// sendDue sends what is due, as much of it as fits a system call. The sockets
// take turns in the schedule; a question that is not taken stays due.
func (s *pacedSocket) sendDue(p *packets, asks [][]byte, turn int, rate float64, now time.Duration) int {
	n := 0
	for ; n < packetBatch; n++ {
		i := (s.next+n)*floodSockets + turn
		when := time.Duration(float64(i) / rate * float64(time.Second))
		if when >= now {
			break
		}
		binary.BigEndian.PutUint16(p.put(n, asks[i%len(asks)]), uint16(s.next+n))
		s.due[uint16(s.next+n)] = when
	}
	if n == 0 {
		return 0
	}
	sent, _ := p.send(uintptr(s.fd), n)
	s.next += sent
	return sent
}
