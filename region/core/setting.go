package core

import (
	"context"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// SetSetting keeps a value under a name for the caller's own devices, which learn
// it by Sync; nobody else does. The last one to write wins. A removed setting
// stays as a mark, so that every device hears of it.
//
// Errors: BadInput for a name that is not 1 to MaxSettingName bytes; TooLarge for
// a value over MaxSetting bytes, or beyond MaxSettings names, removed ones
// included; Conflict when the idempotency key was used for another request.
func (c *Core) SetSetting(ctx context.Context, by Caller, r *v1.SetSettingRequest) (_ *v1.SetSettingResponse, err error) {
	defer c.m.count("SetSetting", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	s := r.Setting
	switch {
	case len(s.GetName()) < 1 || len(s.GetName()) > MaxSettingName:
		return nil, region.Errorf(region.BadInput, "the setting's name has %d bytes", len(s.GetName())).WithHint("give 1 to %d", MaxSettingName)
	case len(s.Value) > MaxSetting:
		return nil, region.Errorf(region.TooLarge, "the setting's value has %d bytes", len(s.Value)).WithHint("at most %d", MaxSetting)
	}
	if err := checkText("setting name", s.Name, MaxSettingName); err != nil {
		return nil, err
	}
	resp := new(v1.SetSettingResponse)
	err = c.once(ctx, by.UIN, "SetSetting", r.IdempotencyKey, r, resp, func(t *txn) error {
		name := digest("homing.setting", []byte(s.Name)) // a row's key is not plain text
		row := &v1.SettingRow{Name: s.Name}
		found, err := t.load(tableSetting, name[:], row)
		if err != nil || !found && s.Removed || found && row.Removed == s.Removed && row.Value == s.Value {
			return err
		}
		var head v1.SettingHeadRow
		if _, err := t.load(tableSettingHead, keySingle, &head); err != nil {
			return err
		}
		if !found {
			if head.Settings >= MaxSettings {
				return region.Errorf(region.TooLarge, "too many settings").WithHint("at most %d, removed ones included", MaxSettings)
			}
			head.Settings++
		}
		head.Change++
		row.Value, row.Removed, row.Change = s.Value, s.Removed, head.Change
		if s.Removed {
			row.Value = ""
		}
		if err := t.save(tableSetting, name[:], row); err != nil {
			return err
		}
		return t.save(tableSettingHead, keySingle, &head)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
