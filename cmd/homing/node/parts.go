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

// StopQueue stops the embedded broker, as if its machine had died.
func (n *Node) StopQueue() error {
	if n.queue == nil {
		return errors.New("this node runs no queue")
	}
	return n.queue.Close()
}
