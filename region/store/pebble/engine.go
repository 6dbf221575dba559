package pebble

import (
	"encoding/json"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// scratch is memory a partition uses again for every operation, under its lock.
type scratch struct {
	key, value []byte
	keys       []byte // of the rows in places
	places     []place
}

// place is where a row lies that the operation found.
type place struct {
	key    []byte
	hash   uint64
	serial uint64 // of the chunk that wrote it; 0 when it is durable
}

// forget begins an operation's list of places.
func (sc *scratch) forget() { sc.places, sc.keys = sc.places[:0], sc.keys[:0] }

// Find returns a row as the next operation has to see it, what is not durable
// yet included.
func (p *part) Find(owner region.UIN, t journal.Table, row []byte) (partition.Found, error) {
	sc := &p.scratch
	start := len(sc.keys)
	sc.keys = appendRowKey(sc.keys, p.id, owner, t, row)
	at := place{key: sc.keys[start:]}
	at.hash = p.hash(at.key)
	var k known
	var err error
	if p.absent(at.hash) { // first, because it is cheap and most rows are new
		p.lookups.absent++
	} else if found, ok := p.knows(at.hash, at.key); ok {
		k = found
		p.lookups.recent++
	} else {
		p.lookups.engine++
		k, err = p.stored(owner, t, row, at.key)
	}
	if err != nil {
		return partition.Found{}, err
	}
	at.serial = k.serial
	sc.places = append(sc.places, at)
	return partition.Found{Version: k.version, Deleted: k.deleted, Home: k.home, Epoch: k.epoch, Sum: k.sum, Place: len(sc.places) - 1}, nil
}

// stored asks Pebble for a row.
func (p *part) stored(owner region.UIN, t journal.Table, row, key []byte) (known, error) {
	if p.s.queue.closed.Load() {
		return known{}, errClosed()
	}
	value, closer, err := p.s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return known{}, nil
	}
	if err != nil {
		return known{}, p.s.unreadable(err)
	}
	defer func() { _ = closer.Close() }()
	r, err := decodeRow(value, p.step.State)
	if err != nil {
		return known{}, region.Errorf(region.Internal, "row %x of table %d of %d is damaged", row, t, owner).WithCause(err)
	}
	k := known{version: r.version, deleted: r.deleted, home: r.home, epoch: r.epoch}
	if t.Class() != journal.ClassLocal {
		k.sum = journal.RowSum(owner, t, row, r.version, r.epoch, r.deleted, r.value)
	}
	return k, nil
}

// Begin opens the chunk that takes what the operation writes.
func (p *part) Begin() error {
	_, err := p.chunk()
	return err
}

// Put writes a row into the open chunk.
func (p *part) Put(at int, fresh bool, r *partition.Row) {
	to := &p.scratch.places[at]
	p.scratch.value = appendRowHead(p.scratch.value[:0], r)
	p.open.set(to.key, p.scratch.value, r.Value)
	p.open.writes++
	if fresh {
		p.added(to.hash)
	}
	fresh = fresh && to.serial == 0 // else it was erased, which recent knows, and is asked first
	to.serial = p.open.serial
	p.keeps(to.hash, to.key, fresh, &known{version: r.Version, deleted: r.Deleted, home: r.Home, epoch: r.Epoch, sum: r.Sum, serial: p.open.serial})
}

// Erase removes a row in the open chunk.
func (p *part) Erase(at int) {
	to := &p.scratch.places[at]
	_ = p.open.ops.Delete(to.key, nil) // of a batch without index: never an error
	p.open.writes++
	to.serial = p.open.serial
	p.keeps(to.hash, to.key, false, &known{serial: p.open.serial})
}

// Append puts a batch into the open chunk's journal.
func (p *part) Append(e *partition.Entry) {
	p.scratch.key = appendJournalKey(p.scratch.key[:0], p.id, e.First)
	set(p.open.log, p.scratch.key, e.Links, e.Body)
	p.open.journal += len(e.Links) + len(e.Body)
	p.newest.add(e)
}

// Move writes a position into the open chunk.
func (p *part) Move(at *journal.Position) {
	p.scratch.value = appendPosition(p.scratch.value[:0], at)
	p.open.set(keyPosition(p.id, partition.Source{Origin: at.Origin, Stream: at.Stream}), p.scratch.value, nil)
}

// Turn writes how ownership of a home stands into the open chunk.
func (p *part) Turn(home region.ID, t store.Turn) {
	value, err := json.Marshal(t)
	if err != nil {
		panic(err) // a struct of numbers
	}
	p.open.set(keyTurn(p.id, home), value, nil)
}

// Keep writes a batch of another region's full stream into the open chunk.
func (p *part) Keep(b *journal.Batch) {
	p.scratch.key = appendCopyKey(p.scratch.key[:0], p.id, b.Origin, b.First())
	p.scratch.value = journal.AppendBatch(p.scratch.value[:0], b)
	set(p.open.log, p.scratch.key, p.scratch.value, nil)
}

// Forget drops in the open chunk what was kept of another region's full stream.
func (p *part) Forget(origin region.ID) {
	from := appendCopyKey(nil, p.id, origin, 0)
	_ = p.open.log.DeleteRange(from, after(from[:len(from)-8]), nil) // of a batch without index: never an error
}
