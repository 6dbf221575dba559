package client_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/homing-im/homing/region/wire"
)

// A change of devices carries the signature of this device.
func TestDevices(t *testing.T) {
	r := newRig(t)
	c := r.client(1_000_001, nil)
	r.connected(c)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)).Public().(ed25519.PublicKey)
	if err := c.AddDevice(ctx, key, "web"); err != nil {
		t.Fatal(err)
	}
	list, err := c.Devices(ctx)
	mine := wire.KeyID(c.Identity().Key.Public().(ed25519.PublicKey))
	if err != nil || len(list) != 1 || !list[0].Current || !bytes.Equal(list[0].DeviceKeyId, mine[:]) {
		t.Fatal(list, err)
	}
	if err := c.RevokeDevice(ctx, wire.KeyID(key)); err != nil {
		t.Fatal(err)
	}
}
