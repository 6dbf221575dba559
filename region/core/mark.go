package core

import (
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// Mark is a place in this region's journal of a partition: what a client
// compares to know whether the backup has what it sent.
type Mark struct {
	Incarnation uint64
	Seq         uint64
}

// mark says where a commit of the owner's stands. Without a commit, because it
// was made before, everything that is durable by now covers it.
func (c *Core) mark(owner region.UIN, r store.Receipt) *v1.Mark {
	h := c.o.Store.Head(region.PartitionOf(owner, c.o.Store.Partitions()))
	m := &v1.Mark{Incarnation: h.Incarnation, Sequence: r.Last}
	if r.Last == 0 {
		m.Sequence = max(h.Next, 1) - 1
	}
	return m
}
