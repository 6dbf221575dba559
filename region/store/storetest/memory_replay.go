package storetest

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Apply implements store.Store.
func (m *Memory) Apply(ctx context.Context, s journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	if err := store.ValidateApply(m.config.Region, len(m.parts), s, batches); err != nil {
		return store.Applied{}, err
	}
	if err := m.enter(ctx); err != nil {
		return store.Applied{}, err
	}
	defer m.mu.Unlock()
	p := m.parts[batches[0].Partition]
	key := memoryStream{batches[0].Origin, s}
	fresh, head, err := store.Plan(p.positions[key], s, batches)
	if err != nil {
		return store.Applied{}, err
	}
	report := store.Applied{Batches: len(fresh), Skipped: len(batches) - len(fresh), Position: p.positions[key]}
	if len(fresh) == 0 {
		return report, nil
	}
	news := false
	for _, b := range fresh {
		if s == journal.Full {
			p.kept[b.Origin] = append(p.kept[b.Origin], journal.Encode(b))
		}
		turn := p.turns[b.Home]
		tail := turn.Tail(b)
		if tail {
			report.Tail++
		}
		for i := range b.Records {
			r := &b.Records[i]
			news = news || r.Kind != journal.KindPosition
			if s == journal.Full {
				p.saw(m.config.Region, r)
			}
			if tail {
				continue
			}
			switch r.Kind {
			case journal.KindRow:
				p.applyRow(m.config.Region, b, r, &report)
			case journal.KindWatermark:
				if turn := p.turns[r.Watermark.Home]; !turn.Comparable() {
					continue
				}
				if p.unsettled[r.Watermark.Home] > 0 {
					p.unsettled[r.Watermark.Home]--
					continue
				}
				have := p.watermark(r.Watermark.Home)
				want := r.Watermark
				beside := p.positions[memoryStream{b.Origin, store.Beside(s)}].Seq > r.Seq
				if !beside && (have.SharedSum != want.SharedSum || have.SharedRows != want.SharedRows) {
					report.Mismatches = append(report.Mismatches, store.Mismatch{Seq: r.Seq, Home: want.Home, Class: journal.ClassShared, Want: want.SharedSum, Have: have.SharedSum})
				}
				if s == journal.Full && store.Copied(want.Home, b.Origin, m.config.Region) && (have.OwnSum != want.OwnSum || have.OwnRows != want.OwnRows) {
					report.Mismatches = append(report.Mismatches, store.Mismatch{Seq: r.Seq, Home: want.Home, Class: journal.ClassOwn, Want: want.OwnSum, Have: have.OwnSum})
				}
			case journal.KindPosition:
				at := memoryStream{r.Position.Origin, r.Position.Stream}
				home, command := at.stream.To()
				turn := p.turns[home]
				if command && !turn.Owns() && store.Newer(p.positions[at], *r.Position) {
					p.positions[at] = *r.Position
				}
			default:
				if !r.Kind.Known() {
					report.Opaque = append(report.Opaque, store.Opaque{Seq: r.Seq, Kind: r.Kind, Owner: b.Owner, Home: b.Home})
				}
			}
		}
	}
	newest := fresh[len(fresh)-1]
	at := journal.Position{
		Origin: newest.Origin, Stream: s, Partition: newest.Partition, Incarnation: newest.Incarnation,
		Seq: head.Last, Chain: head.Chain, UnixMilli: newest.UnixMilli,
	}
	p.positions[key], report.Position = at, at
	if news {
		m.append(newest.Partition, &journal.Batch{Records: []journal.Record{{Kind: journal.KindPosition, Position: &at}}})
	}
	return report, nil
}

// rehome remembers that a row went from one home to another: two watermarks of
// either are not compared then.
func (p *memoryPart) rehome(from, to region.ID) {
	if from != "" && from != to {
		p.unsettled[from], p.unsettled[to] = 2, 2
	}
}

