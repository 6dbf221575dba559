package mend

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/dump"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Bounds of one transaction: what the callers of others wait for meanwhile.
const (
	pieceRows  = 512
	pieceBytes = 1 << 20
)

// Replica is a store that is mended. Engines satisfy it.
type Replica interface {
	dump.Source
	store.Mender
}

// Options say how.
type Options struct {
	Stream  journal.Stream // full or shared: whose position moves
	Homes   []region.ID    // whose rows
	Careful bool           // see the package comment
	Try     bool           // compare only
}

// Part is what to ask the origin for. The journal is needed when the replica
// cannot be brought to the origin's position by replay first.
func (o *Options) Part(p region.Partition, journalToo bool) dump.Part {
	return dump.Part{Partition: p, Homes: o.Homes, Own: o.Stream == journal.Full, Journal: journalToo && o.Stream == journal.Full}
}

// Report says what was found, and unless it was tried only, mended.
type Report struct {
	Partition region.Partition `json:"partition"`
	Position  uint64           `json:"position"` // of the origin's stream, that the rows are as of
	Rows      uint64           `json:"rows"`     // compared
	Missing   uint64           `json:"missing"`  // rows that were not here
	Older     uint64           `json:"older"`    // rows that were older here
	Other     uint64           `json:"other"`    // rows of the same version that differed
	Newer     uint64           `json:"newer"`    // rows that were newer here than at the origin
	Surplus   uint64           `json:"surplus"`  // rows that the origin does not have
	Kept      uint64           `json:"kept"`     // of those, left as they are because the mending was careful
	Owners    uint64           `json:"owners"`   // whose rows differed
}

// Equal says whether nothing differed.
func (r *Report) Equal() bool { return r.Missing+r.Older+r.Other+r.Newer+r.Surplus == 0 }

// Run compares the replica with the part and mends it. It blocks until both are
// read; nothing may replay the origin's streams of that partition meanwhile. A
// MiB or so is in memory.
//
// Errors: those of the part, of Replica's Dump and Mend, and the context's.
func Run(ctx context.Context, to Replica, from *dump.PartReader, part dump.Part, origin region.ID, o Options) (Report, error) {
	m := &mending{ctx: ctx, to: to, part: part, options: o, high: map[string]*dump.Row{}, piece: store.Mending{Origin: origin}}
	m.report.Partition = part.Partition
	position := from.Position(origin, o.Stream)
	m.report.Position = position.Seq
	err := m.run(from)
	if err != nil || o.Try {
		return m.report, err
	}
	end := &store.MendEnd{Position: position}
	if m.report.Kept == 0 {
		for _, home := range o.Homes {
			end.Sums = append(end.Sums, from.State.Watermark(home))
		}
	}
	if o.Stream == journal.Full {
		end.Handed = map[region.ID]region.Term{}
		for source, at := range from.State.Positions {
			if _, command := source.Stream.To(); command {
				end.Commands = append(end.Commands, at)
			}
		}
		for home, t := range from.State.Turns {
			if t.Handed != (region.Term{}) {
				end.Handed[home] = t.Handed
			}
		}
	}
	m.piece.End = end
	return m.report, m.flush(0)
}

// mending is one run.
type mending struct {
	ctx     context.Context
	to      Replica
	part    dump.Part
	options Options
	report  Report

	next  func() (*dump.Row, bool) // of the origin's rows
	ahead *dump.Row                // the origin's next row; nil at the end
	high  map[string]*dump.Row     // those of owners from 1<<63 on, which engines order differently, by key
	here  []highRow                // the replica's of those
	owner region.UIN               // whose difference was counted last

	piece store.Mending
	size  int  // of piece, in bytes
	begun bool // keeping batches: what was kept before is forgotten
}

const firstHigh = region.UIN(1 << 63)

type highRow struct {
	owner region.UIN
	table journal.Table
	key   []byte
	row   partition.Row
}

// run walks both sides in the order of their keys.
func (m *mending) run(from *dump.PartReader) error {
	var failed error
	next, stop := iter.Pull(func(yield func(*dump.Row) bool) {
		failed = from.Rest(m.ctx, func(r *dump.Row) error {
			if !yield(r) {
				return context.Canceled
			}
			return nil
		}, m.keep)
	})
	defer stop()
	m.next = next
	m.advance()
	if err := m.to.Dump(m.ctx, m.part.Partition, (*replica)(m)); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	for ; m.ahead != nil; m.advance() {
		if err := m.missing(m.ahead); err != nil {
			return err
		}
	}
	if failed != nil {
		return failed
	}
	for i := range m.here {
		h := &m.here[i]
		k := place(h.owner, h.table, h.key)
		var err error
		if want, ok := m.high[k]; ok {
			delete(m.high, k)
			err = m.both(want, &h.row)
		} else if m.part.Has(h.table, h.row.Home) {
			err = m.surplus(h.owner, h.table, h.key)
		}
		if err != nil {
			return err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m.high)) {
		if err := m.missing(m.high[k]); err != nil {
			return err
		}
	}
	return nil
}

