package core

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/wire"
)

// AddDevice gives the caller's account another device, for which the caller's
// own vouches by a signature (wire.DeviceProof); the new one then logs in by its
// key and begins with the empty snapshot. All devices find a system message,
// "device-added", in the inbox. A device that is there already is no error; a
// repeat under the same idempotency key changes nothing.
//
// Errors: BadInput for a key that is not ed25519 or a platform over MaxPlatform
// bytes; Unauthenticated when the signature does not hold; Forbidden when the
// device was revoked, for that is for ever; TooLarge beyond MaxDevices, or
// MaxRevoked of all time.
func (c *Core) AddDevice(ctx context.Context, by Caller, r *v1.AddDeviceRequest) (_ *v1.AddDeviceResponse, err error) {
	defer c.m.count("AddDevice", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	if err := checkPlatform(r.Platform); err != nil {
		return nil, err
	}
	if err := checkDeviceKey(r.DeviceKey); err != nil {
		return nil, err
	}
	keyID := wire.KeyID(r.DeviceKey)
	resp := new(v1.AddDeviceResponse)
	err = c.once(ctx, by.UIN, "AddDevice", r.IdempotencyKey, r, resp, func(t *txn) error {
		if _, err := t.mustAccount(); err != nil {
			return err
		}
		if err := t.vouched(by, wire.DeviceAdd, r.DeviceKey, r.Signature); err != nil {
			return err
		}
		resp.DeviceKeyId = keyID[:]
		var d v1.DeviceRow
		found, err := t.load(tableDevice, keyID[:], &d)
		switch {
		case err != nil:
			return err
		case found && d.Revoked:
			return region.Errorf(region.Forbidden, "this device was revoked").WithHint("make a new key on it")
		case found && string(d.PublicKey) != string(r.DeviceKey):
			return region.Errorf(region.Conflict, "another device key has this ID").WithHint("make a new key on the device")
		case found:
			return nil
		}
		all, active, err := c.countDevices(ctx, by.UIN)
		if err != nil {
			return err
		}
		if active >= MaxDevices || all >= MaxRevoked {
			return region.Errorf(region.TooLarge, "the account has %d devices, and had %d", active, all).
				WithHint("at most %d at a time, %d ever; revoke one", MaxDevices, MaxRevoked)
		}
		if err := t.save(tableDevice, keyID[:], &v1.DeviceRow{PublicKey: r.DeviceKey, Platform: r.Platform, AddedUnixMilli: t.now, AddedBy: by.DeviceKeyID[:]}); err != nil {
			return err
		}
		return t.deviceNews("device-added", r.DeviceKey)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListDevices returns the caller's devices, revoked ones included. At most
// MaxRevoked; it blocks for a read. Errors: WrongRegion.
func (c *Core) ListDevices(ctx context.Context, by Caller, _ *v1.ListDevicesRequest) (_ *v1.ListDevicesResponse, err error) {
	defer c.m.count("ListDevices", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	if _, err := c.acts(by.UIN); err != nil {
		return nil, err
	}
	resp := new(v1.ListDevicesResponse)
	err = c.devices(ctx, by.UIN, func(keyID [8]byte, d *v1.DeviceRow) {
		resp.Devices = append(resp.Devices, &v1.Device{DeviceKeyId: keyID[:], Platform: d.Platform, AddedUnixMilli: d.AddedUnixMilli,
			Revoked: d.Revoked, AddedBy: d.AddedBy, RevokedUnixMilli: d.RevokedUnixMilli, Current: keyID == by.DeviceKeyID})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// RevokeDevice ends a device of the caller's, for ever: its tickets are refused,
// it cannot log in, and its connections end. A device may revoke itself, but the
// last one stays. The others find a system message, "device-revoked".
// Revoking again is no error.
//
// Errors: BadInput; Unauthenticated when the signature does not hold; NotFound;
// Forbidden for the last device.
func (c *Core) RevokeDevice(ctx context.Context, by Caller, r *v1.RevokeDeviceRequest) (_ *v1.RevokeDeviceResponse, err error) {
	defer c.m.count("RevokeDevice", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	_, keyID, err := namedDevice(uint64(by.UIN), r.DeviceKeyId)
	if err != nil {
		return nil, err
	}
	resp := new(v1.RevokeDeviceResponse)
	err = c.once(ctx, by.UIN, "RevokeDevice", r.IdempotencyKey, r, resp, func(t *txn) error {
		if err := t.vouched(by, wire.DeviceRevoke, r.DeviceKeyId, r.Signature); err != nil {
			return err
		}
		var d v1.DeviceRow
		found, err := t.load(tableDevice, keyID[:], &d)
		switch {
		case err != nil:
			return err
		case !found:
			return region.Errorf(region.NotFound, "you have no such device").WithHint("see ListDevices")
		case d.Revoked:
			return nil
		}
		_, active, err := c.countDevices(ctx, by.UIN)
		if err != nil {
			return err
		}
		if active <= 1 {
			return region.Errorf(region.Forbidden, "it is your last device").WithHint("add another one first")
		}
		key := d.PublicKey
		d.Revoked, d.RevokedUnixMilli = true, t.now
		if err := t.save(tableDevice, keyID[:], &d); err != nil {
			return err
		}
		t.revoked = append(t.revoked, keyID)
		return t.deviceNews("device-revoked", key)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func checkDeviceKey(key []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return region.Errorf(region.BadInput, "device_key has %d bytes", len(key)).WithHint("give an ed25519 public key of %d bytes", ed25519.PublicKeySize)
	}
	return nil
}

// vouched checks that the caller's device, as it stands now, signed a change of
// devices. The connection's own proof is not enough: a POP that ends TLS could
// put a request of its own into it, and a device is for ever.
func (t *txn) vouched(by Caller, act wire.DeviceAct, subject, signature []byte) error {
	var d v1.DeviceRow
	found, err := t.load(tableDevice, by.DeviceKeyID[:], &d)
	if err != nil {
		return err
	}
	if !found || d.Revoked || len(d.PublicKey) != ed25519.PublicKeySize {
		return region.Errorf(region.Unauthenticated, "the asking device is not known here").WithHint("log in with a registered device")
	}
	if !ed25519.Verify(d.PublicKey, wire.DeviceProof(act, by.UIN, subject), signature) {
		return region.Errorf(region.Unauthenticated, "the signature is not by the asking device").WithHint("sign the device proof with the key of this connection")
	}
	return nil
}

func (c *Core) devices(ctx context.Context, u region.UIN, yield func(keyID [8]byte, d *v1.DeviceRow)) error {
	var bad error
	err := c.o.Store.Scan(ctx, u, tableDevice, store.Range{Limit: MaxRevoked + MaxDevices}, func(r *store.Row) bool {
		d := new(v1.DeviceRow)
		if bad = unmarshalRow(r, d); bad != nil {
			return false
		}
		if len(r.Row) == 8 {
			yield([8]byte(r.Row), d)
		}
		return true
	})
	if err == nil {
		err = bad
	}
	return err
}

func (c *Core) countDevices(ctx context.Context, u region.UIN) (all, active int, err error) {
	err = c.devices(ctx, u, func(_ [8]byte, d *v1.DeviceRow) {
		all++
		if !d.Revoked {
			active++
		}
	})
	return all, active, err
}

// deviceNews tells all devices of the owner about one of them.
func (t *txn) deviceNews(event string, deviceKey []byte) error {
	keyID := wire.KeyID(deviceKey)
	return t.note(event, deviceKey, &v1.System{Event: event, Actor: uint64(t.owner), Device: keyID[:]})
}

// note puts a system message by the owner into the owner's own inbox, once per
// event and subject.
func (t *txn) note(event string, subject []byte, s *v1.System) error {
	m := t.systemMessage(t.owner, regionKey(event, subject), s)
	id := [16]byte(m.Id)
	if _, found, err := t.known(id); err != nil || found {
		return err
	}
	stored, err := marshal(m)
	if err != nil {
		return err
	}
	_, err = t.append(id, m, stored)
	return err
}

// regionKey makes the client message ID of a message that a region writes in a
// user's name. It is longer than MaxKey, so it is never one of the user's own.
func regionKey(event string, subject []byte) string {
	sum := sha256.Sum256(subject)
	return event + "/" + hex.EncodeToString(sum[:])
}
