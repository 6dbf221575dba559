package pebble

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// partition is the unit of order. Its state under mu runs ahead of the disk by
// the open chunk and the one being written; durable is what readers may know.
type partition struct {
	s  *Store
	id region.Partition

	durable atomic.Pointer[view]

	mu        sync.Mutex
	state     state
	positions map[stream]journal.Position
	fence     region.Fence // this partition's copy: Fence raises all under their locks
	open      *chunk       // takes what commits; nil when nothing has since the last was taken
	taken     *chunk       // the newest the committer took; nil when none. Those before it are durable, or failed
	serial    uint64       // of the newest chunk
	recent    recent       // has every row of open, and of taken until that is durable
	filter    *filter      // nil when there is no memory for it
	scratch   scratch
	lookups   lookups // since the last chunk was taken

	changedMu sync.Mutex
	changed   chan struct{}
}

// state is the partition's state row.
//
// Invariants: next is one more than the last record's sequence; the head of
// stream full is the last record; the sums are those of all rows that are not
// local, tombstones included.
type state struct {
	incarnation uint64
	first       uint64 // oldest record kept
	next        uint64
	unixMilli   int64
	heads       []journal.StreamHead // full first, then by name
	sums        map[region.ID]*sums
}

// sums are the digests of one home's rows in a partition.
type sums struct {
	home    region.ID
	changed bool // by a commit of this region, since the home's last watermark
	shared  tally
	own     tally
}

// tally is the digest of a set of rows, kept in constant time.
type tally struct {
	sum  journal.Sum
	rows uint64
}

func (t *tally) add(s journal.Sum)    { t.sum, t.rows = t.sum.Add(s), t.rows+1 }
func (t *tally) remove(s journal.Sum) { t.sum, t.rows = t.sum.Sub(s), t.rows-1 }

func (s *sums) of(c journal.Class) *tally {
	if c == journal.ClassShared {
		return &s.shared
	}
	return &s.own
}

func (s *sums) watermark() journal.Watermark {
	return journal.Watermark{Home: s.home, SharedSum: s.shared.sum, SharedRows: s.shared.rows, OwnSum: s.own.sum, OwnRows: s.own.rows}
}

func (s *state) home(id region.ID) *sums {
	h := s.sums[id]
	if h == nil {
		h = &sums{home: id}
		s.sums[id] = h
	}
	return h
}

func (s *state) head(name journal.Stream) *journal.StreamHead {
	for i := range s.heads {
		if s.heads[i].Stream == name {
			return &s.heads[i]
		}
	}
	s.heads = append(s.heads, journal.StreamHead{Stream: name})
	slices.SortFunc(s.heads, func(a, b journal.StreamHead) int {
		switch {
		case a.Stream == journal.Full:
			return -1
		case b.Stream == journal.Full:
			return 1
		}
		return strings.Compare(string(a.Stream), string(b.Stream))
	})
	return s.head(name)
}

// view is the part of the state that readers ask for, as of one group.
type view struct {
	head store.Head
	sums map[region.ID]journal.Watermark
}

func (s *state) view() *view {
	v := &view{head: store.Head{
		Incarnation: s.incarnation, First: s.first, Next: s.next, UnixMilli: s.unixMilli, Streams: slices.Clone(s.heads),
	}, sums: make(map[region.ID]journal.Watermark, len(s.sums))}
	for id, h := range s.sums {
		v.sums[id] = h.watermark()
	}
	return v
}

func (s *state) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, s.incarnation)
	dst = binary.AppendUvarint(dst, s.first)
	dst = binary.AppendUvarint(dst, s.next)
	dst = binary.AppendVarint(dst, s.unixMilli)
	dst = binary.AppendUvarint(dst, uint64(len(s.heads)))
	for i := range s.heads {
		dst = appendText(dst, string(s.heads[i].Stream))
		dst = binary.AppendUvarint(dst, s.heads[i].Last)
		dst = append(dst, s.heads[i].Chain[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.sums)))
	for _, id := range s.homes() {
		h := s.sums[id]
		dst = appendText(dst, string(h.home))
		if h.changed {
			dst = append(dst, 1)
		} else {
			dst = append(dst, 0)
		}
		dst = append(dst, h.shared.sum[:]...)
		dst = binary.AppendUvarint(dst, h.shared.rows)
		dst = append(dst, h.own.sum[:]...)
		dst = binary.AppendUvarint(dst, h.own.rows)
	}
	return dst
}

// newState is the state of a partition nothing was ever written in.
func newState() state {
	return state{incarnation: 1, first: 1, next: 1, sums: map[region.ID]*sums{}}
}

func decodeState(b []byte) (state, error) {
	r := reader{data: b}
	s := state{incarnation: r.uint(), first: r.uint(), next: r.uint(), unixMilli: r.int(), sums: map[region.ID]*sums{}}
	for n := r.uint(); n > 0 && r.err == nil; n-- {
		s.heads = append(s.heads, journal.StreamHead{Stream: journal.Stream(r.text()), Last: r.uint(), Chain: r.sum()})
	}
	for n := r.uint(); n > 0 && r.err == nil; n-- {
		h := &sums{home: region.ID(r.text()), changed: r.byte() == 1}
		h.shared = tally{sum: r.sum(), rows: r.uint()}
		h.own = tally{sum: r.sum(), rows: r.uint()}
		s.sums[h.home] = h
	}
	if r.err == nil && len(r.data) > 0 {
		r.fail()
	}
	return s, r.err
}

// settle returns when whoever was at work in the partition has left it.
func (p *partition) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
}

// publish makes a view the durable one, and wakes who waits for records.
func (p *partition) publish(v *view) {
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

// homes returns the homes that have rows here, sorted.
func (s *state) homes() []region.ID { return slices.Sorted(maps.Keys(s.sums)) }
