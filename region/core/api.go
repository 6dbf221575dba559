package core

import (
	"context"
	"net/netip"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// Caller is who asks: a user whose ticket and device key were proven, or, for
// the methods that need no ticket, an address.
type Caller struct {
	UIN           region.UIN // 0 before login
	DeviceKeyID   [8]byte
	ClientVersion uint32
	Platform      string
	Address       netip.Addr // the client's own, as a POP's PROXY header gave it
}

// Device is what a ticket proves: which user's which device may ask.
type Device struct {
	UIN       region.UIN
	KeyID     [8]byte
	PublicKey []byte // ed25519
	Expires   time.Time
}

// Directory is the worldwide service of account IDs as a region uses it.
// Calls block until answered or ctx ends.
type Directory interface {
	// Claim gives the handle to the owner; claiming one's own again is no
	// error. Errors: region.Conflict when taken, region.BadInput, region.Unavailable.
	Claim(ctx context.Context, handle string, owner region.UIN) error
	// Resolve finds the owner. Errors: region.NotFound, region.Unavailable.
	Resolve(ctx context.Context, handle string) (region.UIN, error)
	// Allot reserves a range of UINs in the region's segment, both ends included.
	// The same key gives the same range.
	Allot(ctx context.Context, key string, n int) (first, last region.UIN, err error)
}

// Notifier is told, after the commit, that an inbox grew; per owner in the order
// of sequences. Its methods must not block, nor change the message.
type Notifier interface {
	Notify(owner region.UIN, newest uint64, m *v1.Message)

	// Revoked is told, after the commit, that a device may not ask any more: its
	// connections have to end.
	Revoked(owner region.UIN, keyID [8]byte)
}
