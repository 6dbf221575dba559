package succession

import (
	"context"
	"fmt"

	"github.com/homing-im/homing/region"
)

// Fencer is the part of a store that refuses older terms. [store.Store] is one.
type Fencer interface {
	Fence(ctx context.Context, home region.ID, t region.Term) error
}

// Fence makes the store refuse what was admitted under older terms than a
// world's, for every home: its region may act for any of them. It is called
// before the world is shown to anybody in the region, and blocks until the
// fences are durable.
func Fence(ctx context.Context, s Fencer, v *region.View) error {
	for _, home := range v.World.Regions {
		_, term, _ := v.Acting(home.ID)
		if err := s.Fence(ctx, home.ID, term); err != nil {
			return fmt.Errorf("raising the fence of %s: %w", home.ID, err)
		}
	}
	return nil
}
