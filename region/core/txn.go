package core

import (
	"bytes"
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/wire"
)

const (
	// tries is how often a mutation is attempted when somebody else changed the
	// same rows in between: another process, or a request whose context ended
	// while its commit was under way.
	tries = 8
	// firstPause is before the second try, and doubles. Reads show only what is
	// durable, preconditions know what is about to be, so trying again at once
	// would meet the same conflict until that commit's fsync is done.
	firstPause = 500 * time.Microsecond
)

// txn is a change of one owner's records while it is put together. It reads its
// own writes. Every write carries the version that was read, so what was read
// still holds when it commits.
type txn struct {
	c     *Core
	ctx   context.Context
	owner region.UIN
	place region.Placement
	now   int64 // Unix milliseconds

	first bool // try: see repeats
	flies bool // its owner's lock is not held any more when it ends: see flight

	batch   store.Batch
	written map[string]int // index in batch.Writes by table and row, when they are many: see wrote
	read    []rowVersion
	bytes   int
	forgets bool // what is remembered of the owner may not hold any more

	head    head
	hasHead bool
	clean   []region.UIN // senders found not to be blocked
	account accountState
	group   *members // of a group, when they were looked at

	receipt store.Receipt // of the commit, when there was one

	notices []*v1.Message
	few     struct { // what a message takes is allocated with its transaction
		writes   [2]store.Write
		commands [1]journal.Command
		notices  [1]*v1.Message
	}
	revoked [][8]byte // devices whose connections end
	erased  bool      // the owner's account
}

