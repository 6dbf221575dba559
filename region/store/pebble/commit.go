package pebble

import (
	"context"
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// scratch is memory a partition uses again for every batch, under its lock.
type scratch struct {
	key, value, body, encoded, hash []byte
	streams                         []journal.Stream
	links                           []journal.Link
	records                         []journal.Record
	rows                            []journal.RowRecord
	before                          []found
}

// found is a row as a commit found it.
type found struct {
	stored
	closer io.Closer // of the value's memory; nil when it is a chunk's
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
		return store.Receipt{}, err
	}
	if err := c.wait(ctx); err != nil {
		return store.Receipt{}, err
	}
	return receipt, nil
}

// commit puts a batch into the partition's open chunk, or nothing of it.
func (p *partition) commit(b *store.Batch) (*chunk, store.Receipt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.fence.Allows(b.Home, b.Epoch.Term) {
		return nil, store.Receipt{}, region.Errorf(region.Unavailable, "home %s is fenced at term %s, the batch is of %s", b.Home, p.fence[b.Home], b.Epoch.Term).
			WithHint("ask again: the world is changing who acts for the home")
	}
	defer p.forget()
	for i := range b.Writes {
		w := &b.Writes[i]
		f, err := p.find(b.Owner, w.Table, w.Row)
		if err != nil {
			return nil, store.Receipt{}, err
		}
		p.scratch.before = append(p.scratch.before, f)
		if r := f.row(w.Table, w.Row); !w.Expect.Holds(&r) {
			return nil, store.Receipt{}, region.Errorf(region.Conflict, "row %x of table %d of %d is at version %d, not as the batch expects", w.Row, w.Table, b.Owner, r.Version)
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
		before, after := p.put(c, b.Owner, w.Table, w.Row, &f.stored, &row)
		if w.Table.Class() == journal.ClassLocal {
			continue
		}
		p.state.home(b.Home).changed = true
		if f.home != "" && f.home != b.Home {
			p.state.home(f.home).changed = true
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

// find returns a row as the next commit has to see it: what is not yet durable
// included.
func (p *partition) find(owner region.UIN, t journal.Table, row []byte) (found, error) {
	p.scratch.key = appendRowKey(p.scratch.key[:0], p.id, owner, t, row)
	var value []byte
	var f found
	ok := false
	if p.open != nil {
		value, ok = p.open.rows[string(p.scratch.key)]
	}
	if !ok && p.writing != nil {
		value, ok = p.writing.rows[string(p.scratch.key)]
	}
	if !ok {
		if p.s.queue.closed.Load() {
			return f, errClosed()
		}
		var err error
		value, f.closer, err = p.s.db.Get(p.scratch.key)
		if errors.Is(err, pebble.ErrNotFound) {
			return f, nil
		}
		if err != nil {
			return f, region.Errorf(region.Internal, "the store in %s cannot be read", p.s.options.Dir).WithCause(err)
		}
	}
	var err error
	if f.stored, err = decodeRow(value, p.state.sums); err != nil {
		return f, region.Errorf(region.Internal, "row %x of table %d of %d is damaged", row, t, owner).WithCause(err)
	}
	return f, nil
}

// forget gives back the memory of the rows that were found.
func (p *partition) forget() {
	for i := range p.scratch.before {
		if c := p.scratch.before[i].closer; c != nil {
			_ = c.Close()
		}
	}
	clear(p.scratch.before)
	p.scratch.before = p.scratch.before[:0]
}

// put writes a row over the one before and keeps the sums; it returns both
// digests (zero for local rows, and for no row before).
func (p *partition) put(c *chunk, owner region.UIN, t journal.Table, key []byte, before, row *stored) (old, sum journal.Sum) {
	sc := &p.scratch
	sc.key = appendRowKey(sc.key[:0], p.id, owner, t, key)
	sc.value = appendRow(sc.value[:0], row)
	c.rows[string(sc.key)] = c.set(sc.key, sc.value)
	class := t.Class()
	if class == journal.ClassLocal {
		return old, sum
	}
	if before.version > 0 {
		old = p.digest(owner, t, key, before)
		p.state.home(before.home).of(class).remove(old)
	}
	sum = p.digest(owner, t, key, row)
	p.state.home(row.home).of(class).add(sum)
	c.touched = true
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
	sc.encoded = append(journal.AppendLinks(sc.encoded[:0], sc.links), sc.body...)
	sc.key = appendJournalKey(sc.key[:0], p.id, first)
	c.set(sc.key, sc.encoded)
	c.touched = true
	c.journal += len(sc.encoded)
	return first, last
}

// grown returns a slice of length n, the old memory when it is large enough.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, 2*n)
	}
	return s[:n]
}
