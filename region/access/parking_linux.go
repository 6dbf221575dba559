package access

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// parking waits for many silent connections at once, by epoll, so that one costs
// neither a goroutine nor a stack. A connection is parked by the goroutine that
// read it last, and is woken once: when there is something to read, when it was
// silent for too long, or when somebody says so.
//
// A socket stays in the set from its first parking until it is closed, and is
// armed for one event at a time.
type parking struct {
	epoll int
	wake  [2]int // a pipe: its closing ends run
	idle  time.Duration

	mu     sync.Mutex
	parked map[uint64]*spot
	next   uint64
	closed bool
}

// spot is a connection's place in a parking.
type spot struct {
	id    uint64
	woken func(error) // must not block; set while parked, else nil
	since time.Time
}

// errSilent is that a parked connection was silent for too long.
type errSilent struct{}

func (errSilent) Error() string   { return "access: the client was silent for too long" }
func (errSilent) Timeout() bool   { return true }
func (errSilent) Temporary() bool { return true }

func newParking(idle time.Duration) (*parking, error) {
	p := &parking{idle: idle, parked: map[uint64]*spot{}}
	var err error
	if p.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := syscall.Pipe2(p.wake[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, errors.Join(err, syscall.Close(p.epoll))
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLIN}
	return p, syscall.EpollCtl(p.epoll, syscall.EPOLL_CTL_ADD, p.wake[0], &e)
}

// park waits for the socket and then calls woken, once, also when it cannot be
// waited for.
func (p *parking) park(q *quiet, woken func(error)) {
	s := &q.spot
	p.mu.Lock()
	op := syscall.EPOLL_CTL_MOD
	if s.id == 0 {
		p.next++
		s.id, op = p.next, syscall.EPOLL_CTL_ADD
	}
	s.woken, s.since = woken, time.Now()
	p.parked[s.id] = s
	closed := p.closed
	p.mu.Unlock()
	if closed {
		p.rouse(s.id, syscall.ECANCELED)
		return
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(s.id), Pad: int32(s.id >> 32)}
	var failed error
	err := q.raw.Control(func(fd uintptr) { failed = syscall.EpollCtl(p.epoll, op, int(fd), &e) })
	if err = errors.Join(err, failed); err != nil {
		p.rouse(s.id, err)
	}
}

// rouse wakes a connection if it is parked; nil says that it may be read.
func (p *parking) rouse(id uint64, why error) {
	p.mu.Lock()
	s := p.parked[id]
	if s == nil {
		p.mu.Unlock()
		return
	}
	delete(p.parked, id)
	woken := s.woken
	s.woken = nil
	p.mu.Unlock()
	woken(why)
}

// wakeUp wakes a connection if it is parked.
func (p *parking) wakeUp(q *quiet, why error) {
	p.mu.Lock()
	id := q.spot.id
	p.mu.Unlock()
	p.rouse(id, why)
}

// run waits for events until close is called. It is the parking's one goroutine
// besides sweep.
func (p *parking) run() {
	events := make([]syscall.EpollEvent, 256)
	for {
		n, err := syscall.EpollWait(p.epoll, events, -1)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
		for _, e := range events[:max(n, 0)] {
			id := uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32
			if id == 0 {
				return
			}
			p.rouse(id, nil)
		}
	}
}

// sweep wakes who was silent for too long, until done is closed.
func (p *parking) sweep(done <-chan struct{}) {
	t := time.NewTicker(max(p.idle/16, 10*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-done:
			return
		}
		limit := time.Now().Add(-p.idle)
		var late []uint64
		p.mu.Lock()
		for id, s := range p.parked {
			if s.since.Before(limit) {
				late = append(late, id)
			}
		}
		p.mu.Unlock()
		for _, id := range late {
			p.rouse(id, errSilent{})
		}
	}
}

// stop wakes everybody and ends run. Whoever parks afterwards is woken at once.
func (p *parking) stop() {
	p.mu.Lock()
	p.closed = true
	var all []uint64
	for id := range p.parked {
		all = append(all, id)
	}
	p.mu.Unlock()
	for _, id := range all {
		p.rouse(id, syscall.ECANCELED)
	}
	_ = syscall.Close(p.wake[1])
}

// free gives the descriptors back, after run has returned.
func (p *parking) free() {
	_ = syscall.Close(p.wake[0])
	_ = syscall.Close(p.epoll)
}
