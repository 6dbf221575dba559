package pebble

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
)

// chunk is what commits put into one partition between two groups, or a change
// of the whole store (partition nil).
type chunk struct {
	p      *part
	ops    *pebble.Batch
	log    *pebble.Batch // journal records; apart, because Pebble inserts keys faster that follow each other
	serial uint64        // of the partition's chunks, ascending from 1
	view   *view         // of the partition after the chunk; nil when its state did not change

	commits int
	writes  int
	journal int // bytes
	found   lookups
	told    []told // in the order of their batches

	done chan struct{} // closed when err is final
	err  error         // nil: durable
}

func (s *Store) newChunk(p *part) *chunk {
	return &chunk{p: p, ops: s.db.NewBatch(), log: s.db.NewBatch(), done: make(chan struct{})}
}

// set puts a key into the chunk, whose value is head and tail.
func (c *chunk) set(key, head, tail []byte) { set(c.ops, key, head, tail) }

func set(b *pebble.Batch, key, head, tail []byte) {
	op := b.SetDeferred(len(key), len(head)+len(tail))
	copy(op.Key, key)
	copy(op.Value[copy(op.Value, head):], tail)
	_ = op.Finish() // of a batch without index: never an error
}

// free gives the memory back. Pebble must not have it.
func (c *chunk) free() {
	_ = c.ops.Close()
	_ = c.log.Close()
}

// settled says whether the chunk is durable, or failed.
func (c *chunk) settled() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// lookups counts where commits found the rows they write over.
type lookups struct {
	recent, absent, engine int
}

// wait blocks until the chunk is durable or failed, or ctx ends; what was put
// into the chunk happens all the same then. No chunk is durable.
func (c *chunk) wait(ctx context.Context) error {
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
		return c.err
	default:
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
