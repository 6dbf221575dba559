package wan

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Site is where packets come from and go to.
type Site string

// MTU is the longest packet of any line.
const MTU = 1500

// direction is from one site to another.
type direction struct{ from, to Site }

// WAN connects sites. All methods are safe for concurrent use.
type WAN struct {
	log     *slog.Logger
	readers sync.WaitGroup
	courier sync.WaitGroup
	done    chan struct{}
	sooner  chan struct{} // the first packet of due has changed

	mu    sync.Mutex
	ports map[Site]io.ReadWriteCloser
	sites []Site // in the order they were added
	where map[netip.Addr]Site
	lines map[direction]*line
	due   deliveries
	sent  uint64
	lost  uint64
}

// New returns a WAN without sites.
func New(log *slog.Logger) *WAN {
	w := &WAN{
		log: log, done: make(chan struct{}), sooner: make(chan struct{}, 1),
		ports: map[Site]io.ReadWriteCloser{}, where: map[netip.Addr]Site{}, lines: map[direction]*line{},
	}
	w.courier.Go(w.deliver)
	return w
}

// Add connects a site by a port with one IPv4 packet a read and write, and takes
// the port over. Its lines to all others, both ways, have the shape that to
// says. Addresses belong to one site each.
func (w *WAN) Add(s Site, port io.ReadWriteCloser, to func(Site) Shape, addresses ...netip.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, twice := w.ports[s]; twice {
		return fmt.Errorf("site %s is there already", s)
	}
	for _, a := range addresses {
		if other, twice := w.where[a]; twice {
			return fmt.Errorf("address %s of %s is %s's", a, s, other)
		}
	}
	for _, a := range addresses {
		w.where[a] = s
	}
	for _, other := range w.sites {
		w.lines[direction{s, other}] = &line{Shape: to(other)}
		w.lines[direction{other, s}] = &line{Shape: to(other)}
	}
	w.ports[s], w.sites = port, append(w.sites, s)
	w.readers.Go(func() { w.read(s, port) })
	return nil
}

// Close disconnects all sites, and waits.
func (w *WAN) Close() error {
	close(w.done)
	w.mu.Lock()
	var errs []error
	for _, p := range w.ports {
		errs = append(errs, p.Close())
	}
	w.mu.Unlock()
	w.readers.Wait()
	w.courier.Wait()
	return errors.Join(errs...)
}

// Sites returns the sites in the order they were added.
func (w *WAN) Sites() []Site {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sites)
}

// Shape returns what a direction does.
func (w *WAN) Shape(from, to Site) (Shape, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l, ok := w.lines[direction{from, to}]
	if !ok {
		return Shape{}, false
	}
	return l.Shape, true
}

// Change changes one direction. It is an error when there is no such line.
func (w *WAN) Change(from, to Site, change func(*Shape)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	l, ok := w.lines[direction{from, to}]
	if !ok {
		return fmt.Errorf("there is no line from %s to %s", from, to)
	}
	s := l.Shape
	change(&s)
	l.set(s)
	return nil
}

// Counts returns how many packets were sent, and how many of them lost.
func (w *WAN) Counts() (sent, lost uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent, w.lost
}

// read takes packets of a site until its port is closed.
func (w *WAN) read(from Site, port io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := port.Read(buf)
		if err != nil {
			select {
			case <-w.done:
			default:
				w.log.Error("a site's port has ended", "site", from, "error", err)
			}
			return
		}
		w.take(from, buf[:n], time.Now())
	}
}

// destination returns where an IPv4 packet goes (RFC 791, section 3.1).
func destination(p []byte) (netip.Addr, bool) {
	if len(p) < 20 || p[0]>>4 != 4 || int(binary.BigEndian.Uint16(p[2:])) != len(p) {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(p[16:20])), true
}

func (w *WAN) take(from Site, packet []byte, now time.Time) {
	to, ok := destination(packet)
	if !ok {
		return // IPv6 router solicitations and the like
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent++
	l := w.lines[direction{from, w.where[to]}]
	if l == nil {
		w.lost++
		return
	}
	arrives, ok := l.offer(now, len(packet), rand.Float64)
	if !ok {
		w.lost++
		return
	}
	heap.Push(&w.due, delivery{at: arrives, order: w.sent, to: w.where[to], line: l, cuts: l.cuts, packet: slices.Clone(packet)})
	if w.due[0].order == w.sent {
		select {
		case w.sooner <- struct{}{}:
		default:
		}
	}
}

// deliver hands packets over when they are due.
func (w *WAN) deliver() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := w.hand(time.Now())
		timer.Reset(wait)
		select {
		case <-w.done:
			return
		case <-timer.C:
		case <-w.sooner:
		}
	}
}

// idle is how long to wait when nothing is under way.
const idle = time.Minute

// hand delivers what is due and says how long the next packet takes.
func (w *WAN) hand(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.due) > 0 {
		d := w.due[0]
		if wait := d.at.Sub(now); wait > 0 {
			return wait
		}
		heap.Pop(&w.due)
		if d.line.Cut || d.cuts != d.line.cuts {
			w.lost++
			continue
		}
		// A full device loses the packet, as a full router does.
		if _, err := w.ports[d.to].Write(d.packet); err != nil {
			w.lost++
		}
	}
	return idle
}

// delivery is a packet under way.
type delivery struct {
	at     time.Time
	order  uint64
	to     Site
	line   *line
	cuts   uint64
	packet []byte
}

// deliveries is a heap, the first due at the top.
type deliveries []delivery

func (d deliveries) Len() int { return len(d) }
func (d deliveries) Less(i, j int) bool {
	if d[i].at.Equal(d[j].at) {
		return d[i].order < d[j].order
	}
	return d[i].at.Before(d[j].at)
}
func (d deliveries) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *deliveries) Push(x any)   { *d = append(*d, x.(delivery)) }
func (d *deliveries) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	(*d)[last] = delivery{}
	*d = (*d)[:last]
	return x
}
