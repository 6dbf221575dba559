package pebble

import (
	"hash/maphash"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// known is what a commit has to know of the row it writes over.
type known struct {
	version uint64 // 0: never written
	deleted bool
	home    region.ID
	epoch   region.Epoch
	sum     journal.Sum // zero for local rows
	serial  uint64      // of the chunk that wrote it; 0 when Pebble was asked
}

// recent is what a partition knows of the rows it wrote last, so that most
// commits need not ask Pebble. It is exact, and for the rows that Pebble does
// not show yet it is the only place that knows them. p.mu guards it.
//
// It keeps two generations. When the young one is full it becomes the old one,
// and the old one is forgotten, but never before its rows are durable. Rows that
// were written more than once, such as counters and heads, will be again: up to
// half a generation of them is carried over.
type recent struct {
	limit      int // rows of a generation
	hash       func(key []byte) uint64
	young, old generation
	spare      generation     // empty
	homes      []region.ID    // entries name a home by its place here
	epochs     []region.Epoch // and an epoch, of which there are few
}

type generation struct {
	rows   map[uint64]entry // by hash of the key, or the next free number after it
	keys   []byte
	newest *chunk // that has rows of this generation
}

// entry has no pointers, so that the garbage collector need not look at it.
type entry struct {
	version uint64
	serial  uint64
	sum     journal.Sum
	key     uint32 // offset in keys
	length  uint16 // of the key
	home    uint16
	epoch   uint16
	deleted bool
}

// recentBytes is what a row takes here, about; see Options.Memory.
const recentBytes = 128

func newRecent(limit int, hash func(key []byte) uint64) recent {
	r := recent{limit: max(limit, 64), hash: hash}
	for _, g := range []*generation{&r.young, &r.old, &r.spare} {
		g.rows = map[uint64]entry{}
	}
	return r
}

func (g *generation) key(e *entry) []byte { return g.keys[e.key : e.key+uint32(e.length)] }

// set puts an entry under the number that find gave for its key.
func (g *generation) set(at uint64, key []byte, e entry) {
	if _, ok := g.rows[at]; !ok {
		e.key, e.length = uint32(len(g.keys)), uint16(len(key))
		g.keys = append(g.keys, key...)
	}
	g.rows[at] = e
}

// find returns the entry of a key, or the number under which it may be put.
func (g *generation) find(hash uint64, key []byte) (uint64, entry, bool) {
	for at := hash; ; at++ {
		e, ok := g.rows[at]
		if !ok || string(g.key(&e)) == string(key) {
			return at, e, ok
		}
	}
}

func (r *recent) get(hash uint64, key []byte) (known, bool) {
	_, e, ok := r.young.find(hash, key)
	if !ok {
		if _, e, ok = r.old.find(hash, key); !ok {
			return known{}, false
		}
	}
	return known{version: e.version, deleted: e.deleted, home: r.homes[e.home], epoch: r.epochs[e.epoch], sum: e.sum, serial: e.serial}, true
}

func (r *recent) put(hash uint64, key []byte, c *chunk, k *known) {
	if len(r.young.rows) >= r.limit && (r.old.newest == nil || r.old.newest.settled()) {
		r.turn()
	}
	at, e, _ := r.young.find(hash, key)
	e.version, e.serial, e.sum, e.deleted, e.home, e.epoch = k.version, k.serial, k.sum, k.deleted, r.home(k.home), r.epoch(k.epoch)
	r.young.set(at, key, e)
	r.young.newest = c
}

// turn begins a generation.
func (r *recent) turn() {
	r.spare, r.old, r.young = r.old, r.young, r.spare
	last := &r.spare
	for _, e := range last.rows {
		if len(r.young.rows) >= r.limit/2 {
			break
		}
		if e.version == 1 {
			continue
		}
		key := last.key(&e)
		hash := r.hash(key)
		if _, _, newer := r.old.find(hash, key); !newer {
			at, _, _ := r.young.find(hash, key)
			r.young.set(at, key, e)
		}
	}
	clear(last.rows)
	last.keys, last.newest = last.keys[:0], nil
}

func (r *recent) home(id region.ID) uint16 {
	for i := range r.homes {
		if r.homes[i] == id {
			return uint16(i)
		}
	}
	r.homes = append(r.homes, id)
	return uint16(len(r.homes) - 1)
}

func (r *recent) epoch(e region.Epoch) uint16 {
	for i := range r.epochs {
		if r.epochs[i] == e {
			return uint16(i)
		}
	}
	r.epochs = append(r.epochs, e)
	return uint16(len(r.epochs) - 1)
}

func (p *part) hash(key []byte) uint64 { return maphash.Bytes(p.s.seed, key) }
