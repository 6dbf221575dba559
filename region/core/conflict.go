package core

import (
	"context"
	"errors"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// The resolutions of a conflict.
const (
	KeepHere = "keep" // what was written here since stays, without the restrictions of the tail
	TakeTail = "tail" // the rows of the tail replace it
)

// MaxConflicts is the most that one list shows.
const MaxConflicts = 10_000

// ConflictID names a conflict: whose records, and the first record of the batch
// in the journal it came from.
type ConflictID LetterID

func (c ConflictID) String() string { return LetterID(c).String() }

// MarshalText makes IDs readable in JSON.
func (c ConflictID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (c *ConflictID) UnmarshalText(b []byte) (err error) {
	*c, err = ParseConflictID(string(b))
	return err
}

// ParseConflictID reads what String writes. Errors: region.BadInput.
func ParseConflictID(s string) (ConflictID, error) {
	id, ok := parseRecordID(s)
	if !ok {
		return ConflictID{}, region.Errorf(region.BadInput, "%.60q is no conflict", s).WithHint("want one of `homing conflict list`, such as 1000007/sh/3/42")
	}
	return ConflictID(id), nil
}

func (c ConflictID) key() []byte { return tailKey(c.Origin, c.Partition, c.Sequence) }

// Conflict is a batch of a tail that was not applied.
type Conflict struct {
	ID         ConflictID    `json:"id"`
	Last       uint64        `json:"last"` // of the batch's sequences
	Reason     string        `json:"reason"`
	UnixMilli  int64         `json:"unixMilli"`  // when it was found
	Resolution string        `json:"resolution"` // "" while it is open
	Rows       []ConflictRow `json:"rows,omitempty"`
}

// ConflictRow is a row that both regions wrote, in words for people.
type ConflictRow struct {
	Table string `json:"table"`
	Row   string `json:"row"`  // its key
	Tail  string `json:"tail"` // as the batch has it; "deleted" is a word of it
	Here  string `json:"here"` // as it is now
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// Conflicts returns the conflicts of the owners that this region acts for, open
// ones only unless all are asked for, at most [MaxConflicts], without their rows.
// It looks at every owner that a tail was merged for.
//
// Errors: Unsupported in a process that has no journal; the store's.
func (c *Core) Conflicts(ctx context.Context, all bool) ([]Conflict, error) {
	s, err := c.journaled()
	if err != nil {
		return nil, err
	}
	var out []Conflict
	list := func(owner region.UIN) error {
		var bad error
		err := s.Scan(ctx, owner, tableTail, store.Range{Limit: MaxConflicts}, func(r *store.Row) bool {
			var row v1.TailRow
			if bad = unmarshalRow(r, &row); bad == nil && row.Outcome == TailConflict && (all || row.Resolution == "") {
				out = append(out, conflictOf(owner, &row))
			}
			return bad == nil && len(out) < MaxConflicts
		})
		return errors.Join(err, bad)
	}
	for p := range region.Partition(s.Partitions()) {
		for u, err := range eachOwner(ctx, s, p, tableTail, 0) {
			if err != nil {
				return out, err
			}
			if _, err := c.acts(u); err != nil {
				continue
			}
			if err := list(u); err != nil || len(out) == MaxConflicts {
				return out, err
			}
		}
	}
	return out, nil
}

func conflictOf(owner region.UIN, row *v1.TailRow) Conflict {
	return Conflict{ID: ConflictID{owner, region.ID(row.Origin), region.Partition(row.Partition), row.First}, Last: row.Last,
		Reason: row.Reason, UnixMilli: row.UnixMilli, Resolution: row.Resolution}
}

// Conflict returns one conflict with its rows, as the tail has them and as they
// are here; without rows when the batch was too large to be kept.
//
// Errors: NotFound; WrongRegion; the store's.
func (c *Core) Conflict(ctx context.Context, id ConflictID) (Conflict, error) {
	if _, err := c.acts(id.Owner); err != nil {
		return Conflict{}, err
	}
	r, err := c.o.Store.Get(ctx, id.Owner, tableTail, id.key())
	if err != nil {
		return Conflict{}, err
	}
	var row v1.TailRow
	if r.Exists() {
		if err := unmarshalRow(&r, &row); err != nil {
			return Conflict{}, err
		}
	}
	if row.Outcome != TailConflict {
		return Conflict{}, noConflict(id)
	}
	k := conflictOf(id.Owner, &row)
	b, err := journal.Decode(row.Batch)
	if err != nil {
		return k, nil
	}
	for i := range b.Records {
		w := b.Records[i].Row
		if b.Records[i].Kind != journal.KindRow {
			continue
		}
		have, err := c.o.Store.Get(ctx, id.Owner, w.Table, w.Row)
		if err != nil {
			return Conflict{}, err
		}
		if fate := decideRow(b.Epoch, w, &have); fate == clash || fate == takes {
			k.Rows = append(k.Rows, ConflictRow{tableName(w.Table), rowKeyText(w.Row), rowText(w.Table, w.Deleted, w.Value), rowText(w.Table, !have.Exists(), have.Value)})
		}
	}
	return k, nil
}

func noConflict(id ConflictID) error {
	return region.Errorf(region.NotFound, "there is no conflict %s", id).WithHint("see: homing conflict list --all")
}

// ResolveConflict ends a conflict as an admin decided. It is for the region that acts for
// the owner now. Resolving it again the same way is no error.
//
// Errors: NotFound; BadInput for an unknown resolution; Conflict when it was
// resolved the other way; WrongRegion.
func (c *Core) ResolveConflict(ctx context.Context, id ConflictID, resolution string) error {
	if resolution != KeepHere && resolution != TakeTail {
		return region.Errorf(region.BadInput, "resolution %q: want %s or %s", resolution, KeepHere, TakeTail)
	}
	key := id.key()
	return c.mutate(ctx, id.Owner, func(t *txn) error {
		var row v1.TailRow
		found, err := t.load(tableTail, key, &row)
		switch {
		case err != nil:
			return err
		case !found || row.Outcome != TailConflict:
			return noConflict(id)
		case row.Resolution == resolution:
			return nil
		case row.Resolution != "":
			return region.Errorf(region.Conflict, "it was resolved before: %s", row.Resolution)
		}
		if resolution == TakeTail {
			b, err := journal.Decode(row.Batch)
			if err != nil {
				return region.Errorf(region.NotFound, "the batch was too large to be kept").WithHint("resolve it with keep").WithCause(err)
			}
			for i := range b.Records {
				w := b.Records[i].Row
				if b.Records[i].Kind != journal.KindRow {
					continue
				}
				have, err := t.get(w.Table, w.Row)
				if err != nil {
					return err
				}
				if decideRow(b.Epoch, w, &have) == clash || decideRow(b.Epoch, w, &have) == takes {
					if err := t.mergeRow(w); err != nil {
						return err
					}
				}
			}
		}
		if resolution == KeepHere {
			for _, r := range row.Restrictions {
				if err := t.lift(r); err != nil {
					return err
				}
			}
		}
		row.Resolution = resolution
		b, err := proto.Marshal(&row)
		if err == nil {
			t.put(tableTail, key, b)
		}
		return err
	})
}