// advance goes to the origin's next row.
func (m *mending) advance() {
	for {
		r, ok := m.next()
		switch {
		case !ok:
			m.ahead = nil
			return
		case r.Owner >= firstHigh:
			c := *r
			c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
			m.high[place(r.Owner, r.Table, r.Key)] = &c
		default:
			m.ahead = r
			return
		}
	}
}

func place(owner region.UIN, t journal.Table, key []byte) string {
	return string(append(append(binary.BigEndian.AppendUint64(nil, uint64(owner)), byte(t)), key...))
}

// keep takes a batch of the origin's journal, which follows its rows.
func (m *mending) keep(b *journal.Batch) error {
	if m.options.Try {
		return nil
	}
	f := journal.Filter(b, journal.Full)
	m.piece.Forget = m.piece.Forget || !m.begun
	m.begun = true
	m.piece.Keep = append(m.piece.Keep, f)
	m.size += len(journal.Encode(f))
	return m.flush(pieceBytes)
}

// missing is a row of the origin that is not here.
func (m *mending) missing(r *dump.Row) error {
	m.report.Rows++
	m.report.Missing++
	return m.write(r)
}

// both are a row of the origin and what is here in its place.
func (m *mending) both(r *dump.Row, have *partition.Row) error {
	m.report.Rows++
	sum := journal.RowSum(r.Owner, r.Table, r.Key, have.Version, have.Epoch, have.Deleted, have.Value)
	switch {
	case sum == r.Sum && have.Home == r.Home && (have.Sum == (journal.Sum{}) || have.Sum == sum):
		return nil
	case store.Supersedes(r.Epoch, r.Version, have.Epoch, have.Version):
		m.report.Older++
	case store.Supersedes(have.Epoch, have.Version, r.Epoch, r.Version):
		m.report.Newer++
		if m.options.Careful {
			return m.leave(r.Owner)
		}
	default:
		m.report.Other++
		if m.options.Careful {
			return m.leave(r.Owner)
		}
	}
	return m.write(r)
}

// surplus is a row here that the origin does not have.
func (m *mending) surplus(owner region.UIN, t journal.Table, key []byte) error {
	m.report.Rows++
	m.report.Surplus++
	if m.options.Careful {
		return m.leave(owner)
	}
	return m.add(store.MendRow{Owner: owner, Gone: true, Row: store.Row{Table: t, Row: bytes.Clone(key)}})
}

func (m *mending) leave(owner region.UIN) error {
	m.report.Kept++
	m.differs(owner)
	return nil
}

func (m *mending) write(r *dump.Row) error {
	return m.add(store.MendRow{Owner: r.Owner, Home: r.Home, Row: store.Row{Table: r.Table, Row: bytes.Clone(r.Key), Version: r.Version,
		Epoch: r.Epoch, Deleted: r.Deleted, Value: bytes.Clone(r.Value)}})
}

func (m *mending) add(r store.MendRow) error {
	m.differs(r.Owner)
	if m.options.Try {
		return nil
	}
	m.piece.Rows = append(m.piece.Rows, r)
	m.size += len(r.Row.Row) + len(r.Value)
	if len(m.piece.Rows) >= pieceRows {
		return m.flush(0)
	}
	return m.flush(pieceBytes)
}

// differs counts owners, whose rows come one after the other.
func (m *mending) differs(owner region.UIN) {
	if owner != m.owner {
		m.report.Owners++
		m.owner = owner
	}
}

// flush makes the piece durable once it has enough bytes.
func (m *mending) flush(enough int) error {
	if m.size < enough {
		return nil
	}
	err := m.to.Mend(m.ctx, m.part.Partition, &m.piece)
	m.piece, m.size = store.Mending{Origin: m.piece.Origin}, 0
	return err
}

// errEnough ends the replica's Dump, of which only rows are needed.
var errEnough = errors.New("the rest is not needed")

// replica is the Sink that takes the replica's rows.
type replica mending

// State implements partition.Sink.
func (r *replica) State(region.Partition, *partition.State) error { return nil }

// Batch implements partition.Sink.
func (r *replica) Batch(uint64, []byte) error { return errEnough }

// Copy implements partition.Sink.
func (r *replica) Copy([]byte) error { return errEnough }

// Row implements partition.Sink.
func (r *replica) Row(owner region.UIN, t journal.Table, key []byte, have *partition.Row) error {
	m := (*mending)(r)
	if owner >= firstHigh {
		c := *have
		c.Value = bytes.Clone(have.Value)
		m.here = append(m.here, highRow{owner, t, bytes.Clone(key), c})
		return nil
	}
	for ; m.ahead != nil; m.advance() {
		switch c := cmp.Or(cmp.Compare(m.ahead.Owner, owner), cmp.Compare(m.ahead.Table, t), bytes.Compare(m.ahead.Key, key)); {
		case c < 0:
			if err := m.missing(m.ahead); err != nil {
				return err
			}
			continue
		case c == 0:
			err := m.both(m.ahead, have)
			m.advance()
			return err
		}
		break
	}
	if !m.part.Has(t, have.Home) {
		return nil
	}
	return m.surplus(owner, t, key)
}
