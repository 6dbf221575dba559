package store

import (
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// Mender is a store whose replica of another region can be made what it has to
// be by other means than replay. Engines satisfy it; region/store/mend is who
// calls it.
type Mender interface {
	// Mend changes a partition's replica of one origin, in one transaction. What
	// it writes makes no journal records here but that of the end's position.
	// Nobody may Apply streams of that origin and partition meanwhile.
	//
	// Errors: region.Conflict when this region writes rows of a home itself;
	// region.BadInput, region.TooLarge, and those of Commit.
	Mend(ctx context.Context, p region.Partition, m *Mending) error
}

// Mending is a piece of it. The engine keeps no reference to its slices after
// Mend returns.
type Mending struct {
	Origin region.ID
	Rows   []MendRow        // no row twice
	Forget bool             // first what was kept of the origin's full stream
	Keep   []*journal.Batch // of that stream, in order
	End    *MendEnd         // nil: more pieces follow
}

// MendRow is a row as it has to be.
type MendRow struct {
	Owner region.UIN
	Home  region.ID
	Gone  bool // it must not be there; of Row, Table and Row count only
	Row
}

// MendEnd is what is true once all pieces are in.
type MendEnd struct {
	// Position is where the rows are as of. It may be before the one that is
	// stored: the origin's history is another one then.
	Position journal.Position
	// Sums are the digests that the rows of homes have now, all of them; own rows
	// count when Position is of stream full. Homes that are not in it keep what
	// this store has added up.
	Sums []journal.Watermark
	// Commands are positions of command streams that the origin has reached, and
	// Handed the newest terms it handed homes over to. Both are nil for stream
	// shared, which does not carry them.
	Commands []journal.Position
	Handed   map[region.ID]region.Term
}

// ValidateMending reports what is wrong with the arguments of a Mend at region
// self with n partitions, or nil. Errors: region.BadInput, region.TooLarge.
func ValidateMending(self region.ID, n int, p region.Partition, m *Mending) error {
	if err := m.Origin.Valid(); err != nil {
		return region.Errorf(region.BadInput, "mending: %v", err)
	}
	if m.Origin == self || int(p) >= n {
		return region.Errorf(region.BadInput, "mending of partition %d of %s at %s, which has %d", p, m.Origin, self, n)
	}
	for i := range m.Rows {
		r := &m.Rows[i]
		switch {
		case r.Table == 0 || r.Table.Class() == journal.ClassLocal || region.PartitionOf(r.Owner, n) != p:
			return region.Errorf(region.BadInput, "mending of partition %d: row %x of table %d of %d is none of a replica there", p, r.Row.Row, r.Table, r.Owner)
		case !r.Gone && (r.Version == 0 || r.Home.Valid() != nil):
			return region.Errorf(region.BadInput, "mending of partition %d: row %x of table %d of %d has no version or no home", p, r.Row.Row, r.Table, r.Owner)
		case len(r.Row.Row) > MaxRowKey || len(r.Value) > MaxValue:
			return region.Errorf(region.TooLarge, "mending of partition %d: row %x of table %d of %d has %d bytes", p, r.Row.Row, r.Table, r.Owner, len(r.Value))
		}
	}
	for _, b := range m.Keep {
		if b.Origin != m.Origin || b.Partition != p || len(b.Records) == 0 {
			return region.Errorf(region.BadInput, "mending of partition %d of %s: a batch of %s/%d", p, m.Origin, b.Origin, b.Partition)
		}
	}
	if e := m.End; e != nil {
		at := e.Position
		if at.Origin != m.Origin || at.Partition != p || at.Stream != journal.Full && at.Stream != journal.Shared {
			return region.Errorf(region.BadInput, "mending of partition %d of %s: it ends in %s %s/%d", p, m.Origin, at.Stream, at.Origin, at.Partition)
		}
	}
	return nil
}
