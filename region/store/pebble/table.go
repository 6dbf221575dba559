package pebble

import (
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

// table knows rows by the hashes of their keys, and compares the keys. It has no
// pointers for the garbage collector to follow, one cache line for most of what
// is asked, and is emptied at no cost.
type table struct {
	slots  []slot // a power of two, of which a quarter is free
	n      int    // in use
	stamp  uint32 // of slots in use
	keys   []byte
	homes  []region.ID    // slots name a home by its place here
	epochs []region.Epoch // and an epoch, of which there are few
}

type slot struct {
	hash    uint64
	version uint64
	serial  uint64
	sum     journal.Sum
	stamp   uint32
	key     uint32 // offset in keys
	epoch   uint32
	length  uint16 // of the key
	home    uint16
	deleted bool
}

// smallest is how many slots a table begins with.
const smallest = 64

func newTable() table { return table{slots: make([]slot, smallest), stamp: 1} }

// find returns the slot of a key, or the free one that it would take.
func (t *table) find(hash uint64, key []byte) (s *slot, ok bool) {
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s = &t.slots[i]
		if s.stamp != t.stamp {
			return s, false
		}
		if s.hash == hash && string(t.keys[s.key:s.key+uint32(s.length)]) == string(key) {
			return s, true
		}
	}
}

func (t *table) get(hash uint64, key []byte) (known, bool) {
	s, ok := t.find(hash, key)
	if !ok {
		return known{}, false
	}
	return known{version: s.version, deleted: s.deleted, home: t.homes[s.home], epoch: t.epochs[s.epoch], sum: s.sum, serial: s.serial}, true
}

func (t *table) put(hash uint64, key []byte, k *known) {
	if t.n >= len(t.slots)/4*3 {
		t.grow()
	}
	s, ok := t.find(hash, key)
	if !ok {
		t.n++
		s.hash, s.stamp, s.key, s.length = hash, t.stamp, uint32(len(t.keys)), uint16(len(key))
		t.keys = append(t.keys, key...)
	}
	s.version, s.serial, s.sum, s.deleted = k.version, k.serial, k.sum, k.deleted
	s.home, s.epoch = t.home(k.home), t.epoch(k.epoch)
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, 2*len(old))
	mask := uint64(len(t.slots) - 1)
	for i := range old {
		if old[i].stamp != t.stamp {
			continue
		}
		at := old[i].hash & mask
		for t.slots[at].stamp == t.stamp {
			at = (at + 1) & mask
		}
		t.slots[at] = old[i]
	}
}

// empty forgets every row, and keeps the memory.
func (t *table) empty() {
	t.n, t.keys, t.homes, t.epochs = 0, t.keys[:0], t.homes[:0], t.epochs[:0]
	if t.stamp++; t.stamp == 0 { // stamps of long ago would be in use again
		clear(t.slots)
		t.stamp = 1
	}
}

func (t *table) home(id region.ID) uint16 {
	for i := range t.homes {
		if t.homes[i] == id {
			return uint16(i)
		}
	}
	t.homes = append(t.homes, id)
	return uint16(len(t.homes) - 1)
}

func (t *table) epoch(e region.Epoch) uint32 {
	for i := range t.epochs {
		if t.epochs[i] == e {
			return uint32(i)
		}
	}
	t.epochs = append(t.epochs, e)
	return uint32(len(t.epochs) - 1)
}
