package core

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

func (who *user) vouch(act wire.DeviceAct, subject []byte) []byte {
	return ed25519.Sign(who.key, wire.DeviceProof(act, who.UIN, subject))
}

func (who *user) adds(key ed25519.PrivateKey, idempotency string) *v1.AddDeviceRequest {
	pub := key.Public().(ed25519.PublicKey)
	return &v1.AddDeviceRequest{DeviceKey: pub, Platform: "web", Signature: who.vouch(wire.DeviceAdd, pub), IdempotencyKey: idempotency}
}

func (who *user) revokes(keyID [8]byte, idempotency string) *v1.RevokeDeviceRequest {
	return &v1.RevokeDeviceRequest{DeviceKeyId: keyID[:], Signature: who.vouch(wire.DeviceRevoke, keyID[:]), IdempotencyKey: idempotency}
}

// second is another device of a user's.
func (u *universe) second(who *user, name string) *user {
	u.t.Helper()
	key := seededKey(name)
	u.retry(func() error {
		_, err := u.core(who.region).AddDevice(ctx, who.Caller, who.adds(key, "add "+name))
		return err
	})
	other := *who
	other.key, other.DeviceKeyID, other.ticket = key, wire.KeyID(key.Public().(ed25519.PublicKey)), ""
	return &other
}

func (u *universe) login(who *user) error {
	c := u.core(who.region)
	ch, err := c.Challenge(ctx, Caller{}, &v1.ChallengeRequest{Uin: uint64(who.UIN), DeviceKeyId: who.DeviceKeyID[:]})
	if err != nil {
		return err
	}
	r, err := c.Login(ctx, Caller{}, &v1.LoginRequest{Uin: uint64(who.UIN), DeviceKeyId: who.DeviceKeyID[:], Nonce: ch.Nonce,
		Signature: ed25519.Sign(who.key, wire.LoginProof(ch.Region, who.UIN, ch.Nonce))})
	if err == nil {
		who.ticket = r.Ticket
	}
	return err
}

func TestSecondDevice(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	c := u.core("sh")
	pad := u.second(alice, "pad")
	if _, err := c.AddDevice(ctx, alice.Caller, alice.adds(pad.key, "add pad")); err != nil { // a repeat
		t.Fatal(err)
	}
	if _, err := c.AddDevice(ctx, alice.Caller, alice.adds(pad.key, "another key")); err != nil { // there already
		t.Fatal(err)
	}
	if err := u.login(pad); err != nil {
		t.Fatal(err)
	}
	u.send(bob, alice.UIN, "m", "hello")
	for _, d := range []*user{alice, pad} { // each from a snapshot of its own
		u.eventually("delivery", func() error { return u.has(d, "hello", "/device-added") })
	}
	list, err := c.ListDevices(ctx, pad.Caller, &v1.ListDevicesRequest{})
	if err != nil || len(list.Devices) != 2 {
		t.Fatal(list, err)
	}
	for _, d := range list.Devices {
		mine := [8]byte(d.DeviceKeyId) == pad.DeviceKeyID
		if d.Current != mine || d.Revoked || d.AddedUnixMilli == 0 || mine && (d.Platform != "web" || [8]byte(d.AddedBy) != alice.DeviceKeyID) {
			t.Errorf("device %v", d)
		}
	}

	// The new one may revoke the first.
	heard := u.sites["sh"].heard
	if _, err := c.Authenticate(ctx, alice.ticket); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.RevokeDevice(ctx, pad.Caller, pad.revokes(alice.DeviceKeyID, "r")); err != nil {
			t.Fatal(err)
		}
	}
	if n := heard.revoked(alice.DeviceKeyID); n != 1 {
		t.Errorf("access was told %d times", n)
	}
	_, err = c.Authenticate(ctx, alice.ticket)
	wantKind(t, err, region.Unauthenticated)
	wantKind(t, u.login(alice), region.Unauthenticated)
	if err := u.has(pad, "/device-revoked"); err != nil {
		t.Error(err)
	}
	// For ever: neither it nor what it signed once brings it back.
	_, err = c.AddDevice(ctx, pad.Caller, pad.adds(alice.key, "back"))
	wantKind(t, err, region.Forbidden)
	_, err = c.AddDevice(ctx, alice.Caller, alice.adds(seededKey("evil"), "e"))
	wantKind(t, err, region.Unauthenticated)
	_, err = c.RevokeDevice(ctx, pad.Caller, pad.revokes(pad.DeviceKeyID, "self"))
	wantKind(t, err, region.Forbidden) // the last one
}

