package core

import (
	"context"
	"iter"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// ownerPage is how many owners one question to the store names.
const ownerPage = 256

// journaled returns the region's own store.
//
// Errors: Unsupported in a process that has no journal.
func (c *Core) journaled() (store.Store, error) {
	s, ok := c.o.Store.(store.Store)
	if !ok {
		return nil, region.Errorf(region.Unsupported, "this process does not have the region's store").WithHint("ask the one that has it")
	}
	return s, nil
}

// eachOwner yields the owners of a partition that ever had a row of a table, in
// ascending order, those behind one; 0 is the beginning. An error ends it.
func eachOwner(ctx context.Context, s store.Store, p region.Partition, t journal.Table, after region.UIN) iter.Seq2[region.UIN, error] {
	return func(yield func(region.UIN, error) bool) {
		for {
			owners, err := s.Owners(ctx, p, t, after, ownerPage)
			if err != nil {
				yield(0, err)
				return
			}
			for _, after = range owners {
				if !yield(after, nil) {
					return
				}
			}
			if len(owners) < ownerPage {
				return
			}
		}
	}
}
