package core

import (
	"context"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// SetContact adds, renames or removes one of the caller's contacts. A removed
// contact stays as a mark, so that every device of the caller hears of it.
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
		var headRow v1.ContactHeadRow
		h, err := t.get(tableContactHead, keySingle)
		if err != nil {
			return err
		}
		if h.Exists() {
			if err := unmarshalRow(&h, &headRow); err != nil {
				return err
			}
		}
		var row v1.ContactRow
		found, err := t.load(tableContact, keyUIN(u), &row)
		if err != nil {
			return err
		}
		if !found {
			if k.Removed {
				return nil // nothing to remove
			}
			if headRow.Contacts >= MaxContacts {
				return region.Errorf(region.TooLarge, "the contact list is full").WithHint("at most %d contacts, removed ones included", MaxContacts)
			}
			headRow.Contacts++
		}
		// The change is the version the head row gets by this very write.
		row = v1.ContactRow{Remark: k.Remark, Removed: k.Removed, Change: h.Version + 1}
		if err := t.save(tableContact, keyUIN(u), &row); err != nil {
			return err
		}
		return t.save(tableContactHead, keySingle, &headRow)
	})
	return resp, err
}
