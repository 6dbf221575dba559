// Package store is the contract of a region's Key-Table store. Engines live
// below it (store/pebble), and store/storetest is the suite every engine must
// pass.
//
// The contract guarantees that an acknowledged commit is durable, that a batch
// is atomic together with its journal records, that the sequence of a
// partition's journal is dense, and that a foreign batch is applied exactly
// once in effect, whatever the caller repeats.
package store

import (
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// Departed is the home that tombstones of owners who moved away count in: no
// region's, so nothing is fenced for it, and no watermark speaks of it. What the
// new home writes has a newer epoch and replaces them. Where it came first it
// stays: the tombstone is in the journal only, for who follows that and not the
// new home's.
const Departed region.ID = "departed"

// Limits every engine enforces; beyond them it answers region.TooLarge.
const (
	MaxRowKey = 256       // bytes of Write.Row
	MaxValue  = 256 << 10 // bytes of Write.Value
	MaxBatch  = 1 << 20   // bytes of keys, values and payloads of one batch
	MaxWrites = 1024      // writes and commands of one batch
)

// Row is a stored row.
type Row struct {
	Table   journal.Table
	Row     []byte
	Version uint64 // 0: never written
	Epoch   region.Epoch
	Deleted bool
	Value   []byte
}

// Exists says whether the row is there and not a tombstone.
func (r *Row) Exists() bool { return r.Version > 0 && !r.Deleted }

// Write is one row of a batch.
type Write struct {
	Table  journal.Table
	Row    []byte
	Value  []byte
	Delete bool
	Expect Expect
}

// Expect is a precondition on the row's version before the write.
type Expect struct {
	kind    uint8
	version uint64
}

// Anything is no precondition.
func Anything() Expect { return Expect{} }

// Absent wants the row never written, or deleted.
func Absent() Expect { return Expect{kind: 1} }

// AtVersion wants exactly that version (0: never written).
func AtVersion(v uint64) Expect { return Expect{kind: 2, version: v} }

// Holds tests the precondition.
func (e Expect) Holds(r *Row) bool {
	switch e.kind {
	case 1:
		return !r.Exists()
	case 2:
		return r.Version == e.version
	default:
		return true
	}
}

// Batch is one owner's atomic change. The engine keeps no reference to its
// slices after Commit returns.
type Batch struct {
	Owner    region.UIN
	Home     region.ID
	Epoch    region.Epoch
	Writes   []Write // no row twice
	Commands []journal.Command
}

// Receipt says what a commit became.
type Receipt struct {
	Partition region.Partition
	First     uint64 // sequence of its first journal record; 0 when it made none (local rows only)
	Last      uint64
}

// Range selects rows of one owner and table by key, From included, To
// excluded; nil is no bound.
type Range struct {
	From, To []byte
	Reverse  bool
	Limit    int  // rows; 0 is 1,000
	Deleted  bool // tombstones too
}

// Head is where a partition's own journal stands.
type Head struct {
	Incarnation uint64
	First       uint64 // oldest record still kept; Next when none
	Next        uint64 // sequence of the next record
	UnixMilli   int64  // commit time of the newest record; 0 when none
	Streams     []journal.StreamHead
}

// Submitter is a store that takes a batch and tells when it is durable, while its
// caller does something else.
type Submitter interface {
	// Submit puts the batch where nothing but a failure of the whole store keeps
	// it from becoming durable, after everything submitted for the same partition
	// before. It blocks only to refuse a conflict, as Commit does. Errors: those of
	// Commit, and then is not called.
	//
	// Otherwise then is called once: when the batch is durable, or with the error
	// of the store that failed, by Close at the latest. That may be before Submit
	// returns. Calls for one partition come one at a time, in the order of Submit.
	// then must not block, nor wait for another commit.
	Submit(ctx context.Context, b *Batch, then func(Receipt, error)) error
}

// Store is a region's store. All methods are safe for concurrent use. Methods
// with a context return its error when it ends first; a Commit or Apply whose
// context ended may still have happened, and repeating it is safe where the
// caller's preconditions or position make it so.
type Store interface {
	// Region and Partitions are fixed when the store is made.
	Region() region.ID
	Partitions() int

	// Get returns the row; one that was never written has Version 0. The row
	// belongs to the caller.
	Get(ctx context.Context, owner region.UIN, t journal.Table, row []byte) (Row, error)

	// Scan calls yield for each row in key order until it returns false. The
	// row's slices are valid only during the call.
	Scan(ctx context.Context, owner region.UIN, t journal.Table, r Range, yield func(*Row) bool) error

	// Owners returns the owners of a partition that ever had a row in a table, in
	// ascending order, from the first one above after; fewer than limit is the end.
	// Owners from 1<<63 on are not listed: no segment holds them. It may step over
	// many others, so it costs up to a seek for each owner of the partition.
	Owners(ctx context.Context, p region.Partition, t journal.Table, after region.UIN, limit int) ([]region.UIN, error)

	// Commit makes the batch durable, together with its journal records, and
	// returns. Concurrent commits share an fsync.
	//
	// Errors: region.Conflict when a precondition does not hold; what it
	// conflicts with is durable by then and Get shows it, so that a caller who
	// reads again and retries does not run into the same conflict;
	// region.Unavailable when the fence refuses the epoch, the disk is full or
	// the store is closed (nothing was written, retry later); region.TooLarge,
	// region.BadInput ([Batch.Validate]); region.Internal when the write failed
	// and it is not known what became of it: the store is read-only then.
	Commit(ctx context.Context, b *Batch) (Receipt, error)

	// Apply replays batches of one foreign partition's full or shared stream,
	// and moves its position, in one transaction. Batches at or before the
	// position are skipped. The first new batch has to name the position as its
	// predecessor, with the chain that follows from it, and so on; else nothing
	// is applied and the error is a *Gap ([Plan]). A row record at or below the
	// version stored is skipped. A row whose digest before or after differs from
	// the record's, and a watermark that differs from this replica's sums (the
	// shared stream's: its shared sum), are returned in the report and do not
	// stop the replay.
	//
	// Applied rows make no journal records here but one: the position. Batches
	// that hold nothing but positions move the position without a record;
	// otherwise two regions that back each other up would answer each other for
	// ever. A position of a command stream in a full stream is taken over as
	// this store's own when it is newer: the effects of those commands are in
	// the rows, so a successor goes on behind them. Batches of a full stream are
	// kept ([Store.Copy]), and its ends of term remembered ([Store.Turns]).
	//
	// A row of a newer epoch replaces one of an older, whatever their versions:
	// what a region wrote after its term ended yields to its successor. Rows of a
	// term that this region's own takeover ended ([Turn.Tail]) are not applied:
	// they are the tail, which is merged, not replayed.
	//
	// Records of kinds that this version does not know have no effect; they are
	// kept with their batch, and reported.
	//
	// Errors: *Gap, region.BadInput, and those of Commit.
	Apply(ctx context.Context, stream journal.Stream, batches []*journal.Batch) (Applied, error)

	// SetPosition moves the position of a command stream after the effects of
	// everything up to it are durable, and records it in this region's journal.
	// It never moves back within an incarnation or to an older one ([Newer]):
	// that is no error and changes nothing.
	SetPosition(ctx context.Context, p journal.Position) error

	// Position returns how far a foreign stream was applied; Seq 0 when never.
	Position(ctx context.Context, origin region.ID, s journal.Stream, p region.Partition) (journal.Position, error)

	// Positions returns every position of the store.
	Positions(ctx context.Context) ([]journal.Position, error)

	// Journal returns whole batches as the stream carries them, from the first
	// that has a record at or after from, up to about maxBytes (at least one).
	// Only records that are durable are returned; none is no error. When the
	// stream had a record at or after from that was trimmed, the error is
	// region.NotFound; trimmed records of other streams do not matter.
	Journal(ctx context.Context, p region.Partition, s journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error)

	// Head returns where the partition's journal stands.
	Head(p region.Partition) Head

	// Changed returns a channel that is closed when the partition's journal
	// grows. Take it before reading the journal.
	Changed(p region.Partition) <-chan struct{}

	// Watermark appends a watermark record for each home whose rows were changed
	// by this region's commits since the last one, and returns how many it
	// appended. Replayed rows do not count: who does not write a home's rows
	// does not speak for them.
	Watermark(ctx context.Context, p region.Partition) (int, error)

	// Sums returns the digests of a home's rows in a partition, as a watermark
	// would carry them.
	Sums(p region.Partition, home region.ID) journal.Watermark

	// Fence refuses, durably and from the moment it returns, commits for the
	// home at older terms: every commit at an older term that is ever
	// acknowledged is in the journal when Fence returns. An older term than the
	// fence's is no error and changes nothing. Replay is not fenced.
	Fence(ctx context.Context, home region.ID, t region.Term) error

	// Handover appends a term record to the partition's journal and remembers it
	// in the partition's [Turn]. A takeover records how far the predecessor's
	// full stream is applied, and raises the partition's incarnation. One that is
	// no newer than what is remembered changes nothing.
	//
	// Errors: region.BadInput; region.Conflict when the home is not fenced at the
	// record's term, because commits at older terms could follow the record; and
	// those of Commit.
	Handover(ctx context.Context, p region.Partition, h Handover) error

	// Turns returns how ownership stands in a partition, by home. Homes that
	// never changed hands are not in it. It does not block.
	Turns(p region.Partition) map[region.ID]Turn

	// Copy is [Store.Journal] of the batches that Apply kept of another region's
	// full stream. It ends at the position of that stream.
	Copy(ctx context.Context, origin region.ID, p region.Partition, s journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error)

	// TrimCopy forgets kept batches that end before a sequence.
	TrimCopy(ctx context.Context, origin region.ID, p region.Partition, before uint64) error

	// Trim forgets journal records before a sequence; a batch goes whole, so the
	// one that holds the sequence stays.
	Trim(ctx context.Context, p region.Partition, before uint64) error

	// Writable says why commits are refused now whatever they are, or nil: the
	// disk is full, the database is not reachable, the store failed or is closed.
	// It is cheap enough for every look at the node's health.
	//
	// Errors: those of Commit that are not about the batch.
	Writable() error

	// Close waits for commits and readers under way and closes the engine;
	// other methods then answer region.Unavailable. It must not be called from
	// within a Scan's yield.
	Close() error
}

// Applied is the report of an Apply.
type Applied struct {
	Batches    int // applied
	Skipped    int // already there
	Rows       int
	Tail       int // batches that were not applied, see [Turn.Tail]
	Position   journal.Position
	Mismatches []Mismatch
	Opaque     []Opaque // records of kinds that this version does not know
}

// Opaque is a record of a newer version, that had no effect here.
type Opaque struct {
	Seq   uint64
	Kind  journal.Kind
	Owner region.UIN
	Home  region.ID
}

// Mismatch is a replica that differs from its origin: in one row (Table is
// set), or somewhere in the rows of a home and class (a watermark).
type Mismatch struct {
	Seq   uint64 // of the watermark or row record
	Owner region.UIN
	Home  region.ID
	Class journal.Class // of a watermark's rows
	Table journal.Table
	Row   []byte
	Want  journal.Sum // by the record
	Have  journal.Sum // here
}

// Gap is returned by Apply when the next batch does not follow the position.
type Gap struct {
	Stream    journal.Stream
	Partition region.Partition
	Have      uint64 // the position
	Want      uint64 // what the batch names as its predecessor
	Chain     bool   // predecessor fits, but the chain differs: the histories diverged
}

func (g *Gap) Error() string {
	if g.Chain {
		return "stream " + string(g.Stream) + ": chain differs at the position; the origin's history is another one"
	}
	return "stream " + string(g.Stream) + ": records are missing between the position and the batch"
}
