package dump

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// partMagic begins a part: no importer takes it for a whole store.
const partMagic = "HMGPART1"

// Part says what of a partition a replica needs.
type Part struct {
	Partition region.Partition
	Homes     []region.ID // whose rows
	Own       bool        // rows of class own too, not only shared ones
	Journal   bool        // and the journal
}

// Has says whether a row of a table, counted in a home's digest, belongs to it.
func (p *Part) Has(t journal.Table, home region.ID) bool {
	class := t.Class()
	return class != journal.ClassLocal && (p.Own || class == journal.ClassShared) && slices.Contains(p.Homes, home)
}

// errEnough ends a Dump early.
var errEnough = errors.New("the rest is not needed")

// WritePart writes a part of one partition, as of one position of its journal.
// The rows are added up before anything is written, so that nobody copies from a
// store that is damaged itself.
//
// Errors: region.Internal when the rows do not add up; those of w and of
// Source.Dump. What was written is then no part.
func WritePart(ctx context.Context, w io.Writer, from Source, part Part) error {
	differ, err := Scan(ctx, from, part.Partition)
	if err != nil {
		return err
	}
	for _, d := range differ {
		if slices.Contains(part.Homes, d.Home) {
			return region.Errorf(region.Internal, "the rows of %s in partition %d do not add up to their digest at %s itself", d.Home, d.Partition, from.Region()).
				WithHint("restore this region's store, or have another region act for the home")
		}
	}
	out := &partWriter{part: part, writer: writer{w: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}}
	out.Summary = Summary{Region: from.Region(), Partitions: from.Partitions(), Time: time.UnixMilli(0), InUse: true}
	if err := out.write([]byte(partMagic)); err != nil {
		return err
	}
	if err := out.block(kindHeader, out.header()); err != nil {
		return err
	}
	if err := from.Dump(ctx, part.Partition, out); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := out.flush(); err != nil {
		return err
	}
	return out.end()
}

// partWriter is the Sink that spells a part.
type partWriter struct {
	writer
	part Part
}

// Row implements partition.Sink.
func (w *partWriter) Row(owner region.UIN, t journal.Table, key []byte, r *partition.Row) error {
	if !w.part.Has(t, r.Home) {
		return nil
	}
	return w.writer.Row(owner, t, key, r)
}

// Batch implements partition.Sink.
func (w *partWriter) Batch(first uint64, data []byte) error {
	if !w.part.Journal {
		return errEnough
	}
	return w.writer.Batch(first, data)
}

// Copy implements partition.Sink.
func (w *partWriter) Copy([]byte) error { return errEnough }

// PartReader reads a part.
type PartReader struct {
	State *partition.State // as of when the part was written; its sums are of all homes
	part  Part
	d     *Reader
	c     *check
}

// OpenPart reads the beginning of a part that was asked for.
//
// Errors: region.BadInput when it is no such part, damaged or cut off; those of r.
func OpenPart(r io.Reader, from region.ID, partitions int, part Part) (*PartReader, error) {
	d, err := open(r, partMagic)
	if err != nil {
		return nil, err
	}
	if d.Region != from || d.Partitions != partitions {
		return nil, region.Errorf(region.BadInput, "a part of region %s with %d partitions, asked for %s with %d", d.Region, d.Partitions, from, partitions)
	}
	kind, body, err := d.block()
	if err != nil {
		return nil, err
	}
	in := decoder{data: body}
	id := in.uint()
	s := in.state(part.Partition)
	if kind != kindPartition || in.err != nil || len(in.data) > 0 || id != uint64(part.Partition) {
		return nil, damaged("the state of partition %d is malformed", part.Partition).WithCause(in.err)
	}
	c := newCheck(d.Region, d.Partitions, part.Partition, s)
	if err := c.begin(); err != nil {
		return nil, err
	}
	return &PartReader{State: s, part: part, d: d, c: c}, nil
}

// Position returns where the origin's stream stood.
func (p *PartReader) Position(origin region.ID, name journal.Stream) journal.Position {
	s := p.State
	at := journal.Position{Origin: origin, Stream: name, Partition: p.part.Partition, Incarnation: s.Incarnation, UnixMilli: s.UnixMilli}
	for _, h := range s.Heads {
		if h.Stream == name {
			at.Seq, at.Chain = h.Last, h.Chain
		}
	}
	return at
}

// Row is a row of a part, with its digest. Its slices are valid during the call.
type Row struct {
	Owner region.UIN
	Table journal.Table
	Key   []byte
	partition.Row
}

// Rest gives the rows, in the order the store had them, and then the batches of
// the journal. It is known to be whole and right only when Rest returns no error.
//
// Errors: region.BadInput when the part is damaged or cut off; those of row and
// batch, as they are.
func (p *PartReader) Rest(ctx context.Context, row func(*Row) error, batch func(*journal.Batch) error) error {
	d, c := p.d, p.c
	to := &partSink{p.part, row}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		sum := d.sum.Sum(nil)
		kind, body, err := d.block()
		if err != nil {
			return err
		}
		in := decoder{data: body}
		switch {
		case kind == kindRows && c.batches == 0:
			err = d.rows(&in, c, to)
		case kind == kindJournal && p.part.Journal:
			err = d.batches(&in, c, func(data []byte) error {
				if _, err := c.batch(data); err != nil {
					return err
				}
				b, err := journal.Decode(bytes.Clone(data))
				if err != nil {
					return err
				}
				return batch(b)
			})
		case kind == kindEnd:
			if err := p.done(); err != nil {
				return err
			}
			return d.end(&in, uint64(d.Partitions), sum)
		default:
			err = damaged("a block of kind %d is not where it has to be", kind)
		}
		if err != nil {
			return err
		}
	}
}

// done holds what was read against the state.
func (p *PartReader) done() error {
	for _, home := range p.part.Homes {
		want, have := p.State.Sums[home], p.c.sums[home]
		if want == nil {
			want = &partition.Sums{}
		}
		if have == nil {
			have = &partition.Sums{}
		}
		if have.Shared != want.Shared || p.part.Own && have.Own != want.Own {
			return damaged("the rows of %s in partition %d do not add up to their digest", home, p.part.Partition)
		}
	}
	if p.part.Journal && p.c.next != p.State.Next {
		return damaged("the journal of partition %d ends at %d, not at %d", p.part.Partition, p.c.next-1, p.State.Next-1)
	}
	return nil
}

// partSink takes the rows that were asked for.
type partSink struct {
	part Part
	row  func(*Row) error
}

func (s *partSink) State(region.Partition, *partition.State) error { return nil }
func (s *partSink) Batch(uint64, []byte) error                     { return nil }
func (s *partSink) Copy([]byte) error                              { return nil }

func (s *partSink) Row(owner region.UIN, t journal.Table, key []byte, r *partition.Row) error {
	if !s.part.Has(t, r.Home) {
		return damaged("a row of %s in partition %d that was not asked for", r.Home, s.part.Partition)
	}
	return s.row(&Row{owner, t, key, *r})
}
