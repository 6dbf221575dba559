package memory

import (
	"slices"
	"strings"
	"sync"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Disk outlives the stores that are opened on it, one at a time.
type Disk struct {
	mu    sync.Mutex
	user  *Store
	parts []*shelf // what is synced
	log   []change // what is not, oldest first
}

// NewDisk is an empty disk.
func NewDisk() *Disk { return &Disk{} }

// Get returns a row as it is synced, whether a store has the disk open or not. It
// is for who checks what a region that is down would come back with.
func (d *Disk) Get(owner region.UIN, t journal.Table, row []byte) store.Row {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.parts) == 0 {
		return store.Row{Table: t, Row: slices.Clone(row)}
	}
	r, _ := d.parts[region.PartitionOf(owner, len(d.parts))].row(key{owner, t, string(row)})
	return shown(t, string(row), &r)
}

// Crash is the power cut: whoever has the disk open has lost it, and of what was
// not synced keep says how many of n operations are there nevertheless. The
// store that had it answers region.Unavailable from now on.
func (d *Disk) Crash(keep func(n int) int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.log); n > 0 {
		d.log = d.log[:min(max(keep(n), 0), n)]
	}
	d.sync()
	d.user = nil
}

// sync makes the log durable. d.mu is held.
func (d *Disk) sync() (grown []region.Partition) {
	for i := range d.log {
		c := &d.log[i]
		for p := range c.parts {
			w := &c.parts[p]
			if d.parts[w.id].take(w) {
				grown = append(grown, w.id)
			}
		}
	}
	clear(d.log)
	d.log = d.log[:0]
	return grown
}

// change is what one operation wrote, whole or not at all.
type change struct{ parts []writes }

// writes is a change of one partition.
type writes struct {
	id    region.Partition
	state *partition.State
	rows  []rowWrite
	own   []entry
	kept  []copied
	trim  map[region.ID]uint64 // of kept batches, which end before
}

type rowWrite struct {
	key key
	row partition.Row
}

// key names a row.
type key struct {
	owner region.UIN
	table journal.Table
	row   string
}

// entry is a batch of a journal.
type entry struct {
	first, last uint64
	batch       *journal.Batch // what data says; nobody changes it
	data        []byte
}

type copied struct {
	origin region.ID
	entry
}

// shelf is a partition as it is synced.
type shelf struct {
	state  *partition.State
	tables map[tableKey]*table
	own    []entry
	kept   map[region.ID][]entry
}

type tableKey struct {
	owner region.UIN
	table journal.Table
}

// table is the rows of one owner, by key.
type table struct {
	keys []string // sorted
	rows map[string]partition.Row
}

func newShelf() *shelf {
	return &shelf{state: partition.New(), tables: map[tableKey]*table{}, kept: map[region.ID][]entry{}}
}

func (s *shelf) row(k key) (partition.Row, bool) {
	t := s.tables[tableKey{k.owner, k.table}]
	if t == nil {
		return partition.Row{}, false
	}
	r, ok := t.rows[k.row]
	return r, ok
}

// take applies a change, and says whether the journal grew.
func (s *shelf) take(w *writes) (grown bool) {
	for _, r := range w.rows {
		at := tableKey{r.key.owner, r.key.table}
		t := s.tables[at]
		if t == nil {
			t = &table{rows: map[string]partition.Row{}}
			s.tables[at] = t
		}
		if _, ok := t.rows[r.key.row]; !ok {
			i, _ := slices.BinarySearchFunc(t.keys, r.key.row, strings.Compare)
			t.keys = slices.Insert(t.keys, i, r.key.row)
		}
		t.rows[r.key.row] = r.row
	}
	s.own = append(s.own, w.own...)
	for _, c := range w.kept {
		s.kept[c.origin] = append(s.kept[c.origin], c.entry)
	}
	for origin, before := range w.trim {
		s.kept[origin] = after(s.kept[origin], before)
	}
	if w.state != nil {
		grown = w.state.Next > s.state.Next
		s.state = w.state
		s.own = after(s.own, s.state.First)
	}
	return grown
}

// after returns the batches that do not end before a sequence.
func after(all []entry, before uint64) []entry {
	i := 0
	for i < len(all) && all[i].last < before {
		i++
	}
	return all[i:]
}
