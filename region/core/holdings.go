package core

import (
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// Holding is what this region's store has of a home in one partition, as its own
// or as a copy.
type Holding struct {
	Partition  region.Partition `json:"partition"`
	Owners     int              `json:"owners"`     // users and groups
	Messages   uint64           `json:"messages"`   // that were ever in their inboxes, which number them
	SharedRows uint64           `json:"sharedRows"` // as the digest counts them: deleted ones too
	OwnRows    uint64           `json:"ownRows"`
}

// Holdings counts what is here of a home, by partition. It looks at every owner of
// the region, so it takes a while in a large one.
//
// Errors: Unsupported in a process that has no journal; Unavailable without a
// world; the store's.
func (c *Core) Holdings(ctx context.Context, home region.ID) ([]Holding, error) {
	s, err := c.journaled()
	if err != nil {
		return nil, err
	}
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	out := make([]Holding, s.Partitions())
	for p := range out {
		h := &out[p]
		h.Partition = region.Partition(p)
		sums := s.Sums(h.Partition, home)
		h.SharedRows, h.OwnRows = sums.SharedRows, sums.OwnRows
		for u, err := range eachOwner(ctx, s, h.Partition, tableAccount, 0) {
			if err != nil {
				return nil, err
			}
			if at, ok := v.Placement(u); !ok || at.Home != home {
				continue
			}
			h.Owners++
			err := s.Scan(ctx, u, tableInbox, store.Range{Reverse: true, Limit: 1, Deleted: true}, func(r *store.Row) bool {
				n, _ := numberOf(r.Row)
				h.Messages += n
				return false
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
