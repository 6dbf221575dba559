package store

import (
	"bytes"
	"cmp"
	"errors"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// Validate reports what is wrong with a batch whatever is stored, or nil.
// Every engine's Commit begins with it.
//
// Errors: region.BadInput, region.TooLarge.
func (b *Batch) Validate() error {
	if b.Owner == 0 {
		return region.Errorf(region.BadInput, "batch without an owner")
	}
	if err := b.Home.Valid(); err != nil {
		return region.Errorf(region.BadInput, "batch of %d: %v", b.Owner, err)
	}
	n := len(b.Writes) + len(b.Commands)
	if n == 0 {
		return region.Errorf(region.BadInput, "batch of %d writes nothing", b.Owner)
	}
	if n > MaxWrites {
		return region.Errorf(region.TooLarge, "batch of %d has %d writes and commands, the limit is %d", b.Owner, n, MaxWrites)
	}
	size := 0
	for i := range b.Writes {
		w := &b.Writes[i]
		size += len(w.Row) + len(w.Value)
		switch {
		case w.Table == 0:
			return region.Errorf(region.BadInput, "batch of %d: tables are numbered from 1", b.Owner)
		case len(w.Row) > MaxRowKey:
			return region.Errorf(region.TooLarge, "row key of %d bytes, the limit is %d", len(w.Row), MaxRowKey)
		case len(w.Value) > MaxValue:
			return region.Errorf(region.TooLarge, "row value of %d bytes, the limit is %d", len(w.Value), MaxValue)
		case w.Delete && len(w.Value) > 0:
			return region.Errorf(region.BadInput, "batch of %d: a delete with a value", b.Owner)
		}
	}
	if t, row, ok := b.twice(); ok {
		return region.Errorf(region.BadInput, "batch of %d writes row %x of table %d twice", b.Owner, row, t)
	}
	homes := map[region.ID]bool{}
	for i := range b.Commands {
		c := &b.Commands[i]
		size += len(c.Payload)
		if err := c.To.Valid(); err != nil {
			return region.Errorf(region.BadInput, "command of %d: %v", b.Owner, err)
		}
		homes[c.To] = true
	}
	if len(homes) > journal.MaxLinks-2 {
		return region.Errorf(region.TooLarge, "batch of %d commands %d regions, the limit is %d", b.Owner, len(homes), journal.MaxLinks-2)
	}
	if size > MaxBatch {
		return region.Errorf(region.TooLarge, "batch of %d has %d bytes, the limit is %d", b.Owner, size, MaxBatch)
	}
	return nil
}

// twice finds a row that is written twice. Ordinary batches have five rows or
// fewer, where comparing pairs is cheaper than a map.
func (b *Batch) twice() (journal.Table, []byte, bool) {
	if len(b.Writes) <= 16 {
		for i := range b.Writes {
			for j := range b.Writes[:i] {
				if v, w := &b.Writes[j], &b.Writes[i]; v.Table == w.Table && bytes.Equal(v.Row, w.Row) {
					return w.Table, w.Row, true
				}
			}
		}
		return 0, nil, false
	}
	seen := make(map[string]bool, len(b.Writes))
	for i := range b.Writes {
		w := &b.Writes[i]
		k := string(append([]byte{byte(w.Table)}, w.Row...))
		if seen[k] {
			return w.Table, w.Row, true
		}
		seen[k] = true
	}
	return 0, nil, false
}

// ValidateApply reports what is wrong with the arguments of an Apply at region
// self with n partitions, whatever is stored, or nil. Every engine's Apply
// begins with it. The batches are of one origin and partition, and each is as
// the stream carries it.
//
// Errors: region.BadInput.
func ValidateApply(self region.ID, n int, stream journal.Stream, batches []*journal.Batch) error {
	if stream != journal.Full && stream != journal.Shared {
		return region.Errorf(region.BadInput, "stream %q is not replayed into rows", string(stream)).WithHint("execute its commands, then SetPosition")
	}
	if len(batches) == 0 {
		return region.Errorf(region.BadInput, "apply of no batch")
	}
	origin, partition := batches[0].Origin, batches[0].Partition
	if err := origin.Valid(); err != nil {
		return region.Errorf(region.BadInput, "apply: %v", err)
	}
	if origin == self {
		return region.Errorf(region.BadInput, "apply of region %s's own journal", self)
	}
	if int(partition) >= n {
		return region.Errorf(region.BadInput, "apply of partition %d, but there are %d", partition, n)
	}
	for _, b := range batches {
		if b.Origin != origin || b.Partition != partition {
			return region.Errorf(region.BadInput, "apply of batches of several origins or partitions")
		}
		if len(b.Records) == 0 {
			return region.Errorf(region.BadInput, "apply of a batch without records")
		}
		if b.Owner != 0 && region.PartitionOf(b.Owner, n) != partition {
			return region.Errorf(region.BadInput, "batch %s/%d/%d of owner %d is not of its partition", origin, partition, b.First(), b.Owner).
				WithHint("the regions disagree about the number of partitions")
		}
		for i := range b.Records {
			if err := validateRecord(b, &b.Records[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func validateRecord(b *journal.Batch, r *journal.Record) error {
	bad := false
	switch r.Kind {
	case journal.KindRow:
		w := r.Row
		bad = w == nil || b.Owner == 0 || w.Table == 0 || w.Table.Class() == journal.ClassLocal || w.Version == 0 ||
			len(w.Row) > MaxRowKey || len(w.Value) > MaxValue || (w.Deleted && len(w.Value) > 0)
	case journal.KindCommand:
		bad = r.Command == nil
	case journal.KindWatermark:
		bad = r.Watermark == nil
	case journal.KindPosition:
		bad = r.Position == nil || r.Position.Partition != b.Partition
	case journal.KindTerm:
		bad = r.Term == nil
	default: // of a newer version: kept, without effect
		bad = r.Kind == 0
	}
	if bad {
		return region.Errorf(region.BadInput, "record %d of %s is malformed", r.Seq, b.Origin)
	}
	return nil
}

// ValidatePosition reports what is wrong with the argument of a SetPosition, or
// nil. Errors: region.BadInput.
func ValidatePosition(n int, p journal.Position) error {
	if err := p.Origin.Valid(); err != nil {
		return region.Errorf(region.BadInput, "position: %v", err)
	}
	if err := p.Stream.Valid(); err != nil {
		return region.Errorf(region.BadInput, "position: %v", err)
	}
	if _, ok := p.Stream.To(); !ok {
		return region.Errorf(region.BadInput, "the position of stream %s moves by Apply only", p.Stream)
	}
	if int(p.Partition) >= n {
		return region.Errorf(region.BadInput, "position in partition %d, but there are %d", p.Partition, n)
	}
	return nil
}

// Newer says whether a position may move from p to q: never back within an
// incarnation, never to an older incarnation.
func Newer(p, q journal.Position) bool {
	if p.Incarnation != q.Incarnation {
		return q.Incarnation > p.Incarnation
	}
	return q.Seq > p.Seq
}

// Plan is the pure step every engine's Apply takes first: of the batches of a
// stream it returns those that are new after the position, each following the
// one before it, and where the stream stands after them.
//
// Batches at or before the position are left out. A batch of a newer
// incarnation that does not follow the position is never left out, whatever its
// sequences: the origin lost its end and writes other records under the same
// numbers.
//
// The error is a [*Gap].
func Plan(at journal.Position, stream journal.Stream, batches []*journal.Batch) ([]*journal.Batch, journal.StreamHead, error) {
	head := journal.StreamHead{Stream: stream, Last: at.Seq, Chain: at.Chain}
	incarnation := at.Incarnation
	var fresh []*journal.Batch
	for _, b := range batches {
		if b.Last() <= head.Last && b.Incarnation <= incarnation {
			continue
		}
		gap := &Gap{Stream: stream, Partition: b.Partition, Have: head.Last, Want: head.Last, Chain: true}
		if b.Incarnation < incarnation {
			return nil, head, gap
		}
		next, err := journal.Follow(head, b)
		if err != nil {
			var broken *journal.Break
			if errors.As(err, &broken) {
				gap.Want = broken.Want
				gap.Chain = broken.Altered || broken.Want < head.Last
			}
			return nil, head, gap
		}
		head, incarnation = next, b.Incarnation
		fresh = append(fresh, b)
	}
	return fresh, head, nil
}

// ComparePositions orders positions by partition, origin and stream.
func ComparePositions(p, q journal.Position) int {
	return cmp.Or(cmp.Compare(p.Partition, q.Partition), cmp.Compare(p.Origin, q.Origin), cmp.Compare(p.Stream, q.Stream))
}
