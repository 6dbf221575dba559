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
	s, ok := c.o.Store.(store.Store)
	if !ok {
		return nil, region.Errorf(region.Unsupported, "this process does not have the region's store").WithHint("ask the one that has it")
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
		for last := region.UIN(0); ; {
			owners, err := s.Owners(ctx, h.Partition, tableAccount, last, expireOwners)
			if err != nil {
				return nil, err
			}
			for _, u := range owners {
				if at, ok := v.Placement(u); !ok || at.Home != home {
					continue
				}
				h.Owners++
				err := s.Scan(ctx, u, tableInbox, store.Range{Reverse: true, Limit: 1, Deleted: true}, func(r *store.Row) bool {
					if n, ok := numberOf(r.Row); ok {
						h.Messages += n
					}
					return false
				})
				if err != nil {
					return nil, err
				}
			}
			if len(owners) < expireOwners {
				break
			}
			last = owners[len(owners)-1]
		}
	}
	return out, nil
}