// mutate makes one atomic change of the owner's records: change fills the
// transaction, which is then committed. change is called again, with a new
// transaction, when a precondition does not hold any more. A transaction that
// wrote nothing is not committed.
func (c *Core) mutate(ctx context.Context, owner region.UIN, change func(*txn) error) error {
	unlock, err := c.locks.lock(ctx, owner)
	if err != nil {
		return region.Errorf(region.Unavailable, "waiting for the owner's turn").WithHint("retry").WithCause(err)
	}
	defer unlock()
	for try := 1; ; try++ {
		p, err := c.admit(owner)
		if err == nil {
			err = c.stays(ctx, owner, p)
		}
		if err != nil {
			return err
		}
		err = c.attempt(ctx, owner, p, try == 1, change)
		if _, conflict := err.(stale); !conflict {
			return err
		}
		c.m.conflicts.Inc()
		if try == tries {
			return region.Errorf(region.Unavailable, "the records are being changed by others").WithHint("retry").WithCause(err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// pause waits before a try that follows a conflict.
func pause(ctx context.Context, try int) error {
	timer := time.NewTimer(firstPause << (try - 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return region.Errorf(region.Unavailable, "interrupted while others change the records").WithHint("retry").WithCause(ctx.Err())
	}
}

// stale is a conflict that the store found, as opposed to one that change did.
type stale struct{ error }

func (s stale) Unwrap() error { return s.error }

func (c *Core) attempt(ctx context.Context, owner region.UIN, p region.Placement, first bool, change func(*txn) error) error {
	t := c.newTxn(ctx, owner, p, first)
	if err := change(t); err != nil {
		return err
	}
	if t.empty() {
		return nil
	}
	receipt, err := c.o.Store.Commit(ctx, &t.batch)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = undecided(err)
	}
	return t.ended(receipt, err)
}

// undecided is the error of a change whose time was up before the store said what
// became of it.
func undecided(cause error) error {
	return region.Errorf(region.Unavailable, "the store did not say in time that it has the change").
		WithHint("retry under the same ID: it is stored once").WithCause(cause)
}

func (c *Core) newTxn(ctx context.Context, owner region.UIN, p region.Placement, first bool) *txn {
	t := &txn{c: c, ctx: ctx, owner: owner, place: p, now: c.o.Clock().UnixMilli(), first: first,
		batch: store.Batch{Owner: owner, Home: p.Home, Epoch: p.Epoch}}
	t.batch.Writes, t.batch.Commands, t.notices = t.few.writes[:0], t.few.commands[:0], t.few.notices[:0]
	return t
}

func (t *txn) empty() bool { return len(t.batch.Writes)+len(t.batch.Commands) == 0 }

// ended takes what became of the commit, and tells who has to know. It is called
// under the owner's lock, or, of flights, in their order: so notices come in the
// order of sequences.
func (t *txn) ended(receipt store.Receipt, err error) error {
	if err != nil {
		t.c.heads.Remove(t.owner) // whether it happened is unknown
		if region.KindOf(err) == region.Conflict {
			return stale{err}
		}
		return err
	}
	t.receipt = receipt
	if !t.flies {
		t.keepHead()
	}
	if t.erased {
		t.c.gone.Store(t.owner, struct{}{})
	}
	for _, m := range t.notices {
		t.c.o.Notifier.Notify(t.owner, m.Sequence, m)
	}
	for _, d := range t.revoked {
		t.c.o.Notifier.Revoked(t.owner, d)
	}
	return nil
}

func rowName(t journal.Table, row []byte) string { return string(append([]byte{byte(t)}, row...)) }

// rowVersion is a row that was read.
type rowVersion struct {
	table   journal.Table
	row     []byte
	version uint64
}

// fewWrites are found sooner by looking at each than by a map.
const fewWrites = 8

// wrote returns the index in batch.Writes of a row that this transaction wrote,
// or -1.
func (t *txn) wrote(table journal.Table, row []byte) int {
	if t.written != nil {
		if i, ok := t.written[rowName(table, row)]; ok {
			return i
		}
		return -1
	}
	for i := range t.batch.Writes {
		if w := &t.batch.Writes[i]; w.Table == table && bytes.Equal(w.Row, row) {
			return i
		}
	}
	return -1
}

// version returns the version at which a row was read; false when it was not.
func (t *txn) version(table journal.Table, row []byte) (uint64, bool) {
	for i := len(t.read) - 1; i >= 0; i-- {
		if r := &t.read[i]; r.table == table && bytes.Equal(r.row, row) {
			return r.version, true
		}
	}
	return 0, false
}

// get reads a row, as this transaction leaves it.
func (t *txn) get(table journal.Table, row []byte) (store.Row, error) {
	if i := t.wrote(table, row); i >= 0 {
		w := t.batch.Writes[i]
		v, _ := t.version(table, row)
		return store.Row{Table: table, Row: row, Version: v + 1, Epoch: t.place.Epoch, Deleted: w.Delete, Value: w.Value}, nil
	}
	r, err := t.c.o.Store.Get(t.ctx, t.owner, table, row)
	if err == nil {
		t.read = append(t.read, rowVersion{table, bytes.Clone(row), r.Version})
	}
	return r, err
}

// load reads a row into m and says whether it is there.
func (t *txn) load(table journal.Table, row []byte, m proto.Message) (bool, error) {
	r, err := t.get(table, row)
	if err != nil || !r.Exists() {
		return false, err
	}
	return true, unmarshalRow(&r, m)
}

func unmarshalRow(r *store.Row, m proto.Message) error {
	if err := proto.Unmarshal(r.Value, m); err != nil {
		return region.Errorf(region.Internal, "a row of table %d is damaged", r.Table).WithHint("repair the partition").WithCause(err)
	}
	return nil
}

// put writes a row, on the condition that it still is as it was read here; one
// that was not read has to be absent.
func (t *txn) put(table journal.Table, row, value []byte) { t.write(table, row, value, false) }

func (t *txn) delete(table journal.Table, row []byte) { t.write(table, row, nil, true) }

func (t *txn) write(table journal.Table, row, value []byte, del bool) {
	t.bytes += len(row) + len(value)
	t.forgets = t.forgets || table == tableAccount || table == tableContact
	if table == tableMove { // as of a tail: what was remembered of moves is over
		t.c.settled.Remove(t.owner)
	}
	if i := t.wrote(table, row); i >= 0 {
		t.batch.Writes[i].Value, t.batch.Writes[i].Delete = value, del
		return
	}
	expect := store.Absent()
	if v, ok := t.version(table, row); ok {
		expect = store.AtVersion(v)
	}
	n := len(t.batch.Writes)
	if n == fewWrites {
		t.written = make(map[string]int)
		for i, w := range t.batch.Writes {
			t.written[rowName(w.Table, w.Row)] = i
		}
	}
	if t.written != nil {
		t.written[rowName(table, row)] = n
	}
	t.batch.Writes = append(t.batch.Writes, store.Write{Table: table, Row: row, Value: value, Delete: del, Expect: expect})
}

func (t *txn) save(table journal.Table, row []byte, m proto.Message) error {
	b, err := marshal(m)
	if err == nil {
		t.put(table, row, b)
	}
	return err
}

// command asks another owner's acting region to do something, once this
// transaction is durable.
func (t *txn) command(id journal.CommandID, to region.ID, target region.UIN, m method, payload []byte) {
	t.bytes += len(payload)
	t.batch.Commands = append(t.batch.Commands, journal.Command{ID: id, To: to, Target: target, Method: uint16(m), Payload: payload})
}

// marshal is deterministic, so that equal requests have equal sums.
func marshal(m proto.Message) ([]byte, error) {
	b, err := wire.AppendProto(nil, m)
	if err != nil {
		return nil, region.Errorf(region.BadInput, "cannot encode: a text is not UTF-8").WithCause(err)
	}
	return b, nil
}
