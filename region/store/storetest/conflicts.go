package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// testConflicts has callers race for rows that may be written once. One wins each;
// the others are refused only when the winner's row is there to be read: in one
// table whose rows make journal records, and in one whose rows make none.
func testConflicts(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	u := owners(2, 1)[0]
	const callers, rounds = 5, 12
	for _, table := range []journal.Table{own, local} {
		for i := range rounds {
			row := fmt.Sprint(i)
			var won atomic.Int64
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					w := put(table, row, fmt.Sprint("of ", c))
					w.Expect = store.Absent()
					_, err := s.Commit(ctx, batch(u, w))
					if err == nil {
						won.Add(1)
					} else if region.KindOf(err) != region.Conflict {
						t.Errorf("Commit: %v", err)
					}
					if r, err := s.Get(ctx, u, table, []byte(row)); err != nil || r.Version != 1 {
						t.Errorf("row %s of table %d, answered: Get shows version %d, %v", row, table, r.Version, err)
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 {
				t.Fatalf("row %s of table %d was written by %d callers", row, table, won.Load())
			}
		}
	}
}
