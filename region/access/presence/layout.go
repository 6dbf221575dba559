package presence

import (
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access/internal/rendezvous"
)

// NodeAddress is a presence node, as every process of the region is configured.
type NodeAddress struct {
	Name    string // unique; what segments are given out by
	Address string // IP:port
}

// layout says who holds which segment.
type layout struct {
	nodes []NodeAddress
	seeds []uint64
	all   []int
}

func newLayout(nodes []NodeAddress) (*layout, error) {
	l := &layout{nodes: nodes}
	for i, n := range nodes {
		if n.Name == "" || slices.ContainsFunc(nodes[:i], func(o NodeAddress) bool { return o.Name == n.Name }) {
			return nil, region.Errorf(region.BadInput, "presence node %q: want a name, and each once", n.Name)
		}
		l.seeds = append(l.seeds, rendezvous.Seed(n.Name))
		l.all = append(l.all, i)
	}
	if len(nodes) == 0 {
		return nil, region.Errorf(region.BadInput, "there are no presence nodes")
	}
	return l, nil
}

// pair returns the indices of the primary and the backup; both are the same when
// there is one node.
func (l *layout) pair(u region.UIN) (primary, backup int) {
	if len(l.all) == 1 {
		return 0, 0
	}
	order := rendezvous.Order(l.seeds, l.all, uint64(u)/SegmentSize)
	return order[0], order[1]
}

// holds says whether node n holds the user, as primary or backup.
func (l *layout) holds(n int, u region.UIN) bool {
	p, b := l.pair(u)
	return n == p || n == b
}
