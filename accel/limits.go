package accel

import (
	"net"
	"net/netip"
	"sync"

	"github.com/homing-im/homing/region"
)

// limits counts the client connections, in all and by address.
type limits struct {
	most, mostPerAddress int

	mu   sync.Mutex
	all  int
	from map[netip.Addr]int
}

func newLimits(most, perAddress int) *limits {
	return &limits{most: most, mostPerAddress: perAddress, from: make(map[netip.Addr]int)}
}

// take counts a connection in. The reason it is refused is "" when it is not.
func (l *limits) take(a netip.Addr) (refused string) {
	a = bucketOf(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.all >= l.most:
		return "max-connections"
	case l.from[a] >= l.mostPerAddress:
		return "max-per-address"
	}
	l.all++
	l.from[a]++
	return ""
}

// give counts a connection out.
func (l *limits) give(a netip.Addr) {
	a = bucketOf(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.from[a]--; l.from[a] <= 0 {
		delete(l.from, a)
	}
}

// bucketOf is who a connection is counted for: an IPv4 address, or the /64 that
// one IPv6 host usually has for itself.
func bucketOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func addrOf(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// limited is a listener whose connections are counted, and closed by [POP.Close]
// even when they were hijacked, which http.Server forgets.
type limited struct {
	net.Listener
	p       *POP
	service region.Service
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a := addrOf(c.RemoteAddr()).Addr()
		if why := l.p.limits.take(a); why != "" {
			l.p.m.rejected.WithLabelValues(why).Inc()
			_ = c.Close()
			continue
		}
		t := &counted{Conn: c, l: l, from: a}
		l.p.mu.Lock()
		l.p.web[t] = struct{}{}
		closed := l.p.closed
		l.p.mu.Unlock()
		l.p.m.accepted.WithLabelValues(string(l.service)).Inc()
		if closed { // Close did not see it
			_ = t.Close()
		}
		return t, nil
	}
}

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	l    *limited
	from netip.Addr
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() {
		p := c.l.p
		p.limits.give(c.from)
		p.mu.Lock()
		delete(p.web, c)
		p.mu.Unlock()
	})
	return c.Conn.Close()
}
