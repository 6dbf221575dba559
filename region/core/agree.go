package core

import (
	"context"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// The events of two users becoming contacts, in commands and system messages.
const (
	contactRequest  = "contact-request"
	contactAccepted = "contact-accepted"
	contactRefused  = "contact-refused"
)

// RequestContact asks another user to be a contact; the other one finds a system
// message, "contact-request". When both ask, both have agreed. Asking somebody
// who agreed already changes nothing. Whether the other one exists, blocks the
// caller or has room is not told.
//
// It returns once the request is durable here; it crosses to the other's region
// afterwards. A repeat under the same idempotency key asks once.
//
// Errors: BadInput for oneself, a group or a text over MaxRequest characters;
// NotFound for a user who cannot exist; Forbidden for one whom the caller
// blocks; TooLarge beyond MaxContacts.
func (c *Core) RequestContact(ctx context.Context, by Caller, r *v1.RequestContactRequest) (_ *v1.RequestContactResponse, err error) {
	defer c.m.count("RequestContact", &err)
	if err := checkText("text", r.Text, MaxRequest); err != nil {
		return nil, err
	}
	other, err := c.another(ctx, by, r.Uin)
	if err != nil {
		return nil, err
	}
	resp := new(v1.RequestContactResponse)
	err = c.once(ctx, by.UIN, "RequestContact", r.IdempotencyKey, r, resp, func(t *txn) error {
		row, err := t.contact(other.uin)
		if err != nil {
			return err
		}
		if row.Blocked {
			return region.Errorf(region.Forbidden, "you block user %d", r.Uin).WithHint("end the block first")
		}
		event := contactRequest
		switch row.State {
		case v1.ContactState_CONTACT_STATE_AGREED:
			resp.State = row.State
			return nil
		case v1.ContactState_CONTACT_STATE_ASKING:
			row.State, row.Removed, event = v1.ContactState_CONTACT_STATE_AGREED, false, contactAccepted
		default:
			row.State = v1.ContactState_CONTACT_STATE_ASKED
		}
		resp.State = row.State
		if err := t.saveContact(other.uin, row, MaxContacts); err != nil {
			return err
		}
		return t.sendContactAct(other, event, r.Text, "RequestContact", r.IdempotencyKey)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// AnswerContact accepts a request, which lists both users with each other, or
// refuses it. The one who asked finds a system message, "contact-accepted" or
// "contact-refused".
//
// Errors: BadInput; NotFound when that user does not ask.
func (c *Core) AnswerContact(ctx context.Context, by Caller, r *v1.AnswerContactRequest) (_ *v1.AnswerContactResponse, err error) {
	defer c.m.count("AnswerContact", &err)
	other, err := c.another(ctx, by, r.Uin)
	if err != nil {
		return nil, err
	}
	resp := new(v1.AnswerContactResponse)
	err = c.once(ctx, by.UIN, "AnswerContact", r.IdempotencyKey, r, resp, func(t *txn) error {
		row, err := t.contact(other.uin)
		if err != nil {
			return err
		}
		if row.State != v1.ContactState_CONTACT_STATE_ASKING {
			return region.Errorf(region.NotFound, "user %d does not ask", r.Uin).WithHint("sync; it may have been answered on another device")
		}
		event := contactRefused
		row.State = v1.ContactState_CONTACT_STATE_NONE
		if r.Accept {
			row.State, row.Removed, event = v1.ContactState_CONTACT_STATE_AGREED, false, contactAccepted
		}
		if err := t.saveContact(other.uin, row, MaxContacts); err != nil {
			return err
		}
		return t.sendContactAct(other, event, "", "AnswerContact", r.IdempotencyKey)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// BlockUser drops what another user sends to the caller from now on, contact
// requests included, or ends that. The other one is not told: see "Blocks" in
// the package comment. A request that waits for an answer goes without one.
//
// Errors: BadInput for oneself or a group; NotFound; TooLarge beyond MaxContacts.
func (c *Core) BlockUser(ctx context.Context, by Caller, r *v1.BlockUserRequest) (_ *v1.BlockUserResponse, err error) {
	defer c.m.count("BlockUser", &err)
	other, err := c.another(ctx, by, r.Uin)
	if err != nil {
		return nil, err
	}
	resp := new(v1.BlockUserResponse)
	err = c.once(ctx, by.UIN, "BlockUser", r.IdempotencyKey, r, resp, func(t *txn) error {
		row, err := t.contact(other.uin)
		if err != nil || row.Blocked == r.Blocked {
			return err
		}
		if row.Blocked = r.Blocked; r.Blocked && row.State == v1.ContactState_CONTACT_STATE_ASKING {
			row.State = v1.ContactState_CONTACT_STATE_NONE
		}
		return t.saveContact(other.uin, row, MaxContacts)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// another finds a user other than the caller.
func (c *Core) another(ctx context.Context, by Caller, uin uint64) (recipient, error) {
	if err := needUser(by); err != nil {
		return recipient{}, err
	}
	if uin == 0 || region.UIN(uin) == by.UIN {
		return recipient{}, region.Errorf(region.BadInput, "want the UIN of another user").WithHint("find it with Resolve")
	}
	other, err := c.reachable(ctx, region.UIN(uin))
	if err == nil && other.group {
		err = region.Errorf(region.BadInput, "UIN %d is a group", uin).WithHint("give a user's")
	}
	return other, err
}

// sendContactAct tells the other one what this transaction's owner decided.
func (t *txn) sendContactAct(to recipient, event, text, method, key string) error {
	payload, err := marshal(&v1.ContactAct{Actor: uint64(t.owner), Event: event, Text: text, UnixMilli: t.now})
	if err == nil {
		t.command(digest("homing.contact", keyUIN(t.owner), []byte(method), []byte{0}, []byte(key)), to.home, to.uin, methodContact, payload)
	}
	return err
}

// contactAct hears what another user decided. The system message that it makes,
// or its index row alone when there is none, is what makes it happen once.
func (t *txn) contactAct(o *operation) (string, error) {
	actor := region.UIN(o.contact.Actor)
	clientID := regionKey(o.contact.Event, o.command.ID[:])
	id := MessageID(actor, clientID)
	if _, found, err := t.known(id); err != nil || found {
		return repeated, err
	}
	account, err := t.theAccount()
	if err != nil {
		return "", err
	}
	if account == nil || account.Group {
		return dead, t.letter(o.from, o.command, "its target is no user")
	}
	row, err := t.contact(actor)
	if err != nil {
		return "", err
	}
	limit := uint64(MaxContacts)
	state := row.State
	switch {
	case row.Blocked:
		return blocked, t.drop(id)
	case o.contact.Event == contactRequest && state == v1.ContactState_CONTACT_STATE_ASKED,
		o.contact.Event == contactAccepted && state == v1.ContactState_CONTACT_STATE_ASKED:
		row.State, row.Removed = v1.ContactState_CONTACT_STATE_AGREED, false
	case o.contact.Event == contactRequest && state != v1.ContactState_CONTACT_STATE_AGREED:
		row.State, limit = v1.ContactState_CONTACT_STATE_ASKING, MaxAsking
	case o.contact.Event == contactRefused && state == v1.ContactState_CONTACT_STATE_ASKED:
		row.State = v1.ContactState_CONTACT_STATE_NONE
	case o.contact.Event == contactRequest:
		// The other one took an agreement back and asks again: it still holds here.
		v, err := t.c.view()
		if err != nil {
			return "", err
		}
		if p, ok := v.Placement(actor); ok {
			if err := t.sendContactAct(recipient{uin: actor, home: p.Home}, contactAccepted, "", "agreed", string(o.command.ID[:])); err != nil {
				return "", err
			}
		}
		return applied, t.drop(id)
	default:
		return refused, t.drop(id) // an answer to nothing
	}
	if err := t.saveContact(actor, row, limit); region.KindOf(err) == region.TooLarge {
		return refused, t.drop(id)
	} else if err != nil {
		return "", err
	}
	m := &v1.Message{Id: id[:], Sender: uint64(actor), To: uint64(t.owner), ClientMessageId: clientID, SentUnixMilli: o.contact.UnixMilli,
		Body: &v1.Body{Kind: &v1.Body_System{System: &v1.System{Event: o.contact.Event, Actor: uint64(actor), Text: o.contact.Text}}}}
	stored, err := marshal(m)
	if err != nil {
		return "", err
	}
	_, err = t.append(id, m, stored)
	return applied, err
}

// drop remembers that a message was taken, without keeping it.
func (t *txn) drop(id [16]byte) error {
	t.put(tableMessage, id[:], keySequence(0))
	return nil
}
