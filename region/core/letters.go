package core

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// LetterID names a dead letter: a command that could not be executed, by whose
// records it lies with and where it was read. As text it is
// "owner/origin/partition/sequence", such as "1000007/hk/3/42".
type LetterID struct {
	Owner     region.UIN // 0: the command has no target, or none that anybody acts for
	Origin    region.ID
	Partition region.Partition
	Sequence  uint64
}

func (l LetterID) String() string {
	return fmt.Sprintf("%d/%s/%d/%d", l.Owner, l.Origin, l.Partition, l.Sequence)
}

// ParseLetterID reads what String writes. Errors: region.BadInput.
func ParseLetterID(s string) (LetterID, error) {
	id, ok := parseRecordID(s)
	if !ok {
		return LetterID{}, region.Errorf(region.BadInput, "%.60q is no dead letter", s).WithHint("want one of `homing queue dead list`, such as 1000007/hk/3/42")
	}
	return id, nil
}

func parseRecordID(s string) (_ LetterID, ok bool) {
	f := strings.Split(s, "/")
	if len(f) != 4 || region.ID(f[1]).Valid() != nil {
		return LetterID{}, false
	}
	owner, err1 := strconv.ParseUint(f[0], 10, 64)
	partition, err2 := strconv.ParseUint(f[2], 10, 16)
	sequence, err3 := strconv.ParseUint(f[3], 10, 64)
	return LetterID{region.UIN(owner), region.ID(f[1]), region.Partition(partition), sequence}, err1 == nil && err2 == nil && err3 == nil
}

// Letter is a dead letter. It holds up nobody: its owner's later commands were
// executed, and what it would have done is missing until somebody replays it.
type Letter struct {
	ID      LetterID
	Method  string
	From    region.UIN // who caused it
	Reason  string
	Milli   int64 // Unix milliseconds: when it was put aside
	Payload []byte
}

// place is where the row lies.
func (l LetterID) place() (owner region.UIN, table journal.Table, row []byte) {
	row = letterKey(origin{region: l.Origin, partition: l.Partition, sequence: l.Sequence})
	if l.Owner == 0 {
		return nobody, tableLostLetter, row
	}
	return l.Owner, tableDeadLetter, row
}

// Letters returns the dead letters of the owners that this region acts for, and
// those of nobody, first those behind one; the zero ID is the beginning. Fewer
// than limit is the end. It looks at every owner of the region, so it takes a
// while in a large one.
//
// Errors: Unsupported in a process that has no journal; BadInput; the store's.
func (c *Core) Letters(ctx context.Context, after LetterID, limit int) ([]Letter, error) {
	s, err := c.journaled()
	if err != nil {
		return nil, err
	}
	if limit < 1 || limit > MaxLetters {
		return nil, region.Errorf(region.BadInput, "want 1 to %d dead letters, not %d", MaxLetters, limit).WithHint("ask for fewer")
	}
	var out []Letter
	list := func(owner region.UIN) error {
		from := LetterID{Owner: owner}
		if owner == after.Owner {
			from = after
		}
		lies, table, row := from.place()
		var bad error
		err := c.o.Store.Scan(ctx, lies, table, store.Range{From: row, Limit: limit + 1}, func(r *store.Row) bool {
			var l Letter
			if l, bad = letterFrom(owner, r); bad == nil && l.ID != after {
				out = append(out, l)
			}
			return bad == nil && len(out) < limit
		})
		if err == nil {
			err = bad
		}
		return err
	}
	if err := list(after.Owner); err != nil || len(out) == limit { // owner 0: those of nobody
		return out, err
	}
	start := region.PartitionOf(after.Owner, s.Partitions())
	if after.Owner == 0 {
		start = 0
	}
	for p := start; int(p) < s.Partitions(); p++ {
		behind := region.UIN(0)
		if p == start {
			behind = after.Owner
		}
		for u, err := range eachOwner(ctx, s, p, tableDeadLetter, behind) {
			if err != nil {
				return out, err
			}
			if _, err := c.acts(u); err != nil {
				continue
			}
			if err := list(u); err != nil || len(out) == limit {
				return out, err
			}
		}
	}
	return out, nil
}

