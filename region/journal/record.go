package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/homing-im/homing/region"
)

// Stream is a filter of a journal.
type Stream string

// The streams: Full has every record, for the backup; Shared has row records
// of class Shared and watermarks, for every region; the commands for the
// owners of one home are in StreamTo(home).
const (
	Full   Stream = "full"
	Shared Stream = "shared"
)

// StreamTo is the stream of the commands for owners whose home is the region.
func StreamTo(home region.ID) Stream { return Stream("to-" + string(home)) }

// Class says how far a row travels.
type Class uint8

// The classes. Rows of class Local make no journal record.
const (
	ClassShared Class = 1 // every region: accounts, groups
	ClassOwn    Class = 2 // the acting region and its backup: inbox, contacts, settings
	ClassLocal  Class = 3 // never leaves: sessions, presence, allocators
)

// Table numbers a table of the Key-Table store. Its class is part of the
// number, so that no reader can treat a row as another class: tables 1-99 are
// shared, 100-199 own, 200-255 local.
type Table uint8

// Class returns the class of the table.
func (t Table) Class() Class {
	switch {
	case t >= 200:
		return ClassLocal
	case t >= 100:
		return ClassOwn
	default:
		return ClassShared
	}
}

// Kind is the kind of a record. The numbers are on disk and in queues: append
// only. As with tables, the number says how far a record travels, so that a node
// that does not know the kind passes it on in the streams that its writer linked:
// from 128 on in stream shared too, below only in stream full.
type Kind uint8

// The kinds.
const (
	KindRow       Kind = 1 // a row was written or deleted
	KindCommand   Kind = 2 // another owner's acting region is asked to do something
	KindWatermark Kind = 3 // the digests of the partition before this record
	KindPosition  Kind = 4 // how far a foreign stream was applied here
	KindTerm      Kind = 5 // end of term, takeover: ownership changed hands here
)

// firstSharedKind is the first of the kinds above the present ones that are in
// stream shared.
const firstSharedKind Kind = 128

// Known says whether this version knows the kind. One it does not know is of a
// newer version: see [Record.Opaque].
func (k Kind) Known() bool { return k >= KindRow && k <= KindTerm }

// Sum is a 128-bit digest: the first 16 bytes of a SHA-256. Sums of rows are
// added modulo 2^128, so a partition's sum does not depend on the order of
// writes and is kept up to date in constant time.
type Sum [16]byte

// SumOf hashes bytes.
func SumOf(b []byte) Sum {
	h := sha256.Sum256(b)
	return Sum(h[:16])
}

// Add returns s + t modulo 2^128, both big-endian.
func (s Sum) Add(t Sum) Sum {
	low, carry := bits.Add64(binary.BigEndian.Uint64(s[8:]), binary.BigEndian.Uint64(t[8:]), 0)
	high, _ := bits.Add64(binary.BigEndian.Uint64(s[:8]), binary.BigEndian.Uint64(t[:8]), carry)
	return sum(high, low)
}

// Sub returns s - t modulo 2^128.
func (s Sum) Sub(t Sum) Sum {
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(s[8:]), binary.BigEndian.Uint64(t[8:]), 0)
	high, _ := bits.Sub64(binary.BigEndian.Uint64(s[:8]), binary.BigEndian.Uint64(t[:8]), borrow)
	return sum(high, low)
}

func sum(high, low uint64) (s Sum) {
	binary.BigEndian.PutUint64(s[:8], high)
	binary.BigEndian.PutUint64(s[8:], low)
	return s
}

// Batch is what one owner's commit wrote, or the part of it that a stream
// carries. It is atomic: a reader applies it whole or not at all.
type Batch struct {
	Origin      region.ID
	Partition   region.Partition
	Incarnation uint64
	Owner       region.UIN // 0 for watermarks, positions and terms, which are the partition's
	Home        region.ID  // of the owner when it was written; "" when Owner is 0
	Epoch       region.Epoch
	UnixMilli   int64 // when it was committed by the origin's clock; for people and lag, never for order
	Records     []Record
	Links       []Link // Full first, then by name
}

// First returns the sequence of the first record.
func (b *Batch) First() uint64 { return b.Records[0].Seq }

// Last returns the sequence of the last record.
func (b *Batch) Last() uint64 { return b.Records[len(b.Records)-1].Seq }

// Record is one numbered entry. Exactly the pointer that Kind names is set, and
// none when Kind is not [Kind.Known].
type Record struct {
	Seq       uint64 // dense in the journal, ascending in a batch, with gaps in a filtered stream
	Kind      Kind
	Row       *RowRecord
	Command   *Command
	Watermark *Watermark
	Position  *Position
	Term      *TermRecord

	// Opaque is what a record of an unknown kind says, as it came. It is carried,
	// chained and kept like any other, but has no effect here.
	Opaque []byte
}

// RowRecord is the new state of a row.
type RowRecord struct {
	Table   Table
	Row     []byte // the row's key below owner and table
	Version uint64 // grows by one with every write of the row, deletes included
	Deleted bool   // a tombstone; Value is empty
	Value   []byte
	Before  Sum // hash of the row it replaces; zero when there was none
	After   Sum // hash of this row: see RowSum
}

// CommandID names a command. It derives from what caused it, so the same cause
// gives the same command, and its effect is idempotent by it.
type CommandID [16]byte

// Command asks the region that acts for Target's home to do something.
type Command struct {
	ID      CommandID
	To      region.ID  // home of Target; for Target 0 the region itself
	Target  region.UIN // whose records it changes; 0 when the region expands it (one copy per region)
	Method  uint16     // number of region/core's command; append only
	Payload []byte
}

// Watermark carries the sums of the rows of one home as they are after every
// record before it, so a replica at this sequence can compare.
type Watermark struct {
	Home       region.ID
	SharedSum  Sum
	SharedRows uint64 // tombstones included
	OwnSum     Sum
	OwnRows    uint64
}

// Position is how far a stream of a foreign journal was applied here.
type Position struct {
	Origin      region.ID
	Stream      Stream
	Partition   region.Partition // of the origin's journal
	Incarnation uint64
	Seq         uint64 // last record applied
	Chain       Sum    // the stream's chain after it
	UnixMilli   int64  // the origin's time of the record; lag = its head's time minus this
}

// TermRecord marks that ownership of a home changed hands in this partition.
type TermRecord struct {
	Home region.ID
	Term region.Term
	What uint8 // 1 end of term, 2 takeover
}

// Link places a batch in a stream: Prev is the last sequence of the batch
// before it in that stream (0 for the first), Chain the running hash after it.
// Both are those of the batch as the stream carries it.
type Link struct {
	Stream Stream
	Prev   uint64
	Chain  Sum
}

// StreamHead is where a stream of a partition stands.
type StreamHead struct {
	Stream Stream
	Last   uint64
	Chain  Sum
}
