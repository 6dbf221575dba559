package dump

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Reader reads a dump.
type Reader struct {
	Summary // Rows, Batches and Bytes count what was read so far
	r       *bufio.Reader
	sum     hash.Hash
	body    []byte // of the newest block, used again
}

// Open reads a dump's beginning, which says of what region it is.
//
// Errors: region.BadInput when it is no dump, damaged or cut off;
// region.Unsupported for another version; those of r.
func Open(r io.Reader) (*Reader, error) { return open(r, magic) }

func open(r io.Reader, magic string) (*Reader, error) {
	d := &Reader{r: bufio.NewReaderSize(r, 256<<10), sum: sha256.New()}
	head := make([]byte, len(magic))
	if err := d.read(head); err != nil {
		return nil, err
	}
	switch {
	case string(head) == magic:
	case bytes.HasPrefix(head, []byte(magic[:len(magic)-1])):
		return nil, region.Errorf(region.Unsupported, "the dump has format %q, this program reads %q", head[len(magic)-1:], magic[len(magic)-1:]).WithHint("use the program that wrote it")
	default:
		return nil, region.Errorf(region.BadInput, "this is no dump of a region").WithHint("homing store export and backup write them")
	}
	kind, body, err := d.block()
	if err != nil {
		return nil, err
	}
	in := decoder{data: body}
	d.Region = in.region()
	partitions := in.uint()
	d.Time, d.InUse = time.UnixMilli(in.int()), in.bool()
	if kind != kindHeader || in.err != nil || len(in.data) > 0 || partitions < 1 || partitions > 1<<16 {
		return nil, damaged("its header is malformed").WithCause(in.err)
	}
	d.Partitions = int(partitions)
	return d, nil
}

// CopyTo reads all the rest, and gives it to an engine's loader: every partition
// with its incarnation raised. The dump is known to be whole and right only when
// it returns no error, so a loader keeps nothing before that. A nil loader checks
// the dump only.
//
// Errors: region.BadInput when the dump is damaged or cut off; those of the
// loader, of the reader, and the context's.
func (d *Reader) CopyTo(ctx context.Context, to partition.Sink) (Summary, error) {
	var c *check
	for next := uint64(0); ; {
		if err := ctx.Err(); err != nil {
			return d.Summary, err
		}
		sum := d.sum.Sum(nil)
		kind, body, err := d.block()
		if err != nil {
			return d.Summary, err
		}
		in := decoder{data: body}
		switch {
		case kind == kindPartition:
			if err := c.done(); err != nil {
				return d.Summary, err
			}
			id := in.uint()
			if id != next || id >= uint64(d.Partitions) {
				return d.Summary, damaged("partition %d is not where it has to be", id)
			}
			next++
			s := in.state(region.Partition(id))
			if in.err != nil || len(in.data) > 0 {
				return d.Summary, damaged("the state of partition %d is malformed", id).WithCause(in.err)
			}
			c = newCheck(d.Region, d.Partitions, region.Partition(id), s)
			err = c.begin()
			if err == nil && to != nil {
				raised := s.Clone()
				raised.Incarnation++
				err = to.State(c.id, raised)
			}
		case kind == kindRows && c != nil && c.batches == 0 && !c.copied:
			err = d.rows(&in, c, to)
		case kind == kindJournal && c != nil && !c.copied:
			err = d.batches(&in, c, func(data []byte) error {
				first, err := c.batch(data)
				if err == nil && to != nil {
					err = to.Batch(first, data)
				}
				return err
			})
		case kind == kindCopies && c != nil:
			err = d.batches(&in, c, func(data []byte) error {
				err := c.copy(data)
				if err == nil && to != nil {
					err = to.Copy(data)
				}
				return err
			})
		case kind == kindEnd:
			if err := c.done(); err != nil {
				return d.Summary, err
			}
			return d.Summary, d.end(&in, next, sum)
		default:
			err = damaged("a block of kind %d is not where it has to be", kind)
		}
		if err != nil {
			return d.Summary, err
		}
	}
}

func (d *Reader) rows(in *decoder, c *check, to partition.Sink) error {
	for len(in.data) > 0 {
		owner, t, key, r := in.row()
		if in.err != nil {
			break
		}
		d.Rows++
		if err := c.row(owner, t, key, &r); err != nil {
			return err
		}
		if to != nil {
			if err := to.Row(owner, t, key, &r); err != nil {
				return err
			}
		}
	}
	if in.err != nil {
		return damaged("a row of partition %d is malformed", c.id).WithCause(in.err)
	}
	return nil
}

func (d *Reader) batches(in *decoder, c *check, give func(data []byte) error) error {
	for len(in.data) > 0 {
		data := in.text(journal.MaxEncoded)
		if in.err != nil {
			return damaged("the journal of partition %d is malformed", c.id).WithCause(in.err)
		}
		d.Batches++
		if err := give(data); err != nil {
			return err
		}
	}
	return nil
}

func (d *Reader) end(in *decoder, partitions uint64, sum []byte) error {
	rows, batches, have := in.uint(), in.uint(), in.bytes(sha256.Size)
	switch {
	case in.err != nil || len(in.data) > 0:
		return damaged("its end is malformed").WithCause(in.err)
	case partitions != uint64(d.Partitions):
		return damaged("it has %d partitions of %d", partitions, d.Partitions)
	case rows != d.Rows || batches != d.Batches || !bytes.Equal(have, sum):
		return damaged("its digest differs from what was read")
	}
	if _, err := d.r.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = damaged("something follows its end")
		}
		return err
	}
	return nil
}

// block reads the next block. The body is valid until the block after it.
func (d *Reader) block() (kind byte, body []byte, err error) {
	head := make([]byte, 5)
	if err := d.read(head); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxBlock {
		return 0, nil, damaged("a block of %d bytes", n)
	}
	// Memory grows with what is there, not with what a damaged length says.
	d.body = d.body[:0]
	for left := int(n); left > 0; {
		piece := min(left, gather)
		at := len(d.body)
		d.body = slices.Grow(d.body, piece)[:at+piece]
		if err := d.read(d.body[at:]); err != nil {
			return 0, nil, err
		}
		left -= piece
	}
	crc := make([]byte, 4)
	if err := d.read(crc); err != nil {
		return 0, nil, err
	}
	if crc32.Update(crc32.Update(0, castagnoli, head), castagnoli, d.body) != binary.BigEndian.Uint32(crc) {
		return 0, nil, damaged("the checksum of the block before byte %d differs", d.Bytes)
	}
	return head[0], d.body, nil
}

func (d *Reader) read(b []byte) error {
	n, err := io.ReadFull(d.r, b)
	d.Bytes += uint64(n)
	_, _ = d.sum.Write(b[:n])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return region.Errorf(region.BadInput, "the dump ends after %d bytes, before its end: it was not written whole", d.Bytes).WithHint("make it again")
	}
	return err
}

func damaged(format string, args ...any) *region.Error {
	return region.Errorf(region.BadInput, "the dump is damaged: "+format, args...).WithHint("use another copy of it")
}
