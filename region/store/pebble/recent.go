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
	sum     journal.Sum // zero for local rows
	serial  uint64      // of the chunk that wrote it; 0 when Pebble was asked
}

// recent is what a partition knows of the rows it wrote last, so that most
// commits need not ask Pebble. It is exact, and for the rows that Pebble does
// not show yet it is the only place that knows them. p.mu guards it.
//
// It keeps two generations. When the young one is full it becomes the old one,
// and the old one is forgotten, but never before its rows are durable.
type recent struct {
	limit      int // rows of a generation
	young, old generation
	homes      []region.ID // entries name a home by its place here
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
	deleted bool
}

// recentBytes is what a row takes here, about; see Options.Memory.
const recentBytes = 128

func newRecent(limit int) recent {
	return recent{limit: max(limit, 64), young: generation{rows: map[uint64]entry{}}, old: generation{rows: map[uint64]entry{}}}
}

// find returns the entry of a key, or the number under which it may be put.
func (g *generation) find(hash uint64, key []byte) (uint64, entry, bool) {
	for at := hash; ; at++ {
		e, ok := g.rows[at]
		if !ok || string(g.keys[e.key:e.key+uint32(e.length)]) == string(key) {
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
	return known{version: e.version, deleted: e.deleted, home: r.homes[e.home], sum: e.sum, serial: e.serial}, true
}

func (r *recent) put(hash uint64, key []byte, c *chunk, k *known) {
	if len(r.young.rows) >= r.limit && (r.old.newest == nil || r.old.newest.settled()) {
		r.young, r.old = r.old, r.young
		clear(r.young.rows)
		r.young.keys, r.young.newest = r.young.keys[:0], nil
	}
	g := &r.young
	at, e, ok := g.find(hash, key)
	if !ok {
		e.key, e.length = uint32(len(g.keys)), uint16(len(key))
		g.keys = append(g.keys, key...)
	}
	e.version, e.serial, e.sum, e.deleted, e.home = k.version, k.serial, k.sum, k.deleted, r.home(k.home)
	g.rows[at] = e
	g.newest = c
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

func (p *partition) hash(key []byte) uint64 { return maphash.Bytes(p.s.seed, key) }
