package authority

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Top is who and what was asked most, of the last [TopWindow] to twice that.
type Top struct {
	Since     time.Time `json:"since"`
	Questions uint64    `json:"questions"` // about so many
	Peers     []Talker  `json:"peers"`     // addresses that packets came from
	Clients   []Talker  `json:"clients"`   // networks that were asked for
	Names     []Talker  `json:"names"`
}

// Talker is one of the most frequent.
type Talker struct {
	What string `json:"what"`
	// Count is at most so many too high by Error: one that took the place of another
	// begins with the other's count.
	Count uint64 `json:"count"`
	Error uint64 `json:"error"`
}

// TopWindow is how long is counted together.
const TopWindow = 5 * time.Minute

// maxTalkers are counted of each kind: who is asked for more than one in so many
// questions is among them for sure (the space-saving algorithm).
const maxTalkers = 1024

// sketch counts the most frequent keys in bounded memory (Metwally, Agrawal, El
// Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams,
// 2005): a new key takes the place of the least frequent one, and its count.
type sketch[K comparable] struct {
	at   map[K]*counted[K]
	heap []*counted[K] // the least frequent on top
}

type counted[K comparable] struct {
	key          K
	count, error uint64
	place        int
}

func (s *sketch[K]) Len() int           { return len(s.heap) }
func (s *sketch[K]) Less(i, j int) bool { return s.heap[i].count < s.heap[j].count }
func (s *sketch[K]) Swap(i, j int) {
	s.heap[i], s.heap[j] = s.heap[j], s.heap[i]
	s.heap[i].place, s.heap[j].place = i, j
}
func (s *sketch[K]) Push(x any) { s.heap = append(s.heap, x.(*counted[K])) }
func (s *sketch[K]) Pop() any   { return nil } // nobody is ever taken out

func (s *sketch[K]) add(key K, n uint64) {
	c := s.at[key]
	switch {
	case c != nil:
		c.count += n
		heap.Fix(s, c.place)
	case len(s.heap) < maxTalkers:
		if s.at == nil {
			s.at = make(map[K]*counted[K], maxTalkers)
		}
		c = &counted[K]{key: key, count: n, place: len(s.heap)}
		s.at[key] = c
		heap.Push(s, c)
	default:
		c = s.heap[0]
		delete(s.at, c.key)
		c.key, c.error = key, c.count
		c.count += n
		s.at[key] = c
		heap.Fix(s, 0)
	}
}

// window is what was counted together.
type window struct {
	since     time.Time
	questions uint64
	peers     sketch[netip.Addr]
	clients   sketch[netip.Prefix]
	names     sketch[string]
}

// talkers are this window and the one before.
type talkers struct {
	mu          sync.Mutex
	now, before *window
}

func (t *talkers) init() { t.now, t.before = &window{}, &window{} }

func (t *talkers) add(at time.Time, peer netip.Addr, client netip.Prefix, name string, n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(at)
	w := t.now
	w.questions += n
	w.peers.add(peer.Unmap().WithZone(""), n)
	w.clients.add(client, n)
	if name != "" {
		w.names.add(name, n)
	}
}

// turn begins a new window when the time has come.
func (t *talkers) turn(at time.Time) {
	if t.now.since.IsZero() {
		t.now.since = at
	}
	if age := at.Sub(t.now.since); age >= 2*TopWindow {
		t.now, t.before = &window{since: at}, &window{}
	} else if age >= TopWindow {
		t.now, t.before = &window{since: at}, t.now
	}
}

// peerNetwork is what is counted as one client: an IPv4 /24, an IPv6 /56.
func peerNetwork(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 56
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // zero for no address
	return p
}

// Top returns the n most frequent of each kind.
func (s *Server) Top(n int) Top {
	t := &s.talkers
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(s.now())
	out := Top{Since: t.now.since, Questions: t.now.questions + t.before.questions}
	if !t.before.since.IsZero() {
		out.Since = t.before.since
	}
	out.Peers = most(n, &t.now.peers, &t.before.peers, netip.Addr.String)
	out.Clients = most(n, &t.now.clients, &t.before.clients, netip.Prefix.String)
	out.Names = most(n, &t.now.names, &t.before.names, func(s string) string { return s })
	return out
}

func most[K comparable](n int, a, b *sketch[K], text func(K) string) []Talker {
	sum := map[K]Talker{}
	for _, s := range []*sketch[K]{a, b} {
		for _, c := range s.heap {
			have := sum[c.key]
			have.Count, have.Error = have.Count+c.count, have.Error+c.error
			sum[c.key] = have
		}
	}
	out := make([]Talker, 0, len(sum))
	for key, talker := range sum {
		talker.What = text(key)
		out = append(out, talker)
	}
	slices.SortFunc(out, func(x, y Talker) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.What, y.What))
	})
	return out[:min(n, len(out))]
}
