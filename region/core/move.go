package core

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/wire"
)

// retryMove is how soon a client should ask again for whom a move refuses writes:
// mostly that takes half a second, and a pause that doubles would make two of it.
const retryMove = 200 * time.Millisecond

// Bounds of one piece of an owner's rows, well inside the store's own.
const (
	pieceRows  = 256
	pieceBytes = 256 << 10
)

// Move is an owner on the way from one home to another, as the owner's records
// say where this region acts for it.
type Move struct {
	Owner region.UIN       `json:"owner"`
	From  region.ID        `json:"from"`  // the old home
	To    region.ID        `json:"to"`    // the new home
	Moves uint64           `json:"moves"` // the owner's, after the move
	Part  region.Partition `json:"partition"`
	Fence Mark             `json:"fence"` // the record of this region's journal that fences the owner, or a later one
	Sent  bool             `json:"sent"`  // rows may be at the new home: it cannot be called off any more
	Gone  bool             `json:"gone"`  // the owner is there; what is left here has to be removed
}

// MovedRow is a row that moves with its owner.
type MovedRow struct {
	Table journal.Table `json:"t"`
	Row   []byte        `json:"r"`
	Value []byte        `json:"v"`
}

// stays returns nil when the owner may be written at its epoch: no move has
// begun. What was read is remembered until the epoch changes; moves begin under
// the owner's lock, which the caller holds.
//
// Errors: Unavailable.
func (c *Core) stays(ctx context.Context, owner region.UIN, p region.Placement) error {
	if e, ok := c.settled.Get(owner); ok && e == p.Epoch {
		return nil
	}
	m, err := c.moveOf(ctx, owner)
	if err != nil {
		return err
	}
	if m.Moves > p.Epoch.Moves {
		return &wire.Error{RetryAfter: retryMove, Err: region.Errorf(region.Unavailable, "the user is moving to region %s", m.To).
			WithHint("retry; it takes a moment")}
	}
	c.settled.Add(owner, p.Epoch)
	return nil
}

// moveOf returns the owner's newest move; the zero one when there was none.
func (c *Core) moveOf(ctx context.Context, owner region.UIN) (*v1.MoveRow, error) {
	m := new(v1.MoveRow)
	r, err := c.o.Store.Get(ctx, owner, tableMove, keySingle)
	if err == nil && r.Exists() {
		err = unmarshalRow(&r, m)
	}
	return m, err
}

// BeginMove fences an owner that this region acts for: from when it returns no
// write of the owner's is acknowledged here. Beginning the same move again is no
// error; its fence is a later record then.
//
// Errors: BadInput for a home that is none, or the owner's own; NotFound;
// Conflict when the owner moves elsewhere; WrongRegion; Unsupported where several
// processes write.
func (c *Core) BeginMove(ctx context.Context, owner region.UIN, to region.ID) (Move, error) {
	s, err := c.journaled()
	if err != nil {
		return Move{}, err
	}
	unlock, err := c.locks.lock(ctx, owner)
	if err != nil {
		return Move{}, region.Errorf(region.Unavailable, "waiting for the owner's turn").WithHint("retry").WithCause(err)
	}
	defer unlock()
	p, err := c.admit(owner)
	if err != nil {
		return Move{}, err
	}
	v, err := c.view()
	if err != nil {
		return Move{}, err
	}
	part := region.PartitionOf(owner, s.Partitions())
	m := Move{Owner: owner, From: p.Home, To: to, Moves: p.Epoch.Moves + 1, Part: part, Fence: Mark{Incarnation: s.Head(part).Incarnation}}
	if _, ok := v.World.Region(to); !ok || to == p.Home {
		return m, region.Errorf(region.BadInput, "%d lives in %s and cannot move to %q", owner, p.Home, to).WithHint("name another region of the world")
	}
	row, err := c.moveOf(ctx, owner)
	switch {
	case err != nil:
		return m, err
	case row.Moves > p.Epoch.Moves && (row.To != string(to) || row.Moves != m.Moves):
		return m, region.Errorf(region.Conflict, "%d is moving to %s", owner, row.To).WithHint("wait until it has")
	case row.Moves > p.Epoch.Moves:
		m.Fence.Seq, m.Sent = s.Head(part).Next-1, row.Sent
		return m, nil
	}
	account, err := s.Get(ctx, owner, tableAccount, keySingle)
	if err != nil {
		return m, err
	}
	if !account.Exists() {
		return m, region.Errorf(region.NotFound, "%d has no account", owner).WithHint("check the number")
	}
	c.settled.Remove(owner)
	b, err := proto.Marshal(&v1.MoveRow{From: string(p.Home), To: string(to), Moves: m.Moves, UnixMilli: c.o.Clock().UnixMilli()})
	if err != nil {
		return m, err
	}
	receipt, err := s.Commit(ctx, &store.Batch{Owner: owner, Home: p.Home, Epoch: p.Epoch, Writes: []store.Write{{Table: tableMove, Row: keySingle, Value: b}}})
	m.Fence.Seq = receipt.Last
	return m, err
}

