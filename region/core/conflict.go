package core

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// The resolutions of a conflict.
const (
	KeepHere = "keep" // what was written here since stays
	TakeTail = "tail" // the rows of the tail replace it
)

// maxConflicts bounds one list.
const maxConflicts = 10_000

// Conflict is a batch of a tail that was not applied.
type Conflict struct {
	Origin     region.ID        `json:"origin"`
	Partition  region.Partition `json:"partition"`
	First      uint64           `json:"first"`
	Last       uint64           `json:"last"`
	Owner      region.UIN       `json:"owner"`
	Reason     string           `json:"reason"`
	UnixMilli  int64            `json:"unixMilli"`  // when it was found
	Resolution string           `json:"resolution"` // "" while it is open
	Batch      *journal.Batch   `json:"-"`          // nil when it was too large to keep
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// Conflicts returns the conflicts that this region found, resolved ones
// included, at most 10,000.
func (c *Core) Conflicts(ctx context.Context) ([]Conflict, error) {
	type at struct {
		owner region.UIN
		key   []byte
	}
	var index []at
	err := c.o.Store.Scan(ctx, nobody, tableConflict, store.Range{Limit: maxConflicts}, func(r *store.Row) bool {
		if u, ok := numberOf(r.Value); ok {
			index = append(index, at{region.UIN(u), append([]byte(nil), r.Row...)})
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	out := make([]Conflict, 0, len(index))
	for _, i := range index {
		r, err := c.o.Store.Get(ctx, i.owner, tableTail, i.key)
		if err != nil {
			return nil, err
		}
		if !r.Exists() {
			continue
		}
		var row v1.TailRow
		if err := unmarshalRow(&r, &row); err != nil {
			return nil, err
		}
		out = append(out, conflictOf(i.owner, &row))
	}
	return out, nil
}

func conflictOf(owner region.UIN, row *v1.TailRow) Conflict {
	k := Conflict{Origin: region.ID(row.Origin), Partition: region.Partition(row.Partition), First: row.First, Last: row.Last,
		Owner: owner, Reason: row.Reason, UnixMilli: row.UnixMilli, Resolution: row.Resolution}
	if b, err := journal.Decode(row.Batch); err == nil {
		k.Batch = b
	}
	return k
}

// ResolveConflict ends a conflict as an admin decided. It is for the region that acts for
// the owner now. Resolving it again the same way is no error.
//
// Errors: NotFound; BadInput for an unknown resolution; Conflict when it was
// resolved the other way; WrongRegion.
func (c *Core) ResolveConflict(ctx context.Context, owner region.UIN, origin region.ID, p region.Partition, first uint64, resolution string) error {
	if resolution != KeepHere && resolution != TakeTail {
		return region.Errorf(region.BadInput, "resolution %q: want %s or %s", resolution, KeepHere, TakeTail)
	}
	key := tailKey(origin, p, first)
	return c.mutate(ctx, owner, func(t *txn) error {
		var row v1.TailRow
		found, err := t.load(tableTail, key, &row)
		switch {
		case err != nil:
			return err
		case !found || row.Outcome != TailConflict:
			return region.Errorf(region.NotFound, "there is no such conflict of %d", owner).WithHint("see: homing conflict list")
		case row.Resolution == resolution:
			return nil
		case row.Resolution != "":
			return region.Errorf(region.Conflict, "it was resolved before: %s", row.Resolution)
		}
		if resolution == TakeTail {
			b, err := journal.Decode(row.Batch)
			if err != nil {
				return region.Errorf(region.NotFound, "the batch was too large to be kept").WithHint("resolve it with keep").WithCause(err)
			}
			for i := range b.Records {
				w := b.Records[i].Row
				if b.Records[i].Kind != journal.KindRow {
					continue
				}
				have, err := t.get(w.Table, w.Row)
				if err != nil {
					return err
				}
				if decideRow(b.Epoch, w, &have) == clash || decideRow(b.Epoch, w, &have) == takes {
					if err := t.mergeRow(w); err != nil {
						return err
					}
				}
			}
		}
		row.Resolution = resolution
		b, err := proto.Marshal(&row)
		if err == nil {
			t.put(tableTail, key, b)
		}
		return err
	})
}
