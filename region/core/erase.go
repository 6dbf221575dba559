package core

import (
	"bytes"
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/wire"
)

// eraseRows is how many rows of an erased account go with one commit. With the
// commands that follow from them they stay well inside a batch's limits.
const eraseRows = 200

// erasedTables are what an account leaves behind when only its row is marked, in
// the order in which they go. Idempotency keys go last: until then a repeat of a
// request that was under way finds its answer.
func erasedTables() []journal.Table {
	return []journal.Table{tableDevice, tableInbox, tableMessage, tableContact, tableContactHead, tableRead, tableReadHead,
		tableSetting, tableSettingHead, tableMade, tableInboxHead, tableDeadLetter, tableOnce, tableTail}
}

// EraseAccount ends the caller's account for ever: see "Erasure" in the package
// comment. The caller's device vouches by a signature (wire.DeviceErase), since a
// POP that ends TLS could put the request into the connection. It returns once
// the account is marked and its devices are revoked, durably; the rows go
// afterwards, in small steps.
//
// Errors: BadInput; Unauthenticated when the signature does not hold, and for
// every request after this one.
func (c *Core) EraseAccount(ctx context.Context, by Caller, r *v1.EraseAccountRequest) (_ *v1.EraseAccountResponse, err error) {
	defer c.m.count("EraseAccount", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	resp := new(v1.EraseAccountResponse)
	err = c.once(ctx, by.UIN, "EraseAccount", r.IdempotencyKey, r, resp, func(t *txn) error {
		if err := t.vouched(by, wire.DeviceErase, wire.EraseSubject(r.Sent), r.Signature); err != nil {
			return err
		}
		return t.markErased(r.Sent)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// Erase is EraseAccount by an administrator, of a user whom this region acts for.
// Erasing again is no error.
//
// Errors: NotFound without an account; BadInput for a group; WrongRegion.
func (c *Core) Erase(ctx context.Context, u region.UIN, sent bool) error {
	return c.mutate(ctx, u, func(t *txn) error { return t.markErased(sent) })
}

// markErased makes the account one that is erased, ends its devices, and asks
// for the rest by a command of the owner's to itself: that is durable, is
// executed until it is done, and passes to whoever acts for the owner later.
func (t *txn) markErased(sent bool) error {
	a, err := t.mustAccount()
	switch {
	case err != nil:
		return err
	case a.Group:
		return region.Errorf(region.BadInput, "UIN %d is a group", t.owner).WithHint("remove its members instead")
	case a.ErasedUnixMilli != 0:
		return nil
	}
	if err := t.saveAccount(&v1.AccountRow{ErasedUnixMilli: t.now}); err != nil {
		return err
	}
	err = t.c.devices(t.ctx, t.owner, func(keyID [8]byte, d *v1.DeviceRow) {
		if !d.Revoked {
			t.revoked = append(t.revoked, keyID)
		}
	})
	if err != nil {
		return err
	}
	for _, keyID := range t.revoked {
		var d v1.DeviceRow
		if _, err := t.load(tableDevice, keyID[:], &d); err != nil {
			return err
		}
		d.Revoked, d.RevokedUnixMilli = true, t.now
		if err := t.save(tableDevice, keyID[:], &d); err != nil {
			return err
		}
	}
	payload, err := marshal(&v1.Erase{Sent: sent, UnixMilli: t.now})
	if err != nil {
		return err
	}
	t.erased = true
	t.command(digest("homing.erase", keyUIN(t.owner)), t.place.Home, t.owner, methodErase, payload)
	return nil
}

// mergeErased decides about a batch of a tail when either side erased the account:
// that holds, and nothing of the tail is kept, not even as a conflict. It is false
// when neither did.
func (t *txn) mergeErased(b *journal.Batch, outcome *string) (bool, error) {
	a, err := t.theAccount()
	if err != nil {
		return false, err
	}
	if a.GetErasedUnixMilli() != 0 {
		for i := range b.Records {
			if w := b.Records[i].Row; b.Records[i].Kind == journal.KindRow {
				have, err := t.get(w.Table, w.Row)
				if err != nil {
					return false, err
				}
				t.reassert(b, w, &have)
			}
		}
		return true, nil
	}
	there, sent := false, false
	for i := range b.Records {
		r := &b.Records[i]
		switch {
		case r.Kind == journal.KindRow && r.Row.Table == tableAccount && !r.Row.Deleted:
			var row v1.AccountRow
			there = there || proto.Unmarshal(r.Row.Value, &row) == nil && row.ErasedUnixMilli != 0
		case r.Kind == journal.KindCommand && method(r.Command.Method) == methodErase:
			var e v1.Erase
			sent = proto.Unmarshal(r.Command.Payload, &e) == nil && e.Sent
		}
	}
	if !there || a == nil {
		return false, nil
	}
	*outcome = TailApplied
	return true, t.markErased(sent)
}

// asUser is mutate for a change that the owner asks for. Once this process has
// erased an account nothing is written any more, not even by a request that was
// let in before.
func (c *Core) asUser(ctx context.Context, owner region.UIN, change func(*txn) error) error {
	return c.mutate(ctx, owner, func(t *txn) error {
		if err := c.exists(owner); err != nil {
			return err
		}
		return change(t)
	})
}

// exists refuses an owner whose account this process has erased.
func (c *Core) exists(owner region.UIN) error {
	if _, gone := c.gone.Load(owner); gone {
		return isErased(owner)
	}
	return nil
}

func isErased(owner region.UIN) error {
	return region.Errorf(region.Unauthenticated, "account %d is erased", owner).WithHint("register a new one")
}

// wipe is how far the rows of an erased account have gone.
type wipe struct {
	table int // index in erasedTables
	from  []byte
}

// erase wipes some of the rows of an erased account. What the owner sent is
// taken back first if that was asked for, and the owner leaves the groups that
// the inbox tells of: a message is wiped in the commit that holds the commands
// that follow from it.
func (t *txn) erase(o *operation) (string, error) {
	a, err := t.theAccount()
	if err != nil {
		return "", err
	}
	if a == nil || a.ErasedUnixMilli == 0 {
		return refused, nil
	}
	// The mark may have been made by another process: what this one remembers of
	// the owner has to go, or messages would still be let in.
	t.forgets = true
	tables := erasedTables()
	o.next = wipe{o.wiped.table, bytes.Clone(o.wiped.from)}
	left := map[region.UIN]bool{}
	for rows := 0; o.next.table < len(tables); o.next = (wipe{table: o.next.table + 1}) {
		var gone []store.Row
		table := tables[o.next.table]
		err := t.c.o.Store.Scan(t.ctx, t.owner, table, store.Range{From: o.next.from, Limit: eraseRows - rows}, func(r *store.Row) bool {
			gone = append(gone, store.Row{Table: r.Table, Row: bytes.Clone(r.Row), Version: r.Version, Value: bytes.Clone(r.Value)})
			return true
		})
		if err != nil {
			return "", err
		}
		for i := range gone {
			if table == tableInbox {
				if err := t.withdraw(&gone[i], o.erase.Sent, left); err != nil {
					return "", err
				}
			}
			t.read = append(t.read, rowVersion{table, gone[i].Row, gone[i].Version})
			t.delete(table, gone[i].Row)
		}
		if rows += len(gone); rows >= eraseRows {
			o.next.from = append(gone[len(gone)-1].Row, 0)
			return partial, nil
		}
	}
	return applied, nil
}

// withdraw asks for what follows from wiping an entry of the inbox.
func (t *txn) withdraw(r *store.Row, sent bool, left map[region.UIN]bool) error {
	m, err := readMessage(r)
	if err != nil {
		return err
	}
	to := region.UIN(m.To)
	if to == t.owner {
		return nil
	}
	v, err := t.c.view()
	if err != nil {
		return err
	}
	p, ok := v.Placement(to)
	if !ok {
		return nil
	}
	if mine := region.UIN(m.Sender) == t.owner && m.Body.GetSystem() == nil; mine && sent {
		payload, err := marshal(&v1.Recall{Sender: m.Sender, To: m.To, ClientMessageId: m.ClientMessageId, UnixMilli: t.now, Erased: true})
		if err != nil {
			return err
		}
		t.command(digest("homing.erase-message", m.Id), p.Home, to, methodRecall, payload)
	}
	if left[to] {
		return nil
	}
	left[to] = true
	member, err := t.c.o.Store.Get(t.ctx, to, tableMember, keyUIN(t.owner)) // shared rows: here wherever the group lives
	if err != nil || !member.Exists() {
		return err
	}
	payload, err := marshal(&v1.GroupChange{Actor: uint64(t.owner), Member: uint64(t.owner), Remove: true, UnixMilli: t.now})
	if err != nil {
		return err
	}
	t.command(digest("homing.erase-member", keyUIN(t.owner), keyUIN(to)), p.Home, to, methodGroupChange, payload)
	return nil
}

// toErased is what becomes of a command for an erased account: nothing is kept,
// and who wrote a message is told that it reached nobody.
func (t *txn) toErased(o *operation) (string, error) {
	if o.message != nil && region.UIN(o.message.To) == t.owner {
		return refused, t.undelivered(o)
	}
	return refused, nil
}

// emptied is a message whose body was taken back.
func emptied(m *v1.Message) *v1.Message {
	empty := proto.CloneOf(m)
	empty.Sequence, empty.Recalled = 0, true
	empty.Body = &v1.Body{Kind: &v1.Body_System{System: &v1.System{Event: "recalled", Actor: m.Sender}}}
	return empty
}
