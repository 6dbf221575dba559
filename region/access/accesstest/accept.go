package accesstest

import (
	"context"
	"crypto/ed25519"

	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// AddDevice accepts what the user's device signed, and forgets it.
func (l *Logic) AddDevice(_ context.Context, c core.Caller, r *v1.AddDeviceRequest) (*v1.AddDeviceResponse, error) {
	id := wire.KeyID(r.DeviceKey)
	return &v1.AddDeviceResponse{DeviceKeyId: id[:]}, l.vouched(c, wire.DeviceAdd, r.DeviceKey, r.Signature)
}

func (l *Logic) vouched(c core.Caller, act wire.DeviceAct, subject, signature []byte) error {
	l.Users.mu.Lock()
	defer l.Users.mu.Unlock()
	if pub := l.Users.devices[c.UIN]; len(pub) == 0 || !ed25519.Verify(pub, wire.DeviceProof(act, c.UIN, subject), signature) {
		return unauthenticated("the signature is not by a device of this user")
	}
	return nil
}

// ListDevices knows the one that asks.
func (l *Logic) ListDevices(_ context.Context, c core.Caller, _ *v1.ListDevicesRequest) (*v1.ListDevicesResponse, error) {
	return &v1.ListDevicesResponse{Devices: []*v1.Device{{DeviceKeyId: c.DeviceKeyID[:], Current: true}}}, nil
}

// RevokeDevice accepts what the user's device signed, and does nothing.
func (l *Logic) RevokeDevice(_ context.Context, c core.Caller, r *v1.RevokeDeviceRequest) (*v1.RevokeDeviceResponse, error) {
	return &v1.RevokeDeviceResponse{}, l.vouched(c, wire.DeviceRevoke, r.DeviceKeyId, r.Signature)
}

// RequestContact accepts anything.
func (l *Logic) RequestContact(context.Context, core.Caller, *v1.RequestContactRequest) (*v1.RequestContactResponse, error) {
	return &v1.RequestContactResponse{}, nil
}

// AnswerContact accepts anything.
func (l *Logic) AnswerContact(context.Context, core.Caller, *v1.AnswerContactRequest) (*v1.AnswerContactResponse, error) {
	return &v1.AnswerContactResponse{}, nil
}

// BlockUser accepts anything.
func (l *Logic) BlockUser(context.Context, core.Caller, *v1.BlockUserRequest) (*v1.BlockUserResponse, error) {
	return &v1.BlockUserResponse{}, nil
}

// Recall accepts anything.
func (l *Logic) Recall(context.Context, core.Caller, *v1.RecallRequest) (*v1.RecallResponse, error) {
	return &v1.RecallResponse{}, nil
}

// SetRead accepts anything.
func (l *Logic) SetRead(context.Context, core.Caller, *v1.SetReadRequest) (*v1.SetReadResponse, error) {
	return &v1.SetReadResponse{}, nil
}

// UpdateGroup accepts anything.
func (l *Logic) UpdateGroup(context.Context, core.Caller, *v1.UpdateGroupRequest) (*v1.UpdateGroupResponse, error) {
	return &v1.UpdateGroupResponse{}, nil
}

// SetRole accepts anything.
func (l *Logic) SetRole(context.Context, core.Caller, *v1.SetRoleRequest) (*v1.SetRoleResponse, error) {
	return &v1.SetRoleResponse{}, nil
}

// SetSetting accepts anything.
func (l *Logic) SetSetting(context.Context, core.Caller, *v1.SetSettingRequest) (*v1.SetSettingResponse, error) {
	return &v1.SetSettingResponse{}, nil
}

// EraseAccount accepts anything.
func (l *Logic) EraseAccount(context.Context, core.Caller, *v1.EraseAccountRequest) (*v1.EraseAccountResponse, error) {
	return &v1.EraseAccountResponse{}, nil
}
