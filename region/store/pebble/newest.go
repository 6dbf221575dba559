package pebble

import (
	"cmp"
	"slices"
	"sync"

	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// newest keeps the newest batches of a partition's journal in memory, as they
// were written: whoever follows the journal (the core, which executes commands, and
// the shipper) reads each a moment after it was durable, and a search in Pebble for
// every one of these reads costs more than the batch.
//
// It runs ahead of the disk as the step does. Readers take what is below the
// durable head.
type newest struct {
	limit int // bytes

	mu      sync.Mutex
	entries []entry // of sequences that follow each other
	bytes   int
}

type entry struct {
	first, last uint64
	streams     []journal.Stream
	data        []byte // never changed, nor lent
}

// newestShare is the share of Options.Memory that all partitions' batches take.
const newestShare = 4

// leastNewest is what every partition has, in bytes, however many there are.
const leastNewest = 64 << 10

func newNewest(memory int64, partitions int) newest {
	return newest{limit: max(leastNewest, int(memory)/newestShare/partitions)}
}

// add takes a batch.
func (n *newest) add(e *partition.Entry) {
	data := make([]byte, 0, len(e.Links)+len(e.Body))
	data = append(append(data, e.Links...), e.Body...)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.entries = append(n.entries, entry{e.First, e.Last, slices.Clone(e.Streams), data})
	n.bytes += len(data)
	drop := 0
	for n.bytes > n.limit && drop < len(n.entries)-1 {
		n.bytes -= len(n.entries[drop].data)
		n.entries[drop] = entry{}
		drop++
	}
	n.entries = n.entries[drop:]
}

// since returns batches of a stream below sequence next, from the one that holds
// sequence from on, up to about maxBytes, at least one; false when memory does not
// go back so far.
func (n *newest) since(name journal.Stream, from, next uint64, maxBytes int) (some []entry, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.entries) == 0 || n.entries[0].first > from {
		return nil, false
	}
	start, _ := slices.BinarySearchFunc(n.entries, from, func(e entry, from uint64) int { return cmp.Compare(e.last, from) })
	size := 0
	for _, e := range n.entries[start:] {
		if e.first >= next || len(some) > 0 && size >= maxBytes {
			break
		}
		if slices.Contains(e.streams, name) {
			some = append(some, e)
			size += len(e.data)
		}
	}
	return some, true
}
