package pebble

import (
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Apply replays batches of a foreign stream and moves its position, in one
// transaction: see store.Store.
func (s *Store) Apply(ctx context.Context, name journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	if err := ctx.Err(); err != nil {
		return store.Applied{}, err
	}
	if err := store.ValidateApply(s.options.Region, len(s.parts), name, batches); err != nil {
		return store.Applied{}, err
	}
	if err := s.disk.check(); err != nil {
		return store.Applied{}, err
	}
	p := s.parts[batches[0].Partition]
	c, report, err := p.apply(name, batches)
	if err != nil {
		return store.Applied{}, err
	}
	if c != nil {
		err = c.wait(ctx)
	}
	if err != nil {
		return store.Applied{}, err
	}
	s.metrics.mismatches.Add(float64(len(report.Mismatches)))
	return report, nil
}

// apply puts the batches that are new into the partition's open chunk. With
// none it returns the chunk that may still hold the position, or nil.
func (p *partition) apply(name journal.Stream, batches []*journal.Batch) (*chunk, store.Applied, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
	key := stream{batches[0].Origin, name}
	at := p.positions[key]
	fresh, head, err := store.Plan(at, name, batches)
	if err != nil {
		return nil, store.Applied{}, err
	}
	report := store.Applied{Batches: len(fresh), Skipped: len(batches) - len(fresh), Position: at}
	if len(fresh) == 0 {
		// What was repeated may be in a chunk that is not durable yet.
		if p.open != nil {
			return p.open, report, nil
		}
		return p.taken, report, nil
	}
	found, err := p.findAll(fresh)
	if err != nil {
		return nil, store.Applied{}, err
	}
	c, err := p.chunk()
	if err != nil {
		return nil, store.Applied{}, err
	}
	news := false
	for _, b := range fresh {
		for i := range b.Records {
			r := &b.Records[i]
			news = news || r.Kind != journal.KindPosition
			switch r.Kind {
			case journal.KindRow:
				p.applyRow(c, b, r, found, &report)
			case journal.KindWatermark:
				p.compare(name, r, &report)
			case journal.KindPosition:
				p.adopt(c, *r.Position)
			}
		}
	}
	newest := fresh[len(fresh)-1]
	at = journal.Position{
		Origin: newest.Origin, Stream: name, Partition: p.id,
		Incarnation: newest.Incarnation, Seq: head.Last, Chain: head.Chain, UnixMilli: newest.UnixMilli,
	}
	report.Position = at
	p.move(c, at)
	if news {
		p.record(c, at)
	}
	return c, report, nil
}

// findAll reads every row the batches may write, before anything is changed, so
// that an error leaves nothing half done. A row that several batches write is
// read once; what they write is looked up in the chunk.
func (p *partition) findAll(batches []*journal.Batch) (map[string]int, error) {
	found := map[string]int{}
	for _, b := range batches {
		for i := range b.Records {
			w := b.Records[i].Row
			if b.Records[i].Kind != journal.KindRow {
				continue
			}
			f, err := p.find(b.Owner, w.Table, w.Row)
			if err != nil {
				return nil, err
			}
			if _, ok := found[string(f.key)]; !ok {
				found[string(f.key)] = len(p.scratch.before) - 1
			}
		}
	}
	return found, nil
}

func (p *partition) applyRow(c *chunk, b *journal.Batch, r *journal.Record, found map[string]int, report *store.Applied) {
	w := r.Row
	p.scratch.key = appendRowKey(p.scratch.key[:0], p.id, b.Owner, w.Table, w.Row)
	have := &p.scratch.before[found[string(p.scratch.key)]]
	mismatch := func(want, is journal.Sum) {
		report.Mismatches = append(report.Mismatches, store.Mismatch{Seq: r.Seq, Owner: b.Owner, Home: b.Home, Table: w.Table, Row: append([]byte(nil), w.Row...), Want: want, Have: is})
	}
	if w.Version <= have.version {
		if w.Version == have.version {
			if have.sum != w.After {
				mismatch(w.After, have.sum)
			}
		}
		return
	}
	row := stored{version: w.Version, epoch: b.Epoch, deleted: w.Deleted, home: b.Home, value: w.Value}
	before, after := p.put(c, b.Owner, w.Table, w.Row, have, &row)
	if before != w.Before {
		mismatch(w.Before, before)
	}
	if after != w.After {
		mismatch(w.After, after)
	}
	report.Rows++
	c.writes++
}

// compare holds a watermark against this replica's sums, those that the stream
// carries.
func (p *partition) compare(name journal.Stream, r *journal.Record, report *store.Applied) {
	w := r.Watermark
	have := journal.Watermark{Home: w.Home}
	if h := p.state.sums[w.Home]; h != nil {
		have = h.watermark()
	}
	differ := func(class journal.Class, want, is journal.Sum, wantRows, isRows uint64) {
		if want != is || wantRows != isRows {
			report.Mismatches = append(report.Mismatches, store.Mismatch{Seq: r.Seq, Home: w.Home, Class: class, Want: want, Have: is})
		}
	}
	differ(journal.ClassShared, w.SharedSum, have.SharedSum, w.SharedRows, have.SharedRows)
	if name == journal.Full {
		differ(journal.ClassOwn, w.OwnSum, have.OwnSum, w.OwnRows, have.OwnRows)
	}
}

// adopt takes over the position of a command stream that the origin of a full
// stream reached: the effects of those commands are in the rows applied here,
// so a successor has to go on behind them.
func (p *partition) adopt(c *chunk, at journal.Position) {
	if _, command := at.Stream.To(); !command {
		return
	}
	if store.Newer(p.positions[stream{at.Origin, at.Stream}], at) {
		p.move(c, at)
	}
}

// move sets a position.
func (p *partition) move(c *chunk, at journal.Position) {
	key := stream{at.Origin, at.Stream}
	p.positions[key] = at
	p.scratch.value = appendPosition(p.scratch.value[:0], &at)
	c.set(keyPosition(p.id, key), p.scratch.value, nil)
}

// record puts a position into this region's own journal.
func (p *partition) record(c *chunk, at journal.Position) {
	p.append(c, &journal.Batch{Records: []journal.Record{{Kind: journal.KindPosition, Position: &at}}})
}

// SetPosition moves the position of a command stream: see store.Store.
func (s *Store) SetPosition(ctx context.Context, at journal.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.ValidatePosition(len(s.parts), at); err != nil {
		return err
	}
	if err := s.disk.check(); err != nil {
		return err
	}
	p := s.parts[at.Partition]
	p.mu.Lock()
	if !store.Newer(p.positions[stream{at.Origin, at.Stream}], at) {
		c := p.open
		if c == nil {
			c = p.taken
		}
		p.mu.Unlock()
		if c == nil {
			return nil
		}
		return c.wait(ctx)
	}
	c, err := p.chunk()
	if err == nil {
		p.move(c, at)
		p.record(c, at)
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return c.wait(ctx)
}

// Watermark appends the sums of the homes whose rows this region changed since
// their last watermark, in one batch: see store.Store.
func (s *Store) Watermark(ctx context.Context, id region.Partition) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p, err := s.partition(id)
	if err != nil {
		return 0, err
	}
	if err := s.disk.check(); err != nil {
		return 0, err
	}
	c, n, err := p.watermark()
	if err != nil || n == 0 {
		return 0, err
	}
	return n, c.wait(ctx)
}

func (p *partition) watermark() (*chunk, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var records []journal.Record
	for _, id := range p.state.homes() {
		if h := p.state.sums[id]; h.changed {
			w := h.watermark()
			records = append(records, journal.Record{Kind: journal.KindWatermark, Watermark: &w})
		}
	}
	if len(records) == 0 {
		return nil, 0, nil
	}
	c, err := p.chunk()
	if err != nil {
		return nil, 0, err
	}
	for i := range records {
		p.state.sums[records[i].Watermark.Home].changed = false
	}
	p.append(c, &journal.Batch{Records: records})
	return c, len(records), nil
}
