package dump

import (
	"bytes"
	"errors"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// check follows one partition of a dump, and says whether it is what a store
// could have had.
type check struct {
	region     region.ID
	partitions int
	id         region.Partition
	state      *partition.State

	sums    map[region.ID]*partition.Sums // of the rows
	hash    []byte
	heads   map[journal.Stream]journal.StreamHead // of the journal
	batches int
	copied  bool   // copies have begun
	next    uint64 // sequence of the next batch
}

func newCheck(self region.ID, partitions int, id region.Partition, s *partition.State) *check {
	return &check{region: self, partitions: partitions, id: id, state: s,
		sums: map[region.ID]*partition.Sums{}, heads: map[journal.Stream]journal.StreamHead{}, next: s.First}
}

// begin checks the state by itself.
func (c *check) begin() error {
	s := c.state
	if s.Incarnation == 0 || s.First == 0 || s.First > s.Next || s.Last(journal.Full) != s.Next-1 {
		return damaged("the state of partition %d contradicts itself: records %d to %d, the stream ends at %d", c.id, s.First, s.Next-1, s.Last(journal.Full))
	}
	return nil
}

// row takes a row into account, and gives it its digest.
func (c *check) row(owner region.UIN, table journal.Table, key []byte, r *partition.Row) error {
	if region.PartitionOf(owner, c.partitions) != c.id {
		return damaged("owner %d is not of partition %d", owner, c.id)
	}
	class := table.Class()
	if class == journal.ClassLocal {
		return nil
	}
	c.hash = journal.AppendRowSum(c.hash[:0], owner, table, key, r.Version, r.Epoch, r.Deleted, r.Value)
	r.Sum = journal.SumOf(c.hash)
	sums := c.sums[r.Home]
	if sums == nil {
		sums = &partition.Sums{}
		c.sums[r.Home] = sums
	}
	t := &sums.Own
	if class == journal.ClassShared {
		t = &sums.Shared
	}
	t.Sum, t.Rows = t.Sum.Add(r.Sum), t.Rows+1
	return nil
}

// batch takes a batch of the journal into account, and returns its first sequence.
func (c *check) batch(data []byte) (uint64, error) {
	b, err := journal.Decode(bytes.Clone(data))
	if err != nil {
		return 0, damaged("the journal of partition %d at %d", c.id, c.next).WithCause(err)
	}
	if b.Origin != c.region || b.Partition != c.id || b.First() != c.next || b.Incarnation > c.state.Incarnation {
		return 0, damaged("the journal of partition %d has %s/%d/%d where %d belongs", c.id, b.Origin, b.Partition, b.First(), c.next)
	}
	streams := journal.Streams(nil, b.Records)
	if len(streams) != len(b.Links) {
		return 0, damaged("batch %d of partition %d has the links of other streams", b.First(), c.id)
	}
	for _, name := range streams {
		f := journal.Filter(b, name)
		if len(f.Links) == 0 {
			return 0, damaged("batch %d of partition %d has no link of stream %s", b.First(), c.id, name)
		}
		head, seen := c.heads[name]
		if !seen && f.Links[0].Prev > 0 {
			// What came before it was trimmed: its own link is the beginning.
			if f.Links[0].Prev >= c.state.First {
				return 0, damaged("stream %s of partition %d lacks its batch at %d", name, c.id, f.Links[0].Prev)
			}
			c.heads[name] = journal.StreamHead{Stream: name, Last: f.Last(), Chain: f.Links[0].Chain}
			continue
		}
		head.Stream = name
		if c.heads[name], err = journal.Follow(head, f); err != nil {
			return 0, damaged("the chain of partition %d breaks at %d", c.id, b.First()).WithCause(err)
		}
	}
	c.batches++
	c.next = b.Last() + 1
	return b.First(), nil
}

// copy looks at a batch that was kept of another region's full stream.
func (c *check) copy(data []byte) error {
	c.copied = true
	b, err := journal.Decode(bytes.Clone(data))
	if err != nil {
		return damaged("a copy in partition %d", c.id).WithCause(err)
	}
	if b.Origin == c.region || b.Partition != c.id {
		return damaged("partition %d has a copy of %s/%d", c.id, b.Origin, b.Partition)
	}
	return nil
}

// done checks that the partition was whole; nil has nothing to be checked.
func (c *check) done() error {
	if c == nil {
		return nil
	}
	if c.next != c.state.Next {
		return damaged("the journal of partition %d ends at %d, not at %d", c.id, c.next-1, c.state.Next-1)
	}
	for _, h := range c.state.Heads {
		if have, ok := c.heads[h.Stream]; ok && have != h || !ok && h.Last >= c.state.First {
			return damaged("stream %s of partition %d does not end where its head says", h.Stream, c.id)
		}
		delete(c.heads, h.Stream)
	}
	if len(c.heads) > 0 {
		return damaged("partition %d has streams without a head", c.id)
	}
	for home := range c.sums {
		if c.state.Sums[home] == nil {
			return damaged("partition %d has rows of %s, and no digest of them", c.id, home)
		}
	}
	for home, want := range c.state.Sums {
		have := c.sums[home]
		if have == nil {
			have = &partition.Sums{}
		}
		if have.Shared != want.Shared || have.Own != want.Own {
			return damaged("the rows of %s in partition %d do not add up to their digest", home, c.id).
				WithCause(errors.New("the store was damaged before it was dumped, or the dump was"))
		}
	}
	return nil
}
