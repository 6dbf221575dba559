package memory

import (
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// part is one partition at work: the engine of its step.
type part struct {
	s      *Store
	id     region.Partition
	step   partition.Step
	ahead  map[key]partition.Row // of rows that are not synced
	places []key                 // that the operation under way found
	open   *writes               // of the operation under way; nil before it writes
}

var _ partition.Engine = (*part)(nil)

// Find implements partition.Engine.
func (p *part) Find(owner region.UIN, t journal.Table, row []byte) (partition.Found, error) {
	k := key{owner, t, string(row)}
	r, ok := p.ahead[k]
	if !ok {
		r, _ = p.s.disk.parts[p.id].row(k)
	}
	p.places = append(p.places, k)
	return partition.Found{Version: r.Version, Deleted: r.Deleted, Home: r.Home, Epoch: r.Epoch, Sum: r.Sum, Place: len(p.places) - 1}, nil
}

// Begin implements partition.Engine.
func (p *part) Begin() error {
	if p.open == nil {
		p.open = &writes{id: p.id}
	}
	return nil
}

// Put implements partition.Engine.
func (p *part) Put(place int, _ bool, r *partition.Row) {
	k, row := p.places[place], *r
	row.Value = slices.Clone(r.Value)
	p.ahead[k] = row
	p.open.rows = append(p.open.rows, rowWrite{k, row})
}

// Erase implements partition.Engine. Only a mending erases, and this store is no
// store.Mender.
func (p *part) Erase(int) { panic("a store in memory is not mended") }

// Forget implements partition.Engine; see Erase.
func (p *part) Forget(region.ID) { panic("a store in memory is not mended") }

// Append implements partition.Engine.
func (p *part) Append(e *partition.Entry) {
	p.open.own = append(p.open.own, newEntry(slices.Concat(e.Links, e.Body)))
}

// Move implements partition.Engine. Positions are in the state.
func (p *part) Move(*journal.Position) {}

// Turn implements partition.Engine. Turns are in the state.
func (p *part) Turn(region.ID, store.Turn) {}

// Keep implements partition.Engine.
func (p *part) Keep(b *journal.Batch) {
	p.open.kept = append(p.open.kept, copied{b.Origin, newEntry(journal.Encode(b))})
}

// newEntry is a batch that was just encoded.
func newEntry(data []byte) entry {
	b, err := journal.Decode(data)
	if err != nil {
		panic(err)
	}
	return entry{b.First(), b.Last(), b, data}
}

// begin begins an operation.
func (p *part) begin() { p.places, p.open, p.step.Touched = p.places[:0], nil, false }

// end puts what the operation wrote into the log.
func (p *part) end() {
	if p.step.Touched {
		_ = p.Begin()
		p.open.state = p.step.State.Clone()
	}
	if p.open != nil {
		p.s.disk.log = append(p.s.disk.log, change{[]writes{*p.open}})
	}
}
