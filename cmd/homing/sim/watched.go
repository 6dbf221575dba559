package sim

import (
	"context"
	"math"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/memory"
)

// watched is a region's store under the eyes of the checker: it changes nothing,
// and looks at what was acknowledged, applied and trimmed.
type watched struct {
	*memory.Store
	s *site
}

var _ store.Submitter = (*watched)(nil)

// nobody owns a region's local rows.
const nobody region.UIN = math.MaxUint64

// Submit implements store.Submitter.
func (w *watched) Submit(ctx context.Context, b *store.Batch, then func(store.Receipt, error)) error {
	w.meanwhile(b)
	return w.Store.Submit(ctx, b, func(receipt store.Receipt, err error) {
		if err == nil {
			w.acknowledged(b)
		}
		then(receipt, err)
	})
}

// Commit implements store.Store.
func (w *watched) Commit(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	w.meanwhile(b)
	receipt, err := w.Store.Commit(ctx, b)
	if err == nil {
		w.acknowledged(b)
	}
	return receipt, err
}

// meanwhile is what other goroutines of the region might do between the moment
// when a batch was admitted and its commit: take up a newer world.
func (w *watched) meanwhile(b *store.Batch) {
	r := w.s.r
	if !r.weather || b.Owner == nobody || b.Home == store.Departed || w.s.view.Hash == r.worlds[len(r.worlds)-1].Hash || !r.dice.hits("meanwhile", 3) {
		return
	}
	for _, o := range r.sites {
		if o != w.s {
			w.s.hear(o)
		}
	}
}

func (w *watched) acknowledged(b *store.Batch) {
	if b.Owner != nobody && b.Home != store.Departed {
		w.s.r.acknowledged(w.s, b.Owner, b.Home, b.Epoch)
		w.s.r.histories.learn(w.s)
		for i := range b.Writes {
			if b.Writes[i].Table == tableAccount {
				w.s.r.accountIs(w.s, b.Owner, b.Writes[i].Row)
			}
		}
	}
}

// Apply implements store.Store.
func (w *watched) Apply(ctx context.Context, name journal.Stream, batches []*journal.Batch) (store.Applied, error) {
	done, err := w.Store.Apply(ctx, name, batches)
	if err != nil {
		return done, err
	}
	r := w.s.r
	r.histories.learn(w.s)
	for _, b := range batches {
		for i := range b.Records {
			if row := b.Records[i].Row; row != nil {
				if row.Table == tableAccount {
					r.accountIs(w.s, b.Owner, row.Row)
				}
				r.rowIs(w.s, b.Owner, row.Table, row.Row)
			}
		}
	}
	r.advanced(w.s, batches[0].Origin, name, batches[0].Partition)
	return done, nil
}

// SetPosition implements store.Store.
func (w *watched) SetPosition(ctx context.Context, at journal.Position) error {
	err := w.Store.SetPosition(ctx, at)
	if err == nil {
		w.s.r.advanced(w.s, at.Origin, at.Stream, at.Partition)
	}
	return err
}

// Handover implements store.Store.
func (w *watched) Handover(ctx context.Context, p region.Partition, h store.Handover) error {
	before := w.Turns(p)[h.Home]
	err := w.Store.Handover(ctx, p, h)
	if err != nil {
		return err
	}
	if now := w.Turns(p)[h.Home]; now != before {
		what := "ends its term of"
		if h.What == store.Takeover {
			what = "takes over"
			w.s.r.tookOver(w.s, p, h, now)
		}
		w.s.r.note("%s %s %s/%d at %s", w.s.id, what, h.Home, p, h.Term)
	}
	return nil
}

// Trim implements store.Store.
func (w *watched) Trim(ctx context.Context, p region.Partition, before uint64) error {
	w.s.r.mayTrim(w.s, p, before)
	return w.Store.Trim(ctx, p, before)
}
