package peer

import (
	"sync"
	"time"
)

// maxNonces bounds the memory one node can take: about 4 MB. A node that asks
// more than 500 times a second for two minutes is refused, alone.
const maxNonces = 1 << 16

type verdict int

const (
	fresh verdict = iota
	seen
	full
)

// nonces remembers what was used for as long as its time could pass again: a
// request from a clock one window ahead is good for two windows.
type nonces struct {
	mu sync.Mutex
	of map[Identity]*used
}

type used struct {
	set   map[[16]byte]struct{}
	queue []arrival // oldest first
}

type arrival struct {
	nonce [16]byte
	at    time.Time
}

func newNonces() *nonces { return &nonces{of: make(map[Identity]*used)} }

func (n *nonces) add(id Identity, nonce [16]byte, now time.Time) verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	u := n.of[id]
	if u == nil {
		u = &used{set: make(map[[16]byte]struct{})}
		n.of[id] = u
	}
	for len(u.queue) > 0 && now.Sub(u.queue[0].at) > 2*Window {
		delete(u.set, u.queue[0].nonce)
		u.queue = u.queue[1:]
	}
	if _, ok := u.set[nonce]; ok {
		return seen
	}
	if len(u.queue) >= maxNonces {
		return full
	}
	u.set[nonce] = struct{}{}
	u.queue = append(u.queue, arrival{nonce, now})
	return fresh
}
