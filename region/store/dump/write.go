package dump

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// The first bytes of a dump, and the kinds of its blocks.
const (
	magic = "HMGDUMP1"

	kindHeader    = 1
	kindPartition = 2
	kindRows      = 3
	kindJournal   = 4
	kindCopies    = 5
	kindEnd       = 6
)

// gather is how many bytes of rows or batches share a block: enough that
// checksums cost nothing, little enough that a reader's memory stays small.
const gather = 64 << 10

// maxBlock bounds a block's body: a whole batch behind a block's worth of others.
const maxBlock = gather + journal.MaxEncoded + 64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Source is a store that can be dumped: an open engine.
type Source interface {
	Region() region.ID
	Partitions() int
	// Dump gives a partition to the sink, as of one position of its journal. Only
	// what is durable is in it. It holds no lock: commits go on meanwhile.
	//
	// Errors: those of the sink and of store.Store's reads, and the context's.
	Dump(ctx context.Context, id region.Partition, to partition.Sink) error
}

// Engine is an open store that can be dumped, and mended by another one's dump.
type Engine interface {
	store.Store
	store.Mender
	Source
}

// Target is an engine's loader, which Reader.CopyTo fills. What is loaded is
// served only after Commit, which closes it too; Close gives it up.
type Target interface {
	partition.Sink
	Commit() error
	Close() error
}

// Summary says what is in a dump.
type Summary struct {
	Region     region.ID
	Partitions int
	Time       time.Time // when it was begun
	InUse      bool      // the store was in use meanwhile
	Rows       uint64    // tombstones included
	Batches    uint64    // of the journals, and kept of other regions'
	Bytes      uint64    // of the dump
}

// Write dumps a store. inUse says that commits may go on meanwhile. It blocks
// until all is written, and keeps about a hundred KiB in memory.
//
// Errors: those of w and of Source.Dump; what was written is then no whole dump.
func Write(ctx context.Context, w io.Writer, from Source, inUse bool, now time.Time) (Summary, error) {
	out := &writer{w: bufio.NewWriterSize(w, 256<<10), sum: sha256.New()}
	out.Summary = Summary{Region: from.Region(), Partitions: from.Partitions(), Time: time.UnixMilli(now.UnixMilli()), InUse: inUse}
	if err := out.write([]byte(magic)); err != nil {
		return out.Summary, err
	}
	if err := out.block(kindHeader, out.header()); err != nil {
		return out.Summary, err
	}
	for id := range region.Partition(from.Partitions()) {
		if err := ctx.Err(); err != nil {
			return out.Summary, err
		}
		if err := from.Dump(ctx, id, out); err != nil {
			return out.Summary, err
		}
		if err := out.flush(); err != nil {
			return out.Summary, err
		}
	}
	return out.Summary, out.end()
}

// writer is the Sink that spells a dump.
type writer struct {
	Summary
	w    *bufio.Writer
	sum  hash.Hash
	kind byte   // of what is gathered
	body []byte // gathered
}

func (w *writer) header() []byte {
	b := appendText(nil, string(w.Region))
	b = binary.AppendUvarint(b, uint64(w.Partitions))
	b = binary.AppendVarint(b, w.Time.UnixMilli())
	return append(b, bit(w.InUse))
}

// State implements partition.Sink.
func (w *writer) State(id region.Partition, s *partition.State) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.block(kindPartition, appendState(binary.AppendUvarint(nil, uint64(id)), s))
}

// Row implements partition.Sink.
func (w *writer) Row(owner region.UIN, t journal.Table, key []byte, r *partition.Row) error {
	if err := w.begin(kindRows); err != nil {
		return err
	}
	w.Rows++
	w.body = appendRow(w.body, owner, t, key, r)
	return nil
}

// Batch implements partition.Sink.
func (w *writer) Batch(_ uint64, data []byte) error { return w.batch(kindJournal, data) }

// Copy implements partition.Sink.
func (w *writer) Copy(data []byte) error { return w.batch(kindCopies, data) }

func (w *writer) batch(kind byte, data []byte) error {
	if err := w.begin(kind); err != nil {
		return err
	}
	w.Batches++
	w.body = appendText(w.body, data)
	return nil
}

// begin sees to a block of a kind that has room.
func (w *writer) begin(kind byte) error {
	if w.kind != kind || len(w.body) >= gather {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.kind = kind
	return nil
}

// flush writes what is gathered.
func (w *writer) flush() error {
	if len(w.body) == 0 {
		return nil
	}
	err := w.block(w.kind, w.body)
	w.body = w.body[:0]
	return err
}

func (w *writer) end() error {
	b := binary.AppendUvarint(nil, w.Rows)
	b = binary.AppendUvarint(b, w.Batches)
	if err := w.block(kindEnd, w.sum.Sum(b)); err != nil {
		return err
	}
	return w.w.Flush()
}

func (w *writer) block(kind byte, body []byte) error {
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)))
	crc := crc32.Update(crc32.Update(0, castagnoli, head), castagnoli, body)
	for _, b := range [][]byte{head, body, binary.BigEndian.AppendUint32(nil, crc)} {
		if err := w.write(b); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) write(b []byte) error {
	n, err := w.w.Write(b)
	w.Bytes += uint64(n)
	_, _ = w.sum.Write(b)
	return err
}
