package pebble

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
)

// chunk is what commits put into one partition between two groups, or a change
// of the whole store (partition nil).
type chunk struct {
	p       *partition
	ops     *pebble.Batch
	rows    map[string][]byte // rows of ops by key, until Pebble shows them
	touched bool              // the partition's state changed
	view    *view             // of the partition after the chunk; nil when its state did not change

	commits int
	writes  int
	journal int // bytes

	done chan struct{} // closed when err is final
	err  error         // nil: durable
}

func (s *Store) newChunk(p *partition) *chunk {
	return &chunk{p: p, ops: s.db.NewBatch(), rows: map[string][]byte{}, done: make(chan struct{})}
}

// set puts a key into the chunk and returns the value's bytes there.
func (c *chunk) set(key, value []byte) []byte {
	op := c.ops.SetDeferred(len(key), len(value))
	copy(op.Key, key)
	copy(op.Value, value)
	_ = op.Finish() // of a batch without index: never an error
	return op.Value
}

// wait blocks until the chunk is durable or failed, or ctx ends; what was put
// into the chunk happens all the same then.
func (c *chunk) wait(ctx context.Context) error {
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
