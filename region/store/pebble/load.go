package pebble

import (
	"encoding/json"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/disk"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// loadPiece is how many bytes of rows and journal go to Pebble at once.
const loadPiece = 4 << 20

// Loader fills a new directory with a store that was dumped. It is a
// partition.Sink, for one goroutine.
//
// Until Commit returns, Open refuses the directory: what was loaded half is
// never served. A Loader of the same directory begins anew then.
type Loader struct {
	s     *Store
	ops   *pebble.Batch
	id    region.Partition
	fence region.Fence
}

// Load opens a directory to be filled. It has to be empty, or to hold what an
// earlier Loader left unfinished.
//
// Errors: region.Conflict when it holds a store; region.Unavailable when the disk
// is nearly full, of Load as of what follows; otherwise those of Open.
func Load(options Options) (*Loader, error) {
	s, err := openAlone(options)
	if err != nil {
		return nil, err
	}
	l := &Loader{s: s, fence: region.Fence{}}
	if err := l.begin(); err != nil {
		return nil, errors.Join(err, s.shut())
	}
	l.ops = s.db.NewBatch()
	return l, nil
}

// begin marks the directory as unfinished, and empties it of what was.
func (l *Loader) begin() error {
	o := l.s.options
	have, err := l.s.meta()
	switch {
	case err != nil:
		return err
	case have != nil && !have.Loading:
		return region.Errorf(region.Conflict, "store directory %s has a store already", o.Dir).
			WithHint("load into another directory, or move this one away first")
	}
	if err := l.s.disk.Check(); err != nil {
		return err
	}
	if err := l.s.setMeta(meta{Layout: layout, Region: o.Region, Partitions: o.Partitions, Loading: true}); err != nil {
		return err
	}
	for _, prefix := range []byte{'f', 'j', 'k', 'p', 'r', 's', 't'} {
		if err := l.s.db.DeleteRange([]byte{prefix}, []byte{prefix + 1}, pebble.NoSync); err != nil {
			return l.unwritable(err)
		}
	}
	return nil
}

func (l *Loader) unwritable(err error) error {
	if err == nil {
		return nil
	}
	e := region.Errorf(region.Internal, "store directory %s cannot be written", l.s.options.Dir).WithCause(err)
	if disk.IsFull(err) {
		e.Hint = "make room on the disk, and load again"
	}
	return e
}

// State implements partition.Sink.
func (l *Loader) State(id region.Partition, st *partition.State) error {
	l.id = id
	for home, t := range st.Fence {
		l.fence.Raise(home, t)
	}
	set(l.ops, keyState(id), appendState(nil, st), nil)
	for k, at := range st.Positions {
		set(l.ops, keyPosition(id, k), appendPosition(nil, &at), nil)
	}
	for home, t := range st.Turns {
		value, err := json.Marshal(t)
		if err != nil {
			return err
		}
		set(l.ops, keyTurn(id, home), value, nil)
	}
	return l.flush(loadPiece)
}

// Row implements partition.Sink.
func (l *Loader) Row(owner region.UIN, t journal.Table, key []byte, r *partition.Row) error {
	set(l.ops, appendRowKey(nil, l.id, owner, t, key), appendRowHead(nil, r), r.Value)
	return l.flush(loadPiece)
}

// Batch implements partition.Sink.
func (l *Loader) Batch(first uint64, data []byte) error {
	set(l.ops, appendJournalKey(nil, l.id, first), data, nil)
	return l.flush(loadPiece)
}

// Copy implements partition.Sink.
func (l *Loader) Copy(data []byte) error {
	b, err := journal.Decode(data)
	if err != nil {
		return err
	}
	set(l.ops, appendCopyKey(nil, l.id, b.Origin, b.First()), data, nil)
	return l.flush(loadPiece)
}

// flush hands what is gathered to Pebble once there is enough of it.
func (l *Loader) flush(enough int) error {
	if l.ops.Len() < enough {
		return nil
	}
	if err := l.s.disk.Check(); err != nil {
		return err
	}
	if err := l.s.db.Apply(l.ops, pebble.NoSync); err != nil {
		return l.unwritable(err)
	}
	l.ops.Reset()
	return nil
}

// Commit makes all of it durable and the directory one that Open takes, and
// closes it.
func (l *Loader) Commit() error {
	for home, t := range l.fence {
		set(l.ops, keyFence(home), appendTerm(nil, t), nil)
	}
	o := l.s.options
	err := l.flush(0)
	if err == nil {
		// Pebble's log is one: what follows in it is durable after what was before.
		err = l.s.setMeta(meta{Layout: layout, Region: o.Region, Partitions: o.Partitions})
	}
	return errors.Join(err, l.Close())
}

// Close gives the directory up: unfinished, unless Commit was called.
func (l *Loader) Close() error {
	if l.ops == nil {
		return nil
	}
	err := errors.Join(l.ops.Close(), l.s.shut())
	l.ops = nil
	if err != nil {
		return l.unwritable(err)
	}
	return nil
}

// setMeta writes, durably, what the directory says about itself.
func (s *Store) setMeta(m meta) error {
	b, err := json.Marshal(m)
	if err == nil {
		err = s.db.Set(keyMeta, b, pebble.Sync)
	}
	if err != nil {
		return region.Errorf(region.Internal, "store directory %s cannot be written", s.options.Dir).WithCause(err)
	}
	return nil
}
