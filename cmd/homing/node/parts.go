package node

import (
	"errors"

	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/replicator"
)

// What a story needs to look at, or to break.

// Store returns the region's store; nil when the node has no such role.
func (n *Node) Store() store.Store {
	if n.region == nil {
		return nil
	}
	return n.region.store
}

// Replicator returns the region's replicator; nil when the node has no such role.
func (n *Node) Replicator() *replicator.Replicator {
	if n.region == nil {
		return nil
	}
	return n.region.replicator
}

// Unseen returns a POP or region that this node's steering does not see healthy;
// "" when it sees all, or does not steer.
func (n *Node) Unseen() string {
	s := n.steering
	if s == nil {
		return ""
	}
	h, w := s.health.Health(), n.world.View().World
	for _, p := range w.POPs {
		if !h.POP(p.ID) {
			return string(p.ID)
		}
	}
	for _, r := range w.Regions {
		if !h.Region(r.ID) {
			return "region " + string(r.ID)
		}
	}
	return ""
}

// StopQueue stops the embedded broker, as if its machine had died.
func (n *Node) StopQueue() error {
	if n.queue == nil {
		return errors.New("this node runs no queue")
	}
	return n.queue.Close()
}
