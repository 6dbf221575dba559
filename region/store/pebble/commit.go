package pebble

import (
	"cmp"
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// scratch is memory a partition uses again for every batch, under its lock.
type scratch struct {
	key, value, body, head, hash []byte
	keys                         []byte // of the rows in before
	streams                      []journal.Stream
	links                        []journal.Link
	records                      []journal.Record
	rows                         []journal.RowRecord
	before                       []found
}

// found is a row as a commit found it.
type found struct {
	known
	key  []byte
	hash uint64
}

// Commit makes the batch durable together with its journal records: see
// store.Store.
func (s *Store) Commit(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return store.Receipt{}, err
	}
	if err := b.Validate(); err != nil {
		return store.Receipt{}, err
	}
	if err := s.disk.check(); err != nil {
		return store.Receipt{}, err
	}
	p := s.parts[region.PartitionOf(b.Owner, len(s.parts))]
	c, receipt, err := p.commit(b)
	if err != nil {
		s.metrics.refused(err)
		// What it conflicts with has to be there for the caller who looks.
		if c != nil && region.KindOf(err) == region.Conflict {
			err = cmp.Or(c.wait(ctx), err)
		}
		return store.Receipt{}, err
	}
	if err := c.wait(ctx); err != nil {
		return store.Receipt{}, err
	}
	return receipt, nil
}

// commit puts a batch into the partition's open chunk, or nothing of it. With a
// conflict it returns the chunk that has the row, unless that is durable.
func (p *partition) commit(b *store.Batch) (*chunk, store.Receipt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.s.failed.Load(); e != nil {
		return nil, store.Receipt{}, e
	}
	if !p.fence.Allows(b.Home, b.Epoch.Term) {
		return nil, store.Receipt{}, region.Errorf(region.Unavailable, "home %s is fenced at term %s, the batch is of %s", b.Home, p.fence[b.Home], b.Epoch.Term).
			WithHint("ask again: the world is changing who acts for the home")
	}
	p.forget()
	for i := range b.Writes {
		w := &b.Writes[i]
		f, err := p.find(b.Owner, w.Table, w.Row)
		if err != nil {
			return nil, store.Receipt{}, err
		}
		if r := (store.Row{Version: f.version, Deleted: f.deleted}); !w.Expect.Holds(&r) {
			return p.holds(&f.known), store.Receipt{}, region.Errorf(region.Conflict, "row %x of table %d of %d is at version %d, not as the batch expects", w.Row, w.Table, b.Owner, r.Version)
		}
	}
	// Nothing fails from here on.
	c, err := p.chunk()
	if err != nil {
		return nil, store.Receipt{}, err
	}
	sc := &p.scratch
	sc.records, sc.rows = sc.records[:0], grown(sc.rows, len(b.Writes))
	for i := range b.Writes {
		w, f := &b.Writes[i], &sc.before[i]
		row := stored{version: f.version + 1, epoch: b.Epoch, deleted: w.Delete, home: b.Home, value: w.Value}
		home := f.home
		before, after := p.put(c, b.Owner, w.Table, w.Row, f, &row)
		if w.Table.Class() == journal.ClassLocal {
			continue
		}
		p.state.home(b.Home).changed = true
		if home != "" && home != b.Home {
			p.state.home(home).changed = true
		}
		sc.rows[i] = journal.RowRecord{Table: w.Table, Row: w.Row, Version: row.version, Deleted: row.deleted, Value: row.value, Before: before, After: after}
		sc.records = append(sc.records, journal.Record{Kind: journal.KindRow, Row: &sc.rows[i]})
	}
	for i := range b.Commands {
		sc.records = append(sc.records, journal.Record{Kind: journal.KindCommand, Command: &b.Commands[i]})
	}
	c.commits++
	c.writes += len(b.Writes)
	receipt := store.Receipt{Partition: p.id}
	if len(sc.records) > 0 {
		receipt.First, receipt.Last = p.append(c, &journal.Batch{Owner: b.Owner, Home: b.Home, Epoch: b.Epoch, Records: sc.records})
	}
	return c, receipt, nil
}

// holds returns the chunk a row is in while that is not known to be durable.
func (p *partition) holds(k *known) *chunk {
	switch {
	case p.open != nil && p.open.serial == k.serial:
		return p.open
	case p.taken != nil && p.taken.serial == k.serial:
		return p.taken
	}
	return nil
}

