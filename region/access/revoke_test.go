package access_test

import (
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// A revoked device's connections end with the reason; the user's other devices
// stay.
func TestRevokedDevice(t *testing.T) {
	r := newRig(t, nil)
	lost := r.raw(1_000_001)
	lost.login()
	again := r.rawWith(r.dial(), lost.uin, lost.key, lost.tick)
	again.login()
	other := r.raw(1_000_001) // another device of the same user
	other.login()
	r.presence.Revoked(1_000_001, [8]byte(lost.hello().DeviceKeyId))
	for _, c := range []*raw{lost, again} {
		if e := errorOf(t, c.push(wire.GoAway)); region.Kind(e.Code) != region.Unauthenticated || e.Retryable {
			t.Errorf("told %v", e)
		}
		c.closed()
	}
	other.works()
	if n := r.count("homing_access_cut_off_total", "revoked"); n != 2 {
		t.Errorf("%v counted", n)
	}
}

// A device that is revoked between Hello and its proof does not get in.
func TestRevokedDuringHandshake(t *testing.T) {
	r := newRig(t, nil)
	c := r.raw(1_000_001)
	hr := c.helloReply()
	r.users.Revoke(1_000_001)
	if e := errorOf(t, c.response(c.send(wire.Reauth, c.proof(hr)))); region.Kind(e.Code) != region.Unauthenticated {
		t.Errorf("told %v", e)
	}
	c.closed()
}
