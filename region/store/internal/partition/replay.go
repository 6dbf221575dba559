package partition

import (
	"bytes"

	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Apply is store.Store's Apply of batches that are valid. The error is a
// *store.Gap.
func (s *Step) Apply(name journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	at := s.State.Positions[Source{batches[0].Origin, name}]
	fresh, head, err := store.Plan(at, name, batches)
	if err != nil {
		return store.Applied{}, err
	}
	report := store.Applied{Batches: len(fresh), Skipped: len(batches) - len(fresh), Position: at}
	if len(fresh) == 0 {
		return report, nil
	}
	news := false
	for _, b := range fresh {
		for i := range b.Records {
			r := &b.Records[i]
			news = news || r.Kind != journal.KindPosition
			switch r.Kind {
			case journal.KindRow:
				s.applyRow(b, r, &report)
			case journal.KindWatermark:
				s.compare(name, r, &report)
			case journal.KindPosition:
				s.adopt(*r.Position)
			}
		}
	}
	newest := fresh[len(fresh)-1]
	at = journal.Position{
		Origin: newest.Origin, Stream: name, Partition: s.Partition,
		Incarnation: newest.Incarnation, Seq: head.Last, Chain: head.Chain, UnixMilli: newest.UnixMilli,
	}
	report.Position = at
	s.move(at)
	if news {
		s.record(at)
	}
	return report, nil
}

func (s *Step) applyRow(b *journal.Batch, r *journal.Record, report *store.Applied) {
	w := r.Row
	k := Key{b.Owner, w.Table, string(w.Row)}
	have := s.Rows[k]
	mismatch := func(want, is journal.Sum) {
		if want != is {
			report.Mismatches = append(report.Mismatches, store.Mismatch{Seq: r.Seq, Owner: b.Owner, Home: b.Home, Table: w.Table, Row: bytes.Clone(w.Row), Want: want, Have: is})
		}
	}
	switch {
	case w.Version < have.Version:
	case w.Version == have.Version:
		mismatch(w.After, have.Sum)
	default:
		before, after := s.put(k, w.Row, have, Row{Version: w.Version, Epoch: b.Epoch, Deleted: w.Deleted, Home: b.Home, Value: w.Value})
		mismatch(w.Before, before)
		mismatch(w.After, after)
		report.Rows++
	}
}

// compare holds a watermark against this replica's sums, those that the stream
// carries.
func (s *Step) compare(name journal.Stream, r *journal.Record, report *store.Applied) {
	want := r.Watermark
	have := s.State.Watermark(want.Home)
	differ := func(class journal.Class, w, h Tally) {
		if w != h {
			report.Mismatches = append(report.Mismatches, store.Mismatch{Seq: r.Seq, Home: want.Home, Class: class, Want: w.Sum, Have: h.Sum})
		}
	}
	differ(journal.ClassShared, Tally{want.SharedSum, want.SharedRows}, Tally{have.SharedSum, have.SharedRows})
	if name == journal.Full {
		differ(journal.ClassOwn, Tally{want.OwnSum, want.OwnRows}, Tally{have.OwnSum, have.OwnRows})
	}
}

// adopt takes over the position of a command stream that the origin of a full
// stream reached: the effects of those commands are in the rows applied here,
// so a successor has to go on behind them.
func (s *Step) adopt(at journal.Position) {
	if _, command := at.Stream.To(); command && store.Newer(s.State.Positions[Source{at.Origin, at.Stream}], at) {
		s.move(at)
	}
}

// Clone copies a batch into memory of its own: the caller may change or drop
// his when his context ends, while the group goes on.
func Clone(b *store.Batch) *store.Batch {
	size := 0
	for i := range b.Writes {
		size += len(b.Writes[i].Row) + len(b.Writes[i].Value)
	}
	for i := range b.Commands {
		size += len(b.Commands[i].Payload)
	}
	arena := make([]byte, 0, size)
	keep := func(v []byte) []byte {
		if len(v) == 0 {
			return nil
		}
		start := len(arena)
		arena = append(arena, v...)
		return arena[start:len(arena):len(arena)]
	}
	c := *b
	c.Writes = append([]store.Write(nil), b.Writes...)
	for i := range c.Writes {
		c.Writes[i].Row, c.Writes[i].Value = keep(c.Writes[i].Row), keep(c.Writes[i].Value)
	}
	c.Commands = append([]journal.Command(nil), b.Commands...)
	for i := range c.Commands {
		c.Commands[i].Payload = keep(c.Commands[i].Payload)
	}
	return &c
}