// find returns a row as the next commit has to see it, what is not yet durable
// included, and puts it behind those in scratch.before.
func (p *partition) find(owner region.UIN, t journal.Table, row []byte) (*found, error) {
	sc := &p.scratch
	start := len(sc.keys)
	sc.keys = appendRowKey(sc.keys, p.id, owner, t, row)
	key := sc.keys[start:]
	f := found{key: key, hash: p.hash(key)}
	var err error
	if p.absent(f.hash) { // first, because it is cheap and most rows are new
		p.lookups.absent++
	} else if known, ok := p.recent.get(f.hash, key); ok {
		f.known = known
		p.lookups.recent++
	} else {
		p.lookups.engine++
		f.known, err = p.stored(owner, t, row, key)
	}
	if err != nil {
		return nil, err
	}
	sc.before = append(sc.before, f)
	return &sc.before[len(sc.before)-1], nil
}

// stored asks Pebble for a row.
func (p *partition) stored(owner region.UIN, t journal.Table, row, key []byte) (known, error) {
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
	r, err := decodeRow(value, p.state.sums)
	if err != nil {
		return known{}, region.Errorf(region.Internal, "row %x of table %d of %d is damaged", row, t, owner).WithCause(err)
	}
	k := known{version: r.version, deleted: r.deleted, home: r.home}
	if t.Class() != journal.ClassLocal {
		k.sum = p.digest(owner, t, row, &r)
	}
	return k, nil
}

// forget begins a list of found rows.
func (p *partition) forget() {
	p.scratch.before, p.scratch.keys = p.scratch.before[:0], p.scratch.keys[:0]
}

// put writes a row over the one before, keeps the sums, and makes the new row
// the one before. It returns both digests (zero for local rows, and for no row
// before).
func (p *partition) put(c *chunk, owner region.UIN, t journal.Table, row []byte, before *found, r *stored) (old, sum journal.Sum) {
	sc := &p.scratch
	sc.value = appendRowHead(sc.value[:0], r)
	c.set(before.key, sc.value, r.value)
	if before.version == 0 {
		p.added(before.hash)
	}
	if class := t.Class(); class != journal.ClassLocal {
		if old = before.sum; before.version > 0 {
			p.state.home(before.home).of(class).remove(old)
		}
		sum = p.digest(owner, t, row, r)
		p.state.home(r.home).of(class).add(sum)
		c.touched = true
	}
	before.known = known{version: r.version, deleted: r.deleted, home: r.home, sum: sum, serial: c.serial}
	p.recent.put(before.hash, before.key, c, &before.known)
	return old, sum
}

func (p *partition) digest(owner region.UIN, t journal.Table, key []byte, r *stored) journal.Sum {
	p.scratch.hash = journal.AppendRowSum(p.scratch.hash[:0], owner, t, key, r.version, r.epoch, r.deleted, r.value)
	return journal.SumOf(p.scratch.hash)
}

// append gives a batch its origin, sequences, time and links, and puts it into
// the chunk as the journal's next. It returns the first and last sequence.
func (p *partition) append(c *chunk, b *journal.Batch) (first, last uint64) {
	sc, st := &p.scratch, &p.state
	b.Origin, b.Partition, b.Incarnation = p.s.options.Region, p.id, st.incarnation
	b.UnixMilli = p.s.options.Now().UnixMilli()
	first = st.next
	for i := range b.Records {
		b.Records[i].Seq = st.next
		st.next++
	}
	last = st.next - 1
	st.unixMilli = b.UnixMilli

	sc.streams = journal.Streams(sc.streams[:0], b.Records)
	sc.links = sc.links[:0]
	sc.body = journal.AppendBody(sc.body[:0], b)
	for _, name := range sc.streams {
		head := st.head(name)
		var link journal.Link
		if name == journal.Full {
			link, *head = journal.NextBody(*head, last, sc.body)
		} else {
			link, *head = journal.Next(*head, journal.Filter(b, name))
		}
		sc.links = append(sc.links, link)
	}
	sc.head = journal.AppendLinks(sc.head[:0], sc.links)
	sc.key = appendJournalKey(sc.key[:0], p.id, first)
	set(c.log, sc.key, sc.head, sc.body)
	c.touched = true
	c.journal += len(sc.head) + len(sc.body)
	return first, last
}

// grown returns a slice of length n, the old memory when it is large enough.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, 2*n)
	}
	return s[:n]
}
