package core

import (
	"context"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// Recall takes back a message that the caller sent, from every inbox that has
// it: the body is replaced by a System, "recalled", for whoever syncs from the
// start, and a system message, "message-recalled", which names it, is appended
// for whoever has the message already. A message that is recalled before it
// arrives never shows. Of a group's message the former members hear too.
//
// It returns once the request is durable and the caller's own inbox is changed.
// Recalling again is no error.
//
// Errors: BadInput; NotFound when the caller sent no such message; Forbidden
// more than MaxRecall seconds after sending, by the clock of this region.
func (c *Core) Recall(ctx context.Context, by Caller, r *v1.RecallRequest) (_ *v1.RecallResponse, err error) {
	defer c.m.count("Recall", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	if err := checkKey("client_message_id", r.ClientMessageId); err != nil {
		return nil, err
	}
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	resp := new(v1.RecallResponse)
	err = c.once(ctx, by.UIN, "Recall", r.IdempotencyKey, r, resp, func(t *txn) error {
		id := MessageID(by.UIN, r.ClientMessageId)
		sequence, found, err := t.known(id)
		if err != nil {
			return err
		}
		if !found || sequence == 0 {
			return region.Errorf(region.NotFound, "you sent no such message").WithHint("give the client message ID of one of yours")
		}
		m, err := t.message(sequence)
		if err != nil || m.GetRecalled() {
			return err
		}
		if m == nil {
			return region.Errorf(region.NotFound, "the message is not kept any more").WithHint("recall it within %d s", MaxRecall)
		}
		if late := t.now - m.SentUnixMilli; late > MaxRecall*time.Second.Milliseconds() {
			return region.Errorf(region.Forbidden, "the message is %d s old", late/1000).WithHint("recall it within %d s", MaxRecall)
		}
		if err := t.takeBack(sequence, m, false); err != nil || region.UIN(m.To) == by.UIN {
			return err
		}
		p, ok := v.Placement(region.UIN(m.To))
		if !ok {
			return nil
		}
		payload, err := marshal(&v1.Recall{Sender: m.Sender, To: m.To, ClientMessageId: m.ClientMessageId, UnixMilli: t.now})
		if err == nil {
			t.command(digest("homing.recall", id[:]), p.Home, region.UIN(m.To), methodRecall, payload)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// takeBack empties a message of the owner's inbox, and says so at its end unless
// it is quiet.
//
// The row keeps its place and gets this moment's epoch. Sync's resume bisects by
// the rows' epochs, and a newer one among older rows can only make it
// resume earlier.
func (t *txn) takeBack(sequence uint64, m *v1.Message, quiet bool) error {
	if err := t.save(tableInbox, keySequence(sequence), emptied(m)); err != nil || quiet {
		return err
	}
	clientID := regionKey("message-recalled", m.Id)
	id := MessageID(region.UIN(m.Sender), clientID)
	if _, found, err := t.known(id); err != nil || found {
		return err
	}
	news := &v1.Message{Id: id[:], Sender: m.Sender, To: m.To, ClientMessageId: clientID, SentUnixMilli: t.now,
		Body: &v1.Body{Kind: &v1.Body_System{System: &v1.System{Event: "message-recalled", Actor: m.Sender, Message: m.Id}}}}
	stored, err := marshal(news)
	if err != nil {
		return err
	}
	_, err = t.append(id, news, stored)
	return err
}

// recalled hears that a message was taken back.
func (t *txn) recalled(o *operation) (string, error) {
	account, err := t.theAccount()
	if err != nil {
		return "", err
	}
	if account == nil {
		return dead, t.letter(o.from, o.command, "its target has no account")
	}
	if account.Group {
		return t.groupRecall(o)
	}
	sequence, found, err := t.known(o.id)
	switch {
	case err != nil:
		return "", err
	case !found:
		return applied, t.drop(o.id)
	case sequence == 0:
		return repeated, nil // dropped before
	}
	m, err := t.message(sequence)
	if err != nil {
		return "", err
	}
	if m == nil || m.Recalled {
		return repeated, nil
	}
	return applied, t.takeBack(sequence, m, o.recall.Erased)
}

// groupRecall sends a recall on to whoever may have the message: the members,
// and those who were members once. The index row of the news is what makes it
// happen once.
func (t *txn) groupRecall(o *operation) (string, error) {
	if method(o.command.Method) != methodRecall {
		return dead, t.letter(o.from, o.command, "a group is no member")
	}
	if _, found, err := t.known(o.id); err != nil || !found {
		return refused, err // the post was refused, and its sender told
	}
	id := MessageID(region.UIN(o.recall.Sender), regionKey("message-recalled", o.id[:]))
	if _, found, err := t.known(id); err != nil || found {
		return repeated, err
	}
	v, err := t.c.view()
	if err != nil {
		return "", err
	}
	homes := map[region.ID][]uint64{}
	// A limit, so that the commands stay within one batch.
	ever := store.Range{Limit: 4 * MaxMembers, Deleted: true}
	err = t.c.o.Store.Scan(t.ctx, t.owner, tableMember, ever, func(r *store.Row) bool {
		if u, ok := numberOf(r.Row); ok {
			if p, ok := v.Placement(region.UIN(u)); ok {
				homes[p.Home] = append(homes[p.Home], u)
			}
		}
		return true
	})
	if err != nil {
		return "", err
	}
	for _, home := range sorted(homes) {
		for part, left := 0, homes[home]; len(left) > 0; part++ {
			n := min(len(left), MaxMembers)
			payload, err := marshal(&v1.Recall{Sender: o.recall.Sender, To: o.recall.To, ClientMessageId: o.recall.ClientMessageId,
				UnixMilli: o.recall.UnixMilli, Members: left[:n], Erased: o.recall.Erased})
			if err != nil {
				return "", err
			}
			left = left[n:]
			t.command(digest("homing.group-recall", o.id[:], []byte{byte(part)}, []byte(home)), home, 0, methodGroupRecall, payload)
		}
	}
	return applied, t.drop(id)
}
