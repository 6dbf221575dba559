package node

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/succession"
)

// merger takes up tails in the core, and counts what became of them.
type merger struct{ r *regionRole }

// Merge implements replicator.Merger.
func (m merger) Merge(ctx context.Context, batches []*journal.Batch) error {
	outcomes, err := m.r.core.Merge(ctx, batches)
	for i, o := range outcomes {
		var n succession.Merged
		switch o {
		case core.TailApplied:
			n.Applied = 1
		case core.TailKnown:
			n.Known = 1
		case core.TailConflict:
			n.Conflicts = 1
		}
		m.r.succession.Count(batches[i].Home, n)
	}
	return err
}

// gated is the store as processes with logic see it: only this one knows which
// homes are taken over.
type gated struct {
	store.Store
	taken func(region.ID, region.Term, region.Partition) error
}

// Commit implements store.Store.
func (g gated) Commit(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	local := func(w store.Write) bool { return w.Table.Class() == journal.ClassLocal }
	if len(b.Commands) == 0 && !slices.ContainsFunc(b.Writes, func(w store.Write) bool { return !local(w) }) {
		return g.Store.Commit(ctx, b) // the region's own, whoever acts for its home
	}
	if err := g.taken(b.Home, b.Epoch.Term, region.PartitionOf(b.Owner, g.Partitions())); err != nil {
		return store.Receipt{}, err
	}
	return g.Store.Commit(ctx, b)
}

// report answers GET /region/report: how the ownership of every home stands here.
func (r *regionRole) report(w http.ResponseWriter, _ *http.Request) {
	answer(w, r.succession.Report())
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who asked and went asks again
}