func (p *memoryPart) applyRow(self region.ID, b *journal.Batch, r *journal.Record, report *store.Applied) {
	w := r.Row
	k := memoryKey{b.Owner, w.Table, string(w.Row)}
	have := p.rows[k]
	next := memoryRow{home: b.Home, Row: store.Row{
		Table: w.Table, Row: bytes.Clone(w.Row), Version: w.Version, Epoch: b.Epoch, Deleted: w.Deleted, Value: bytes.Clone(w.Value),
	}}
	mismatch := func(want, is journal.Sum) {
		if want != is {
			report.Mismatches = append(report.Mismatches, store.Mismatch{Seq: r.Seq, Owner: b.Owner, Home: b.Home, Table: w.Table, Row: bytes.Clone(w.Row), Want: want, Have: is})
		}
	}
	switch {
	case w.Version == have.Version && b.Epoch == have.Epoch:
		mismatch(w.After, have.sum(b.Owner))
	case store.Supersedes(b.Epoch, w.Version, have.Epoch, have.Version):
		if w.Version > have.Version && (w.Table.Class() == journal.ClassShared || store.Copied(b.Home, b.Origin, self)) {
			mismatch(w.Before, have.sum(b.Owner))
		}
		mismatch(w.After, next.sum(b.Owner))
		p.rows[k] = next
		p.rehome(have.home, next.home)
		report.Rows++
	}
}

// SetPosition implements store.Store.
func (m *Memory) SetPosition(ctx context.Context, at journal.Position) error {
	if err := store.ValidatePosition(len(m.parts), at); err != nil {
		return err
	}
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	p := m.parts[at.Partition]
	key := memoryStream{at.Origin, at.Stream}
	if store.Newer(p.positions[key], at) {
		p.positions[key] = at
		m.append(at.Partition, &journal.Batch{Records: []journal.Record{{Kind: journal.KindPosition, Position: &at}}})
	}
	return nil
}

// Position implements store.Store.
func (m *Memory) Position(ctx context.Context, origin region.ID, s journal.Stream, id region.Partition) (journal.Position, error) {
	at := journal.Position{Origin: origin, Stream: s, Partition: id}
	p, err := m.part(id)
	if err == nil {
		err = m.enter(ctx)
	}
	if err != nil {
		return at, err
	}
	defer m.mu.Unlock()
	if have, ok := p.positions[memoryStream{origin, s}]; ok {
		at = have
	}
	return at, nil
}

// Positions implements store.Store.
func (m *Memory) Positions(ctx context.Context) ([]journal.Position, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var all []journal.Position
	for _, p := range m.parts {
		for _, at := range p.positions {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, store.ComparePositions)
	return all, nil
}

func (p *memoryPart) saw(self region.ID, r *journal.Record) {
	if r.Kind == journal.KindTerm {
		if t, changed := p.turns[r.Term.Home].Saw(self, r); changed {
			p.turns[r.Term.Home] = t
		}
		return
	}
	for home, t := range p.turns {
		p.turns[home], _ = t.Saw(self, r)
	}
}

// Handover implements store.Store.
func (m *Memory) Handover(ctx context.Context, id region.Partition, h store.Handover) error {
	if err := store.ValidateHandover(h); err != nil {
		return err
	}
	p, err := m.part(id)
	if err == nil {
		err = m.enter(ctx)
	}
	if err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.fence[h.Home].Compare(h.Term) < 0 {
		return store.NotFenced(h, m.fence[h.Home])
	}
	t, records := p.turns[h.Home].Hand(h, p.next, p.positions[memoryStream{h.Before, journal.Full}])
	if len(records) == 0 {
		return nil
	}
	p.turns[h.Home] = t
	if h.What == store.Takeover {
		p.incarnation++
	}
	m.append(id, &journal.Batch{Records: records})
	return nil
}

// Turns implements store.Store.
func (m *Memory) Turns(id region.Partition) map[region.ID]store.Turn {
	p, err := m.part(id)
	if err != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(p.turns)
}

// Copy implements store.Store.
func (m *Memory) Copy(ctx context.Context, origin region.ID, id region.Partition, s journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error) {
	if err := store.ValidateCopy(m.config.Region, len(m.parts), origin, id, s); err != nil {
		return nil, err
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	p := m.parts[id]
	lost := uint64(unknown)
	if s == journal.Full {
		lost = p.positions[memoryStream{origin, s}].Seq
	}
	return pick(p.kept[origin], s, max(from, 1), maxBytes, lost)
}

// TrimCopy implements store.Store.
func (m *Memory) TrimCopy(ctx context.Context, origin region.ID, id region.Partition, before uint64) error {
	if err := store.ValidateCopy(m.config.Region, len(m.parts), origin, id, journal.Full); err != nil {
		return err
	}
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	p := m.parts[id]
	for len(p.kept[origin]) > 0 {
		b, err := journal.Decode(p.kept[origin][0])
		if err != nil {
			return err
		}
		if b.Last() >= before {
			break
		}
		p.kept[origin] = p.kept[origin][1:]
	}
	return nil
}
