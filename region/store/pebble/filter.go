package pebble

import (
	"context"
	"math/bits"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// filter knows which rows a partition does not have. Most rows that are
// written are new, and asking Pebble for a row that is not there costs more
// than everything else a commit does.
//
// It is a blocked Bloom filter in layers: a full layer is followed by one twice
// as large as all before it, so it grows with the partition and is never built
// again while the store is open. p.mu guards it.
//
// Invariant: every key in Pebble or in a chunk was added, once complete is set.
type filter struct {
	layers   []layer
	total    int // keys that fit
	room     int // keys that still fit the newest layer
	complete bool
	budget   *atomic.Int64 // bytes left for all partitions
}

// A block is one cache line, of which a key sets some bits.
type block [8]uint64

type layer []block

const (
	filterBits   = 16 // bits of the filter a key takes: about 1 in 300 absent keys is looked up in Pebble all the same
	filterProbes = 6
	blockBits    = 512
	firstLayer   = 4096 // keys
)

// grow adds a layer for n more keys; false when the budget has no room for it.
func (f *filter) grow(n int) bool {
	blocks := (n*filterBits + blockBits - 1) / blockBits
	if f.budget.Add(-int64(blocks)*blockBits/8) < 0 {
		f.budget.Add(int64(blocks) * blockBits / 8)
		return false
	}
	f.layers = append(f.layers, make(layer, blocks))
	f.total, f.room = f.total+n, n
	return true
}

// add adds a key; false when there is no memory for it, after which the filter
// is of no use.
func (f *filter) add(hash uint64) bool {
	if f.room == 0 && !f.grow(max(firstLayer, 2*f.total)) {
		return false
	}
	f.room--
	b, probes := f.layers[len(f.layers)-1].at(hash)
	for range filterProbes {
		b[probes>>6&7] |= 1 << (probes & 63)
		probes >>= 9
	}
	return true
}

// has says false of a key that was never added.
func (f *filter) has(hash uint64) bool {
	for i := len(f.layers) - 1; i >= 0; i-- {
		if f.layers[i].has(hash) {
			return true
		}
	}
	return false
}

func (l layer) has(hash uint64) bool {
	b, probes := l.at(hash)
	for range filterProbes {
		if b[probes>>6&7]&(1<<(probes&63)) == 0 {
			return false
		}
		probes >>= 9
	}
	return true
}

// at returns the block of a key and the bits in it, nine bits of number each.
func (l layer) at(hash uint64) (*block, uint64) {
	high, low := bits.Mul64(hash, uint64(len(l)))
	return &l[high], low * 0x9e3779b97f4a7c15 >> 10
}

// drop gives the memory back to the budget.
func (f *filter) drop() {
	for _, l := range f.layers {
		f.budget.Add(int64(len(l)) * blockBits / 8)
	}
	f.layers = nil
}

// absent says that the partition has no such row, as far as it knows.
func (p *part) absent(hash uint64) bool {
	return p.filter != nil && p.filter.complete && !p.filter.has(hash)
}

// lacks is absent for readers. A row that is not durable yet counts as there,
// and is looked for in Pebble like any other.
func (p *part) lacks(key []byte) bool {
	hash := p.hash(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.absent(hash)
}

// added tells the filter of a new row.
func (p *part) added(hash uint64) {
	if p.filter != nil && !p.filter.add(hash) {
		p.forgo()
	}
}

// forgo gives the filter up. New rows are then looked up in Pebble.
func (p *part) forgo() {
	p.filter.drop()
	p.filter = nil
	p.s.metrics.unfiltered.Inc()
	p.s.options.Logger.Warn("store has more rows than fit its filter and looks up every new row", "dir", p.s.options.Dir, "partition", p.id)
}

// learn adds the rows that were there when the store was opened to the
// filters, partition after partition, and ends early when the store is closed.
// Commits add theirs meanwhile.
func (s *Store) learn(snap *pebble.Snapshot) {
	defer close(s.learned)
	defer func() { _ = snap.Close() }()
	for _, p := range s.parts {
		hashes, err := s.hashes(snap, p)
		if err != nil {
			s.options.Logger.Error("store cannot read its keys and looks up every new row", "dir", s.options.Dir, "partition", p.id, "error", err)
		}
		if s.queue.closed.Load() {
			return
		}
		p.mu.Lock()
		switch {
		case p.filter == nil:
		case hashes == nil || err != nil:
			p.forgo()
		default:
			// What was added meanwhile stays in front: it is what grows.
			p.filter.layers = append(hashes.layers, p.filter.layers...)
			p.filter.total += hashes.total
			p.filter.complete = true
		}
		p.mu.Unlock()
	}
}

// Ready blocks until the store knows the keys of the rows it was opened with, or
// until ctx ends. It serves before, and looks every new row up on the disk then.
func (s *Store) Ready(ctx context.Context) error {
	select {
	case <-s.learned:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hashes returns a filter with the keys of a partition's rows; nil when they
// are too many.
func (s *Store) hashes(snap *pebble.Snapshot, p *part) (*filter, error) {
	from := appendRowKey(nil, p.id, 0, 0, nil)[:3]
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: after(from)})
	if err != nil {
		return nil, err
	}
	f := &filter{budget: &s.filterBudget}
	if n := p.durable.Load().rows(); n > 0 && !f.grow(n) {
		return nil, it.Close()
	}
	for ok := it.First(); ok; ok = it.Next() {
		if s.queue.closed.Load() {
			break
		}
		if !f.add(p.hash(it.Key())) {
			f.drop()
			return nil, it.Close()
		}
	}
	return f, it.Close()
}

// rows is how many rows the partition has that are not local.
func (v *view) rows() int {
	n := uint64(0)
	for _, w := range v.sums {
		n += w.SharedRows + w.OwnRows
	}
	return int(min(n, 1<<40))
}