// CallOff ends a move of which nothing was sent yet, and lets the owner be
// written again.
//
// Errors: Conflict when rows may be at the new home, because this region sent them
// or the one that acted before may have; WrongRegion.
func (c *Core) CallOff(ctx context.Context, m Move) error {
	return c.changeMove(ctx, m, func(row *v1.MoveRow, fenced, now region.Epoch) error {
		if row.Sent || fenced != now {
			return region.Errorf(region.Conflict, "%d is on its way to %s", m.Owner, m.To).WithHint("it goes on by itself")
		}
		row.Moves = 0
		return nil
	})
}

// MarkSent puts on record that rows are about to be sent.
func (c *Core) MarkSent(ctx context.Context, m Move) error {
	return c.changeMove(ctx, m, func(row *v1.MoveRow, _, _ region.Epoch) error { row.Sent = true; return nil })
}

// fenceHere writes the fence of a move again when another region wrote it, at an
// older term. That one may have called the move off since, in a tail that is still
// to come; and it may be the backup that has to have the fence.
func (c *Core) fenceHere(ctx context.Context, m *Move) error {
	s, err := c.journaled()
	if err != nil {
		return err
	}
	p, err := c.admit(m.Owner)
	if err != nil {
		return err
	}
	if row, err := s.Get(ctx, m.Owner, tableMove, keySingle); err != nil || row.Epoch == p.Epoch {
		return err
	}
	if err := c.changeMove(ctx, *m, func(*v1.MoveRow, region.Epoch, region.Epoch) error { return nil }); err != nil {
		return err
	}
	h := s.Head(m.Part)
	m.Fence = Mark{h.Incarnation, h.Next - 1}
	return nil
}

func (c *Core) changeMove(ctx context.Context, m Move, change func(row *v1.MoveRow, fenced, now region.Epoch) error) error {
	unlock, err := c.locks.lock(ctx, m.Owner)
	if err != nil {
		return region.Errorf(region.Unavailable, "waiting for the owner's turn").WithHint("retry").WithCause(err)
	}
	defer unlock()
	p, err := c.admit(m.Owner)
	if err != nil {
		return err
	}
	have, err := c.o.Store.Get(ctx, m.Owner, tableMove, keySingle)
	if err != nil {
		return err
	}
	row := new(v1.MoveRow)
	if have.Exists() {
		if err := unmarshalRow(&have, row); err != nil {
			return err
		}
	}
	if row.Moves != m.Moves || row.To != string(m.To) {
		return region.Errorf(region.Conflict, "%d is not moving to %s any more", m.Owner, m.To)
	}
	if err := change(row, have.Epoch, p.Epoch); err != nil {
		return err
	}
	b, err := proto.Marshal(row)
	if err != nil {
		return err
	}
	_, err = c.o.Store.Commit(ctx, &store.Batch{Owner: m.Owner, Home: p.Home, Epoch: p.Epoch, Writes: []store.Write{{Table: tableMove, Row: keySingle, Value: b}}})
	return err
}

// Moving returns the moves that are this region's to carry on: of owners that it
// acts for, and of those that have moved away and left rows here. It looks at
// every owner that ever moved.
//
// Errors: Unsupported; the store's.
func (c *Core) Moving(ctx context.Context) ([]Move, error) {
	s, err := c.journaled()
	if err != nil {
		return nil, err
	}
	var out []Move
	for part := range region.Partition(s.Partitions()) {
		for u, err := range eachOwner(ctx, s, part, tableMove, 0) {
			if err != nil {
				return out, err
			}
			m, ours, err := c.moving(ctx, u)
			if err != nil {
				return out, err
			}
			if ours {
				h := s.Head(part)
				m.Part, m.Fence = part, Mark{h.Incarnation, h.Next - 1}
				out = append(out, m)
			}
		}
	}
	return out, nil
}