func letterFrom(owner region.UIN, r *store.Row) (Letter, error) {
	var row v1.DeadLetterRow
	if err := unmarshalRow(r, &row); err != nil {
		return Letter{}, err
	}
	return Letter{ID: LetterID{owner, region.ID(row.Origin), region.Partition(row.Partition), row.Sequence}, Method: method(row.Method).String(),
		From: region.UIN(row.Owner), Reason: row.Reason, Milli: row.UnixMilli, Payload: row.Payload}, nil
}

// Letter returns one dead letter. Errors: NotFound; the store's.
func (c *Core) Letter(ctx context.Context, id LetterID) (Letter, error) {
	owner, table, row := id.place()
	r, err := c.o.Store.Get(ctx, owner, table, row)
	if err != nil {
		return Letter{}, err
	}
	if !r.Exists() {
		return Letter{}, region.Errorf(region.NotFound, "there is no dead letter %s", id).WithHint("it was replayed or discarded, or its owner is another region's; see the list")
	}
	return letterFrom(id.Owner, &r)
}

// ReplayLetter executes the command of a dead letter again, as if it arrived now,
// and removes the letter in the same commit. What took effect already has none.
//
// Errors: NotFound; Conflict when it still cannot be executed, and it stays;
// WrongRegion, Unavailable.
func (c *Core) ReplayLetter(ctx context.Context, id LetterID) error {
	owner, table, key := id.place()
	r, err := c.o.Store.Get(ctx, owner, table, key)
	if err != nil {
		return err
	}
	if !r.Exists() {
		_, err := c.Letter(ctx, id)
		return err
	}
	var row v1.DeadLetterRow
	if err := unmarshalRow(&r, &row); err != nil {
		return err
	}
	if len(row.Payload) >= maxLetter || len(row.Id) != 16 {
		return region.Errorf(region.Conflict, "only the beginning of the command was kept").WithHint("discard it")
	}
	from := origin{id.Origin, id.Partition, id.Sequence, region.UIN(row.Owner), row.UnixMilli}
	ops, targets, err := parse(from, &journal.Command{ID: journal.CommandID(row.Id), To: c.o.Self, Target: region.UIN(row.Target), Method: uint16(row.Method), Payload: row.Payload})
	if err != nil {
		return region.Errorf(region.Conflict, "it still cannot be executed: %v", err).WithHint("upgrade this region if a newer one sent it; else discard it")
	}
	for _, u := range targets {
		err := c.replay(ctx, u, ops[u], u == id.Owner)
		if region.KindOf(err) == region.NotFound {
			return region.Errorf(region.Conflict, "it still cannot be executed").WithHint("its target belongs to no region; discard it").WithCause(err)
		}
		if err != nil {
			return err
		}
	}
	if id.Owner == 0 {
		return c.commitLocal(ctx, store.Write{Table: tableLostLetter, Row: key, Delete: true, Expect: store.AtVersion(r.Version)})
	}
	c.log.Info("dead letter replayed", "origin", id.Origin, "partition", id.Partition, "sequence", id.Sequence)
	return nil
}

// replay executes one target's part of a dead letter, and removes the letter
// with the last of it if it lies with the target.
func (c *Core) replay(ctx context.Context, target region.UIN, o *operation, lies bool) error {
	for {
		outcome := ""
		err := c.mutate(ctx, target, func(t *txn) (err error) {
			if outcome, err = t.execute(o); err != nil {
				return err
			}
			if outcome == dead {
				return region.Errorf(region.Conflict, "it still cannot be executed").WithHint("see its reason; discard it, or make what it needs")
			}
			if outcome == partial || !lies {
				return nil
			}
			key := letterKey(o.from)
			if _, err := t.get(tableDeadLetter, key); err != nil { // the version to delete at
				return err
			}
			t.delete(tableDeadLetter, key)
			return nil
		})
		if err != nil || outcome != partial {
			return err
		}
		o.wiped = o.next
	}
}

// DiscardLetter forgets a dead letter for ever.
//
// Errors: NotFound; WrongRegion, Unavailable.
func (c *Core) DiscardLetter(ctx context.Context, id LetterID) error {
	if _, err := c.Letter(ctx, id); err != nil {
		return err
	}
	_, table, key := id.place()
	if id.Owner == 0 {
		return c.commitLocal(ctx, store.Write{Table: table, Row: key, Delete: true})
	}
	return c.mutate(ctx, id.Owner, func(t *txn) error {
		if _, err := t.get(table, key); err != nil {
			return err
		}
		t.delete(table, key)
		return nil
	})
}
