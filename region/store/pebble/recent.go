package pebble

import "hash/maphash"

// recent is what a partition knows of rows it wrote over lately, such as
// counters and heads, which it will write over again, so that most commits need
// not ask Pebble. It is exact, and for those rows that Pebble does not show yet
// it is the only place that knows them. Rows that are new are not in it: few are
// written again soon, and [fresh] knows them while they are under way. p.mu
// guards it.
//
// It keeps two generations. When the young one is full it becomes the old one,
// and the old one is forgotten, but never before its rows are durable.
type recent struct {
	limit      int // rows of a generation
	young, old generation
}

type generation struct {
	table
	newest *chunk // that has rows of this generation
}

// recentBytes is what a row takes here, about; see Options.Memory.
const recentBytes = 128

func newRecent(limit int) recent {
	return recent{limit: max(limit, 64), young: generation{table: newTable()}, old: generation{table: newTable()}}
}

func (r *recent) get(hash uint64, key []byte) (known, bool) {
	if k, ok := r.young.get(hash, key); ok {
		return k, true
	}
	return r.old.get(hash, key)
}

func (r *recent) put(hash uint64, key []byte, c *chunk, k *known) {
	if r.young.n >= r.limit && (r.old.newest == nil || r.old.newest.settled()) {
		r.young, r.old = r.old, r.young
		r.young.empty()
		r.young.newest = nil
	}
	r.young.put(hash, key, k)
	r.young.newest = c
}

// trail are the chunks of a partition that may be under way, newest first; nil
// where there were none yet.
type trail [depth]*chunk

// fresh knows the rows under way that were not there before: those of the open
// chunk, and of each that was taken until that is durable. p.mu guards it.
type fresh struct {
	open  table
	taken [depth]table // as part.taken
}

func newFresh() fresh {
	f := fresh{open: newTable()}
	for i := range f.taken {
		f.taken[i] = newTable()
	}
	return f
}

// take makes the open chunk's rows those of the newest that was taken. The chunk
// that leaves the trail is durable, or failed.
func (f *fresh) take() {
	last := f.taken[depth-1]
	copy(f.taken[1:], f.taken[:])
	f.taken[0], f.open = f.open, last
	f.open.empty()
}

// take hands the open chunk to the committer.
func (p *part) take() *chunk {
	c := p.open
	copy(p.taken[1:], p.taken[:])
	p.taken[0], p.open = c, nil
	p.fresh.take()
	return c
}

func (p *part) hash(key []byte) uint64 { return maphash.Bytes(p.s.seed, key) }

// knows returns what is known of a row without asking Pebble.
func (p *part) knows(hash uint64, key []byte) (k known, ok bool) {
	if k, ok = p.recent.get(hash, key); ok { // first, because it has what was written over a fresh row
		return k, true
	}
	if p.fresh.open.n > 0 {
		if k, ok = p.fresh.open.get(hash, key); ok {
			return k, true
		}
	}
	for i, c := range p.taken {
		if c == nil || c.settled() {
			break // and so are those before
		}
		if k, ok = p.fresh.taken[i].get(hash, key); ok {
			return k, true
		}
	}
	return known{}, false
}

// keeps remembers a row that was put into the open chunk.
func (p *part) keeps(hash uint64, key []byte, fresh bool, k *known) {
	if fresh {
		p.fresh.open.put(hash, key, k)
	} else {
		p.recent.put(hash, key, p.open, k)
	}
}