// moving says whether the owner has a move that is this region's to carry on.
func (c *Core) moving(ctx context.Context, u region.UIN) (Move, bool, error) {
	v, err := c.view()
	if err != nil {
		return Move{}, false, err
	}
	row, err := c.moveOf(ctx, u)
	if err != nil || row.Moves == 0 || row.From == "" {
		return Move{}, false, err
	}
	p, _ := v.Placement(u)
	m := Move{Owner: u, From: region.ID(row.From), To: region.ID(row.To), Moves: row.Moves, Sent: row.Sent || row.Arrived, Gone: p.Epoch.Moves >= row.Moves}
	if acting, _, _ := v.Acting(m.From); acting != c.o.Self {
		return m, false, nil
	}
	if !row.Arrived || !m.Gone {
		return m, true, nil
	}
	// The new home's copies took the place of the rows here. Who writes them, too,
	// has told everybody by that; a second copy of them does not reach the old home's.
	if acting, _, _ := v.Acting(m.To); acting == c.o.Self {
		return m, false, nil
	}
	left, err := c.left(ctx, u)
	return m, left < m.Moves, err
}

// left is the last move after which the rows of an owner here were taken back.
func (c *Core) left(ctx context.Context, u region.UIN) (moves uint64, err error) {
	r, err := c.o.Store.Get(ctx, u, tableLeft, keySingle)
	if err == nil && r.Exists() {
		moves, _ = numberOf(r.Value)
	}
	return moves, err
}

// movable says whether rows of a table go with their owner: all that other regions
// have, but the state of the move.
func movable(t journal.Table) bool { return t != tableMove && t.Class() != journal.ClassLocal }