func TestAddDeviceRefuses(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	c := u.core("sh")
	good := func() *v1.AddDeviceRequest { return alice.adds(seededKey("new"), "k") }
	for name, tt := range map[string]struct {
		by   Caller
		edit func(*v1.AddDeviceRequest)
		want region.Kind
	}{
		"nobody":             {Caller{}, func(*v1.AddDeviceRequest) {}, region.Unauthenticated},
		"no signature":       {alice.Caller, func(r *v1.AddDeviceRequest) { r.Signature = nil }, region.Unauthenticated},
		"another act":        {alice.Caller, func(r *v1.AddDeviceRequest) { r.Signature = alice.vouch(wire.DeviceRevoke, r.DeviceKey) }, region.Unauthenticated},
		"another key":        {alice.Caller, func(r *v1.AddDeviceRequest) { r.DeviceKey = make([]byte, 32) }, region.Unauthenticated},
		"another user's":     {bob.Caller, func(*v1.AddDeviceRequest) {}, region.Unauthenticated},
		"an unknown device":  {Caller{UIN: alice.UIN, DeviceKeyID: [8]byte{1}}, func(*v1.AddDeviceRequest) {}, region.Unauthenticated},
		"short key":          {alice.Caller, func(r *v1.AddDeviceRequest) { r.DeviceKey = r.DeviceKey[:31] }, region.BadInput},
		"no idempotency key": {alice.Caller, func(r *v1.AddDeviceRequest) { r.IdempotencyKey = "" }, region.BadInput},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			tt.edit(r)
			_, err := c.AddDevice(ctx, tt.by, r)
			wantKind(t, err, tt.want)
		})
	}
	_, err := u.core("hk").AddDevice(ctx, alice.Caller, good())
	wantKind(t, err, region.WrongRegion)
	_, err = c.RevokeDevice(ctx, alice.Caller, alice.revokes([8]byte{9}, "k"))
	wantKind(t, err, region.NotFound)
	if all, active, err := c.countDevices(ctx, alice.UIN); err != nil || all != 1 || active != 1 {
		t.Errorf("%d devices, %d active, %v", all, active, err)
	}
	for i := range MaxDevices - 1 {
		u.second(alice, fmt.Sprint("device ", i))
	}
	_, err = c.AddDevice(ctx, alice.Caller, good())
	wantKind(t, err, region.TooLarge)
}

// A revocation that the backup has holds after a failover, for tickets of the
// region that failed too.
func TestRevokedAfterFailover(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice := u.register("sh", "Alice")
	pad := u.second(alice, "pad")
	if err := u.login(pad); err != nil {
		t.Fatal(err)
	}
	if _, err := u.core("sh").RevokeDevice(ctx, pad.Caller, pad.revokes(alice.DeviceKeyID, "r")); err != nil {
		t.Fatal(err)
	}
	u.eventually("the backup has it", func() error {
		all, active, err := u.core("hk").countDevices(ctx, alice.UIN)
		if err == nil && (all != 2 || active != 1) {
			err = errors.New("not yet")
		}
		return err
	})
	u.setWorld(testWorld(2, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk"))
	hk := u.core("hk")
	_, err := hk.Authenticate(ctx, alice.ticket)
	wantKind(t, err, region.Unauthenticated)
	if _, err := hk.Authenticate(ctx, pad.ticket); err != nil {
		t.Fatal(err)
	}
	pad.region, alice.region = "hk", "hk"
	if err := u.login(pad); err != nil {
		t.Fatal(err)
	}
	wantKind(t, u.login(alice), region.Unauthenticated)
}
