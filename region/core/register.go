package core

import (
	"context"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/ticket"
	"github.com/homing-im/homing/region/wire"
)

// Register makes a user of this region with one device. The same idempotency
// key and device key give the same user again, with a new ticket.
//
// Errors: BadInput for a nickname that is not 1 to MaxNickname characters, a
// platform over MaxPlatform bytes or a key that is not ed25519; Unauthenticated
// when that user was erased since; WrongRegion while another region acts for this one; Unavailable when
// no UIN can be had.
func (c *Core) Register(ctx context.Context, by Caller, r *v1.RegisterRequest) (_ *v1.RegisterResponse, err error) {
	defer c.m.count("Register", &err)
	if err := checkName("nickname", r.Nickname); err != nil {
		return nil, err
	}
	if err := checkPlatform(r.Platform); err != nil {
		return nil, err
	}
	if err := checkKey("idempotency_key", r.IdempotencyKey); err != nil {
		return nil, err
	}
	if err := checkDeviceKey(r.DeviceKey); err != nil {
		return nil, err
	}
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	if acting, _, _ := v.Acting(c.o.Self); acting != c.o.Self {
		return nil, region.Errorf(region.WrongRegion, "region %s acts for %s and takes its new users", acting, c.o.Self).WithHint("register there")
	}
	u, err := c.numbers.registered(ctx, digest("homing.register", r.DeviceKey, []byte(r.IdempotencyKey)))
	if err != nil {
		return nil, err
	}
	keyID := wire.KeyID(r.DeviceKey)
	err = c.mutate(ctx, u, func(t *txn) error {
		a, err := t.theAccount()
		if a.GetErasedUnixMilli() != 0 {
			return isErased(u)
		}
		if err != nil || a != nil {
			return err // made by an earlier try
		}
		if err := t.saveAccount(&v1.AccountRow{Nickname: r.Nickname, CreatedUnixMilli: t.now}); err != nil {
			return err
		}
		return t.save(tableDevice, keyID[:], &v1.DeviceRow{PublicKey: r.DeviceKey, Platform: r.Platform, AddedUnixMilli: t.now})
	})
	if err != nil {
		return nil, err
	}
	token, expires, err := c.mint(u, r.DeviceKey)
	if err != nil {
		return nil, err
	}
	return &v1.RegisterResponse{Uin: uint64(u), Ticket: token, TicketExpiresUnix: expires.Unix(), Region: string(c.o.Self), DeviceKeyId: keyID[:]}, nil
}

// mint makes a ticket for a device of an owner this region acts for.
func (c *Core) mint(u region.UIN, deviceKey []byte) (string, time.Time, error) {
	p, err := c.acts(u)
	if err != nil {
		return "", time.Time{}, err
	}
	now := c.o.Clock()
	expires := now.Add(c.o.TicketLife)
	token, err := ticket.Mint(ticket.Claims{UIN: u, PublicKey: deviceKey, Issuer: c.o.Self, Term: p.Epoch.Term, Issued: now, Expires: expires}, c.o.Key)
	return token, expires, err
}
