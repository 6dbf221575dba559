package store

import (
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// DefaultLimit is the rows of a scan whose Range has no limit.
const DefaultLimit = 1000

// Rows is the part of a [Store] that requests need: an owner's rows, without the
// journal's records. Its methods are the Store's. Somebody who has only this much can be
// in another process than the engine (store/remote).
type Rows interface {
	Region() region.ID
	Partitions() int
	Get(ctx context.Context, owner region.UIN, t journal.Table, row []byte) (Row, error)
	Scan(ctx context.Context, owner region.UIN, t journal.Table, r Range, yield func(*Row) bool) error
	Commit(ctx context.Context, b *Batch) (Receipt, error)

	// Head is not older than what was last read or committed in the partition;
	// its Streams may be missing.
	Head(p region.Partition) Head
}

var _ Rows = Store(nil)

// Parts returns what a precondition is made of: 0 for [Anything], 1 for
// [Absent], 2 and the version for [AtVersion]. The numbers are append-only.
func (e Expect) Parts() (kind uint8, version uint64) { return e.kind, e.version }

// ExpectOf is the inverse of [Expect.Parts]; it is false for numbers that are
// none.
func ExpectOf(kind uint8, version uint64) (Expect, bool) {
	return Expect{kind: kind, version: version}, kind == 2 || kind < 2 && version == 0
}