// Rows gives the rows of an owner that move, in pieces of bounded size; what is
// yielded is the callee's. The owner should be fenced.
func (c *Core) Rows(ctx context.Context, owner region.UIN, yield func([]MovedRow) error) error {
	var piece []MovedRow
	size := 0
	flush := func() error {
		if len(piece) == 0 {
			return nil
		}
		err := yield(piece)
		piece, size = nil, 0
		return err
	}
	err := c.eachRow(ctx, owner, func(r *store.Row) error {
		if !r.Exists() {
			return nil
		}
		if len(piece) == pieceRows || size > 0 && size+len(r.Row)+len(r.Value) > pieceBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		piece = append(piece, MovedRow{r.Table, append([]byte(nil), r.Row...), append([]byte(nil), r.Value...)})
		size += len(r.Row) + len(r.Value)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// eachRow calls f for the owner's movable rows, tombstones included, own ones
// before those that every region sees. f may write.
func (c *Core) eachRow(ctx context.Context, owner region.UIN, f func(*store.Row) error) error {
	for t := range journal.Table(255) {
		table := journal.Table(255) - t // own tables have the greater numbers
		if !movable(table) {
			continue
		}
		for from := []byte(nil); ; {
			var rows []store.Row
			err := c.o.Store.Scan(ctx, owner, table, store.Range{From: from, Limit: pieceRows, Deleted: true}, func(r *store.Row) bool {
				k := *r
				k.Row, k.Value = append([]byte(nil), r.Row...), append([]byte(nil), r.Value...)
				rows = append(rows, k)
				return true
			})
			if err != nil {
				return err
			}
			for i := range rows {
				if err := f(&rows[i]); err != nil {
					return err
				}
			}
			if len(rows) < pieceRows {
				break
			}
			from = append(rows[len(rows)-1].Row, 0)
		}
	}
	return nil
}

// arrival is the epoch at which rows of an owner arrive in a home, which this
// region has to act for. The owner may live here by the overlay already: then
// whoever had the rows was lost before its backup, now this region, had them.
func (c *Core) arrival(owner region.UIN, home region.ID, moves uint64) (region.Epoch, error) {
	v, err := c.view()
	if err != nil {
		return region.Epoch{}, err
	}
	acting, term, ok := v.Acting(home)
	if !ok || acting != c.o.Self {
		return region.Epoch{}, region.Errorf(region.WrongRegion, "region %s does not act for %s", c.o.Self, home).WithHint("ask region %s", acting)
	}
	if p, ok := v.Placement(owner); !ok || p.Epoch.Moves > moves || p.Epoch.Moves == moves && p.Home != home {
		return region.Epoch{}, region.Errorf(region.Conflict, "%d has moved %d times already", owner, p.Epoch.Moves)
	}
	if c.o.Taken != nil {
		if err := c.o.Taken(home, term, region.PartitionOf(owner, c.o.Store.Partitions())); err != nil {
			return region.Epoch{}, err
		}
	}
	return region.Epoch{Moves: moves, Term: term}, c.o.Admitting()
}

// Receive writes a piece of an owner's rows under its new home, at the epoch that
// it returns. Writing it again changes nothing. Nobody is served from them before
// the world's overlay says that the owner lives here.
//
// Errors: WrongRegion when this region does not act for the home; Conflict when
// the owner has moved on, or has arrived; Unavailable.
func (c *Core) Receive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, rows []MovedRow) (region.Epoch, error) {
	unlock, err := c.locks.lock(ctx, owner)
	if err != nil {
		return region.Epoch{}, region.Errorf(region.Unavailable, "waiting for the owner's turn").WithHint("retry").WithCause(err)
	}
	defer unlock()
	epoch, err := c.arrival(owner, home, moves)
	if err != nil {
		return epoch, err
	}
	if row, err := c.moveOf(ctx, owner); err != nil || row.Arrived && row.Moves == moves {
		return epoch, err
	}
	b := &store.Batch{Owner: owner, Home: home, Epoch: epoch}
	for _, r := range rows {
		if !movable(r.Table) {
			return epoch, region.Errorf(region.BadInput, "a row of table %d does not move", r.Table)
		}
		have, err := c.o.Store.Get(ctx, owner, r.Table, r.Row)
		if err != nil {
			return epoch, err
		}
		if have.Exists() && have.Epoch == epoch && string(have.Value) == string(r.Value) {
			continue
		}
		b.Writes = append(b.Writes, store.Write{Table: r.Table, Row: r.Row, Value: r.Value})
	}
	if len(b.Writes) == 0 {
		return epoch, nil
	}
	_, err = c.o.Store.Commit(ctx, b)
	return epoch, err
}

// Arrival is the answer of Arrive.
type Arrival struct {
	Mark         // the record of this region's journal up to which everything is in
	Missing bool // the rows are not here: they have to be sent, all of them, and at one epoch
}

// Arrive ends the copying of rows that were received at an epoch: what was here
// of the owner and did not come is removed, and it is on record, durably, that the
// owner can be served from here. The rows are missing when they came at another
// epoch than that which the home is at now, or not at all (the zero epoch).
//
// Errors: those of Receive; Unsupported.
func (c *Core) Arrive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, sent region.Epoch) (Arrival, error) {
	s, err := c.journaled()
	if err != nil {
		return Arrival{}, err
	}
	unlock, err := c.locks.lock(ctx, owner)
	if err != nil {
		return Arrival{}, region.Errorf(region.Unavailable, "waiting for the owner's turn").WithHint("retry").WithCause(err)
	}
	defer unlock()
	part := region.PartitionOf(owner, s.Partitions())
	here := func() Arrival { h := s.Head(part); return Arrival{Mark: Mark{h.Incarnation, h.Next - 1}} }
	epoch, err := c.arrival(owner, home, moves)
	if err != nil {
		return Arrival{}, err
	}
	row, err := c.moveOf(ctx, owner)
	if err != nil {
		return Arrival{}, err
	}
	if row.Arrived && row.Moves == moves && row.To == string(home) {
		return here(), nil
	}
	if sent != epoch {
		return Arrival{Missing: true}, nil
	}
	err = c.eachRow(ctx, owner, func(r *store.Row) error {
		if !r.Exists() || r.Epoch == epoch {
			return nil
		}
		_, err := s.Commit(ctx, &store.Batch{Owner: owner, Home: home, Epoch: epoch, Writes: []store.Write{{Table: r.Table, Row: r.Row, Delete: true}}})
		return err
	})
	if err != nil {
		return Arrival{}, err
	}
	// Where the old home's region keeps this home's second copy, this row takes the
	// place of its own: it names the old home, because that one has to go on.
	there := &v1.MoveRow{To: string(home), Moves: moves, Arrived: true, UnixMilli: c.o.Clock().UnixMilli()}
	if v, err := c.view(); err != nil {
		return Arrival{}, err
	} else if p, ok := v.Placement(owner); ok && p.Epoch.Moves < moves {
		there.From = string(p.Home)
	} else if row.Moves == moves {
		there.From = row.From
	}
	b, err := proto.Marshal(there)
	if err != nil {
		return Arrival{}, err
	}
	if _, err := s.Commit(ctx, &store.Batch{Owner: owner, Home: home, Epoch: epoch, Writes: []store.Write{{Table: tableMove, Row: keySingle, Value: b}}}); err != nil {
		return Arrival{}, err
	}
	c.forgetOwner(owner)
	return here(), nil
}

// HeldUpTo says whether the backup of a home is known to have this region's journal
// of a partition up to a record.
func (c *Core) HeldUpTo(home region.ID, p region.Partition, m Mark) bool {
	h, ok := c.o.Held(home, p)
	return ok && h.Incarnation == m.Incarnation && h.Seq >= m.Seq
}

// Depart removes what is left here of an owner that moved away, once the new
// home's backup has it. The tombstones count in no region's digest, and yield to
// what the new home wrote: where that is here already they are for this region's
// copies only, see [store.Departed].
func (c *Core) Depart(ctx context.Context, owner region.UIN, moves uint64) error {
	c.forgetOwner(owner)
	b := &store.Batch{Owner: owner, Home: store.Departed, Epoch: region.Epoch{Moves: moves}}
	flush := func() error {
		if len(b.Writes) == 0 {
			return nil
		}
		_, err := c.o.Store.Commit(ctx, b)
		b.Writes = nil
		return err
	}
	err := c.eachRow(ctx, owner, func(r *store.Row) error {
		if r.Table.Class() != journal.ClassOwn || !r.Exists() && r.Epoch.Moves < moves {
			return nil
		}
		b.Writes = append(b.Writes, store.Write{Table: r.Table, Row: r.Row, Delete: true, Expect: store.AtVersion(r.Version)})
		if len(b.Writes) == pieceRows {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	// The state of the move goes last: while it is there, this is tried again.
	r, err := c.o.Store.Get(ctx, owner, tableMove, keySingle)
	if err != nil {
		return err
	}
	if r.Exists() {
		b.Writes = append(b.Writes, store.Write{Table: tableMove, Row: keySingle, Delete: true, Expect: store.AtVersion(r.Version)})
	}
	if r.Epoch.Moves >= moves {
		b.Writes = append(b.Writes, store.Write{Table: tableLeft, Row: keySingle, Value: keyNumber(moves)})
	}
	return flush()
}

func (c *Core) forgetOwner(u region.UIN) {
	c.heads.Remove(u)
	c.kinds.Remove(u)
	c.settled.Remove(u)
}

// forward writes commands again whose target has moved to another home, as its
// new home's. They stay their sender's, and take effect once: those of one target
// keep their IDs, and what a group sends carries the message's.
func (c *Core) forward(ctx context.Context, target region.UIN, to region.ID, ops []*operation) error {
	for _, o := range ops {
		cmd := *o.command
		cmd.To = to
		if cmd.Target == 0 { // one of several members
			var err error
			if cmd.Payload, err = onlyTo(target, o); err != nil {
				return err
			}
			cmd.ID = digest("homing.forward", cmd.ID[:], keyUIN(target))
		}
		_, err := c.o.Store.Commit(ctx, &store.Batch{Owner: o.from.owner, Home: store.Departed, Commands: []journal.Command{cmd}})
		if err != nil {
			return err
		}
		c.m.commands.WithLabelValues(o.method().String(), forwarded).Inc()
	}
	return nil
}

// onlyTo is the payload of a command to members, for one of them.
func onlyTo(member region.UIN, o *operation) ([]byte, error) {
	if o.recall != nil {
		r := proto.Clone(o.recall).(*v1.Recall)
		r.Members = []uint64{uint64(member)}
		return marshal(r)
	}
	d := new(v1.GroupDeliver)
	if err := proto.Unmarshal(o.command.Payload, d); err != nil {
		return nil, region.Errorf(region.Internal, "a command is damaged").WithCause(err)
	}
	d.Members = []uint64{uint64(member)}
	return marshal(d)
}
