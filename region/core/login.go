package core

import (
	"context"
	"crypto/ed25519"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Challenge returns a nonce for one Login of that device within 60 s. It tells
// nothing about whether the device exists.
//
// Errors: BadInput without a UIN and a device key ID of 8 bytes; NotFound for a
// UIN in nobody's segment; WrongRegion.
func (c *Core) Challenge(ctx context.Context, by Caller, r *v1.ChallengeRequest) (_ *v1.ChallengeResponse, err error) {
	defer c.m.count("Challenge", &err)
	u, keyID, err := namedDevice(r.Uin, r.DeviceKeyId)
	if err != nil {
		return nil, err
	}
	if _, err := c.acts(u); err != nil {
		return nil, err
	}
	nonce, err := c.nonces.issue(u, keyID, c.o.Clock())
	if err != nil {
		return nil, err
	}
	return &v1.ChallengeResponse{Nonce: nonce, Region: string(c.o.Self)}, nil
}

// Login exchanges a challenge, signed by the device key, for a ticket. It
// serves as renewal too, for the old ticket proves nothing more than the key.
//
// Errors: Unauthenticated for an unknown or revoked device, a bad signature and
// a nonce that is unknown, old or used; all say the same. BadInput, NotFound and
// WrongRegion as for Challenge.
func (c *Core) Login(ctx context.Context, by Caller, r *v1.LoginRequest) (_ *v1.LoginResponse, err error) {
	defer c.m.count("Login", &err)
	u, keyID, err := namedDevice(r.Uin, r.DeviceKeyId)
	if err != nil {
		return nil, err
	}
	if _, err := c.acts(u); err != nil {
		return nil, err
	}
	refused := func(why string) error {
		c.log.Debug("login refused", "reason", why)
		return region.Errorf(region.Unauthenticated, "the login proof does not hold").
			WithHint("ask for a new challenge and sign it with a registered device key within 60 s")
	}
	if !c.nonces.valid(u, keyID, r.Nonce, c.o.Clock()) {
		return nil, refused("nonce")
	}
	var d v1.DeviceRow
	row, err := c.o.Store.Get(ctx, u, tableDevice, keyID[:])
	if err != nil {
		return nil, err
	}
	if !row.Exists() {
		return nil, refused("no device")
	}
	if err := unmarshalRow(&row, &d); err != nil {
		return nil, err
	}
	if d.Revoked || len(d.PublicKey) != ed25519.PublicKeySize {
		return nil, refused("revoked")
	}
	if !ed25519.Verify(d.PublicKey, wire.LoginProof(string(c.o.Self), u, r.Nonce), r.Signature) {
		return nil, refused("signature")
	}
	if err := c.nonces.use(r.Nonce, c.o.Clock()); err != nil {
		return nil, err
	}
	token, expires, err := c.mint(u, d.PublicKey)
	if err != nil {
		return nil, err
	}
	return &v1.LoginResponse{Ticket: token, TicketExpiresUnix: expires.Unix()}, nil
}

func namedDevice(uin uint64, id []byte) (region.UIN, [8]byte, error) {
	if uin == 0 || len(id) != 8 {
		return 0, [8]byte{}, region.Errorf(region.BadInput, "want a UIN and a device key ID of 8 bytes").
			WithHint("the ID is the first 8 bytes of the SHA-256 of the device key")
	}
	return region.UIN(uin), [8]byte(id), nil
}

// Authenticate says whose device a ticket is good for, in this region. It does
// not prove that the caller holds the device key.
//
// A ticket of another issuer whose device row is not here is accepted and
// counted: after a failover the row may be late or lost, and the ticket's
// issuer vouches that it was registered. A revoked device is always refused.
//
// Errors: Unauthenticated; WrongRegion when another region acts for the user,
// with the device as the ticket has it, so that the caller can be redirected.
func (c *Core) Authenticate(ctx context.Context, token string) (_ Device, err error) {
	defer c.m.count("Authenticate", &err)
	v, err := c.view()
	if err != nil {
		return Device{}, err
	}
	claims, err := c.tickets.Verify(v, token, c.o.Clock())
	if err != nil {
		return Device{}, err
	}
	d := Device{UIN: claims.UIN, KeyID: claims.KeyID, PublicKey: claims.PublicKey, Expires: claims.Expires}
	if _, err := v.Admit(c.o.Self, claims.UIN); err != nil {
		return d, err
	}
	a, _, err := c.accountOf(ctx, claims.UIN)
	if err != nil {
		return Device{}, err
	}
	if a.GetErasedUnixMilli() != 0 { // its devices' rows may be gone
		return Device{}, isErased(claims.UIN)
	}
	row, err := c.o.Store.Get(ctx, claims.UIN, tableDevice, claims.KeyID[:])
	if err != nil {
		return Device{}, err
	}
	revoked := func(why string) error {
		return region.Errorf(region.Unauthenticated, "%s", why).WithHint("register this device")
	}
	if row.Exists() {
		var have v1.DeviceRow
		if err := unmarshalRow(&row, &have); err != nil {
			return Device{}, err
		}
		if have.Revoked {
			return Device{}, revoked("the device was revoked")
		}
	} else {
		if claims.Issuer == c.o.Self {
			return Device{}, revoked("the ticket's device is not known here")
		}
		c.m.missing.Inc()
	}
	return d, nil
}
