package core

import (
	"context"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// SetContact adds, renames or removes one of the caller's contacts, whether the
// other one agrees or not. A removed contact stays as a mark, so that every
// device of the caller hears of it; it takes back an agreement and leaves a
// block as it is.
//
// Errors: BadInput without a UIN or for a remark over MaxRemark characters;
// NotFound for one who cannot exist; TooLarge beyond MaxContacts; Conflict when
// the idempotency key was used for another request.
func (c *Core) SetContact(ctx context.Context, by Caller, r *v1.SetContactRequest) (_ *v1.SetContactResponse, err error) {
	defer c.m.count("SetContact", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	k := r.Contact
	if k.GetUin() == 0 {
		return nil, region.Errorf(region.BadInput, "the contact has no UIN").WithHint("find it with Resolve")
	}
	if err := checkText("remark", k.Remark, MaxRemark); err != nil {
		return nil, err
	}
	u := region.UIN(k.Uin)
	if !k.Removed {
		if _, err := c.reachable(ctx, u); err != nil {
			return nil, err
		}
	}
	resp := new(v1.SetContactResponse)
	err = c.once(ctx, by.UIN, "SetContact", r.IdempotencyKey, r, resp, func(t *txn) error {
		row, err := t.contact(u)
		if err != nil {
			return err
		}
		if row.Change == 0 && k.Removed {
			return nil // nothing to remove
		}
		if row.Remark, row.Removed = k.Remark, k.Removed; k.Removed {
			row.State = v1.ContactState_CONTACT_STATE_NONE
		}
		return t.saveContact(u, row, MaxContacts)
	})
	return resp, err
}

// contact returns what the owner keeps about another user. Its change is 0 when
// that is nothing; such a one is not listed.
func (t *txn) contact(u region.UIN) (*v1.ContactRow, error) {
	row := new(v1.ContactRow)
	found, err := t.load(tableContact, keyUIN(u), row)
	if err == nil && !found {
		row.Removed = true
	}
	return row, err
}

// saveContact writes it under the next change. A new one needs room below the
// limit; else the error is TooLarge.
func (t *txn) saveContact(u region.UIN, row *v1.ContactRow, limit uint64) error {
	var head v1.ContactHeadRow
	h, err := t.get(tableContactHead, keySingle)
	if err != nil {
		return err
	}
	if h.Exists() {
		if err := unmarshalRow(&h, &head); err != nil {
			return err
		}
	}
	if row.Change == 0 {
		if head.Contacts >= limit {
			return region.Errorf(region.TooLarge, "the contact list is full").WithHint("at most %d contacts, removed ones included", limit)
		}
		head.Contacts++
	}
	// Each row has a change of its own, so that a page of Sync may end anywhere.
	head.Change = max(head.Change, h.Version) + 1
	row.Change = head.Change
	if err := t.save(tableContact, keyUIN(u), row); err != nil {
		return err
	}
	return t.save(tableContactHead, keySingle, &head)
}
