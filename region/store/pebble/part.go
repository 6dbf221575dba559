package pebble

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// part is a partition, the unit of order. Its step under mu runs ahead of the
// disk by the open chunk and the one being written; durable is what readers may
// know. It is the engine of its own step.
type part struct {
	s  *Store
	id region.Partition

	durable atomic.Pointer[view]
	newest  newest

	mu      sync.Mutex
	step    partition.Step
	open    *chunk // takes what commits; nil when nothing has since the last was taken
	taken   trail  // chunks the committer took, newest first; those before them are durable, or failed
	serial  uint64 // of the newest chunk
	recent  recent // with fresh, has every row of open, and of those in taken until they are durable
	fresh   fresh
	filter  *filter // nil when there is no memory for it
	scratch scratch
	lookups lookups // since the last chunk was taken

	changedMu sync.Mutex
	changed   chan struct{}
}

var _ partition.Engine = (*part)(nil)

func (s *Store) newPart(id region.Partition, recentRows int) *part {
	p := &part{s: s, id: id, changed: make(chan struct{})}
	p.step = partition.Step{
		Self: s.options.Region, Partition: id, State: partition.New(), Engine: p,
		Now: func() int64 { return s.options.Now().UnixMilli() },
	}
	p.recent, p.fresh = newRecent(recentRows), newFresh()
	p.newest = newNewest(s.options.Memory, s.options.Partitions)
	if s.options.FilterMemory > 0 {
		p.filter = &filter{budget: &s.filterBudget}
	}
	return p
}

// view is the part of the state that readers ask for, as of one group.
type view struct {
	head  store.Head
	sums  map[region.ID]journal.Watermark
	turns map[region.ID]store.Turn
}

func newView(s *partition.State) *view {
	v := &view{head: s.Head(), sums: make(map[region.ID]journal.Watermark, len(s.Sums)), turns: maps.Clone(s.Turns)}
	for home := range s.Sums {
		v.sums[home] = s.Watermark(home)
	}
	return v
}

// settle returns when whoever was at work in the partition has left it.
func (p *part) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
}

// publish makes a view the durable one, and wakes who waits for records.
func (p *part) publish(v *view) {
	grew := v.head.Next > p.durable.Load().head.Next
	p.durable.Store(v)
	if !grew {
		return
	}
	p.changedMu.Lock()
	close(p.changed)
	p.changed = make(chan struct{})
	p.changedMu.Unlock()
}
