package core

import (
	"bytes"
	"context"
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// What became of a batch of a tail.
const (
	TailApplied  = "applied"
	TailKnown    = "known" // its messages were here already
	TailConflict = "conflict"
)

// fate is what happens to one row of a tail.
type fate uint8

const (
	takes fate = iota // the tail's row is written
	stays             // the row here stays, and nothing is lost by it
	clash             // it was changed here at a newer epoch: the batch conflicts
	joins             // it is a message of an inbox
)

// decideRow is the pure step of one row of a batch that was written at an epoch,
// where the row here is have.
func decideRow(epoch region.Epoch, w *journal.RowRecord, have *store.Row) fate {
	switch w.Table {
	case tableInbox:
		if w.Deleted {
			return stays // what was too old there will be too old here
		}
		return joins
	case tableContactHead, tableReadHead, tableSettingHead, tableInboxHead:
		return stays // they number the rows below them, which are written anew
	case tableMessage, tableOnce, tableDeadLetter, tableTail:
		// What was remembered under an ID is remembered; a message's index row goes
		// with the message.
		if have.Version > 0 || w.Table == tableMessage && !bytes.Equal(w.Value, keySequence(0)) {
			return stays
		}
		return takes
	}
	switch {
	case have.Deleted == w.Deleted && bytes.Equal(have.Value, w.Value) && have.Version > 0:
		return stays
	case have.Version > 0 && epoch.Less(have.Epoch):
		return clash
	}
	return takes
}

// Merge takes up batches of a tail: what the region before acknowledged for an
// owner after this region had taken the owner's home over. When it returns, each
// batch has taken effect, or is kept whole as a conflict; giving them again
// changes nothing.
//
// Messages are told apart by their ID and get new sequences. Other rows are
// written unless one of the batch was changed here since. Then the batch is a
// conflict, what restricts somebody holds whichever side says so, and the rows
// here are written again as they are, so that the region before, which has its
// own, learns of them when it returns.
//
// The commands of the batches are not executed: whoever acts for their targets
// reads them from the journal of the region before.
func (c *Core) Merge(ctx context.Context, batches []*journal.Batch) (outcomes []string, err error) {
	for _, b := range batches {
		outcome, err := c.merge(ctx, b)
		if err != nil {
			return outcomes, err
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes, nil
}

func tailKey(origin region.ID, p region.Partition, first uint64) []byte {
	b := append([]byte(origin), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(p))
	return binary.BigEndian.AppendUint64(b, first)
}

func (c *Core) merge(ctx context.Context, b *journal.Batch) (outcome string, err error) {
	key := tailKey(b.Origin, b.Partition, b.First())
	if over, err := c.overtaken(b); over || err != nil {
		return TailKnown, err
	}
	err = c.mutate(ctx, b.Owner, func(t *txn) error {
		var row v1.TailRow
		found, err := t.load(tableTail, key, &row)
		if err != nil {
			return err
		}
		if found {
			outcome = row.Outcome
			return nil
		}
		reason, held, err := t.mergeRows(b, &outcome)
		if err != nil {
			return err
		}
		row = v1.TailRow{Restrictions: held, Origin: string(b.Origin), Partition: uint32(b.Partition), First: b.First(), Last: b.Last(), Outcome: outcome, Reason: reason, UnixMilli: t.now}
		if outcome == TailConflict {
			if data := journal.Encode(b); len(data) <= store.MaxValue-1024 {
				row.Batch = data
			}
		}
		return t.save(tableTail, key, &row)
	})
	if err != nil {
		return "", err
	}
	c.heads.Remove(b.Owner)
	if outcome == TailConflict {
		c.log.Warn("a batch of a tail conflicts with what was written here since", "origin", b.Origin, "partition", b.Partition, "first", b.First())
	}
	return outcome, nil
}

// overtaken says whether a batch tells nothing but how a move of its owner stood, and
// the owner has moved since: the signed flip says more, and whoever acts for the old
// home may not write the owner's records any more.
func (c *Core) overtaken(b *journal.Batch) (bool, error) {
	v, err := c.view()
	if err != nil {
		return false, err
	}
	if p, ok := v.Placement(b.Owner); !ok || p.Epoch.Moves <= b.Epoch.Moves {
		return false, nil
	}
	for i := range b.Records {
		if row := b.Records[i].Row; row == nil || row.Table != tableMove {
			return false, nil
		}
	}
	return true, nil
}

// mergeRows adds a batch's effect to the transaction, and says what it is, and of
// a conflict what it restricted.
func (t *txn) mergeRows(b *journal.Batch, outcome *string) (reason string, held []*v1.TailRestriction, err error) {
	*outcome = TailKnown
	if done, err := t.mergeErased(b, outcome); done || err != nil {
		return "", nil, err
	}
	var others []*journal.RowRecord
	for i := range b.Records {
		w := b.Records[i].Row
		if kind := b.Records[i].Kind; !kind.Known() {
			reason = "a record is of kind " + itoa(uint64(kind)) + ", which this version does not know"
		}
		if b.Records[i].Kind != journal.KindRow {
			continue
		}
		have, err := t.get(w.Table, w.Row)
		if err != nil {
			return "", nil, err
		}
		switch decideRow(b.Epoch, w, &have) {
		case joins:
			fresh, err := t.mergeMessage(w)
			if err != nil {
				return "", nil, err
			}
			if fresh {
				*outcome = TailApplied
			}
			// The message here keeps its place against that of a term that was newer
			// than its own, and is over: an inbox has no holes, so there is no delete.
			if have.Exists() {
				t.reassert(b, w, &have)
			}
			continue
		case clash:
			reason = "a row of table " + itoa(uint64(w.Table)) + " was changed by both regions"
		}
		others = append(others, w)
	}
	for _, w := range others {
		have, err := t.get(w.Table, w.Row)
		if err != nil {
			return "", nil, err
		}
		switch f := decideRow(b.Epoch, w, &have); {
		case reason != "":
			var restricted bool
			if restricted, err = t.mergeRestriction(w, &have); restricted {
				held = append(held, &v1.TailRestriction{Table: uint32(w.Table), Row: w.Row, Before: have.Value})
			}
		case f == takes:
			*outcome = TailApplied
			err = t.mergeRow(w)
		}
		if err != nil {
			return "", nil, err
		}
		t.reassert(b, w, &have)
	}
	if reason != "" {
		*outcome = TailConflict
	}
	return reason, held, nil
}

// reassert writes a row again as it is here, unless it was written at this epoch
// already: the region before has another, which has to yield.
func (t *txn) reassert(b *journal.Batch, w *journal.RowRecord, have *store.Row) {
	switch {
	case t.wrote(w.Table, w.Row) >= 0:
	case have.Version > 0 && b.Epoch.Less(have.Epoch):
	case have.Exists():
		t.put(w.Table, w.Row, have.Value)
	default:
		t.delete(w.Table, w.Row)
	}
}

// mergeMessage puts a message of a tail behind the inbox, or carries over what
// was done to one that is there. It says whether it wrote.
func (t *txn) mergeMessage(w *journal.RowRecord) (bool, error) {
	m := new(v1.Message)
	if err := proto.Unmarshal(w.Value, m); err != nil || len(m.Id) != 16 {
		return false, region.Errorf(region.Internal, "a message of a tail is damaged").WithHint("repair the partition").WithCause(err)
	}
	id := [16]byte(m.Id)
	sequence, found, err := t.known(id)
	if err != nil {
		return false, err
	}
	if found && sequence == 0 {
		return false, nil
	}
	var here *v1.Message
	if found {
		if here, err = t.message(sequence); err != nil {
			return false, err
		}
		// This region wrote the message itself, behind the end of an earlier term of
		// its own, and a newer term has put another one in its place since.
		found = here == nil || bytes.Equal(here.Id, m.Id)
	}
	if !found {
		_, err := t.append(id, m, w.Value)
		return err == nil, err
	}
	if !m.Recalled || here == nil || here.Recalled {
		return false, nil
	}
	return true, t.takeBack(sequence, here, false)
}

// mergeRow writes a row of a tail where nothing newer is.
func (t *txn) mergeRow(w *journal.RowRecord) error {
	switch w.Table {
	case tableContact: // under a new change, so that clients who synced since learn of it
		row := new(v1.ContactRow)
		if u, ok := numberOf(w.Row); ok && !w.Deleted && proto.Unmarshal(w.Value, row) == nil {
			have, err := t.contact(region.UIN(u))
			if err != nil {
				return err
			}
			row.Change = have.Change
			return t.saveContact(region.UIN(u), row, MaxContacts+MaxContacts)
		}
	case tableSetting:
		row, head := new(v1.SettingRow), new(v1.SettingHeadRow)
		if !w.Deleted && proto.Unmarshal(w.Value, row) == nil {
			if _, err := t.load(tableSettingHead, keySingle, head); err != nil {
				return err
			}
			if have, err := t.get(tableSetting, w.Row); err != nil {
				return err
			} else if !have.Exists() {
				head.Settings++
			}
			head.Change++
			row.Change = head.Change
			if err := t.save(tableSetting, w.Row, row); err != nil {
				return err
			}
			return t.save(tableSettingHead, keySingle, head)
		}
	case tableRead:
		row := new(v1.ReadRow)
		if !w.Deleted && proto.Unmarshal(w.Value, row) == nil {
			var head v1.ReadHeadRow
			if _, err := t.load(tableReadHead, keySingle, &head); err != nil {
				return err
			}
			newest, err := t.newest()
			if err != nil {
				return err
			}
			if have, err := t.get(tableRead, w.Row); err != nil {
				return err
			} else if !have.Exists() {
				head.Peers++
			}
			head.Change++
			row.Change, row.Sequence = head.Change, min(row.Sequence, newest)
			if err := t.save(tableRead, w.Row, row); err != nil {
				return err
			}
			return t.save(tableReadHead, keySingle, &head)
		}
	}
	if w.Deleted {
		t.delete(w.Table, w.Row)
	} else {
		t.put(w.Table, w.Row, w.Value)
	}
	return nil
}

// mergeRestriction carries over what a conflicting row forbids: a block, a
// revoked device and a member put out hold until the conflict is resolved,
// whichever side knows of them. It says whether it wrote.
func (t *txn) mergeRestriction(w *journal.RowRecord, have *store.Row) (bool, error) {
	switch {
	case w.Table == tableMember && w.Deleted:
		if have.Exists() {
			t.delete(tableMember, w.Row)
		}
		return have.Exists(), nil
	case w.Deleted:
	case w.Table == tableContact:
		tail := new(v1.ContactRow)
		u, ok := numberOf(w.Row)
		if !ok || proto.Unmarshal(w.Value, tail) != nil || !tail.Blocked {
			return false, nil
		}
		here, err := t.contact(region.UIN(u))
		if err != nil || here.Blocked {
			return false, err
		}
		here.Blocked = true
		return true, t.saveContact(region.UIN(u), here, MaxContacts+MaxContacts)
	case w.Table == tableDevice:
		tail, here := new(v1.DeviceRow), new(v1.DeviceRow)
		if proto.Unmarshal(w.Value, tail) != nil || !tail.Revoked {
			return false, nil
		}
		if have.Exists() {
			if err := unmarshalRow(have, here); err != nil {
				return false, err
			}
		} else {
			here = tail
		}
		if here.Revoked && have.Exists() {
			return false, nil
		}
		here.Revoked, here.RevokedUnixMilli = true, tail.RevokedUnixMilli
		if len(w.Row) == 8 {
			t.revoked = append(t.revoked, [8]byte(w.Row))
		}
		return true, t.save(tableDevice, w.Row, here)
	}
	return false, nil
}

// lift takes a restriction back that a conflict laid on a row here, if the row
// still has it. A revoked device stays revoked: no key comes back.
func (t *txn) lift(r *v1.TailRestriction) error {
	switch table := journal.Table(r.Table); table {
	case tableMember:
		have, err := t.get(table, r.Row)
		if err == nil && !have.Exists() {
			t.put(table, r.Row, r.Before)
		}
		return err
	case tableContact:
		u, ok := numberOf(r.Row)
		if !ok {
			return nil
		}
		here, err := t.contact(region.UIN(u))
		if err != nil || !here.Blocked {
			return err
		}
		here.Blocked = false
		return t.saveContact(region.UIN(u), here, MaxContacts+MaxContacts)
	}
	return nil
}
