package route

import (
	"context"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/rpc"
	"github.com/homing-im/homing/region/wire"
)

// Methods of the wire's IM service keep their numbers; these are below them.
const (
	methodAuthenticate rpc.Method = 1 // LogicAuthenticate -> LogicDevice
	methodProbe        rpc.Method = 2 // nothing -> nothing
)

func callerToProto(c core.Caller) *v1.LogicCaller {
	p := &v1.LogicCaller{Uin: uint64(c.UIN), ClientVersion: c.ClientVersion, Platform: c.Platform}
	if c.DeviceKeyID != ([8]byte{}) {
		p.DeviceKeyId = c.DeviceKeyID[:]
	}
	if c.Address.IsValid() {
		p.Address = c.Address.AsSlice()
	}
	return p
}

func callerFromProto(p *v1.LogicCaller) (core.Caller, error) {
	c := core.Caller{UIN: region.UIN(p.GetUin()), ClientVersion: p.GetClientVersion(), Platform: p.GetPlatform()}
	if len(p.GetDeviceKeyId()) > 0 {
		if len(p.DeviceKeyId) != len(c.DeviceKeyID) {
			return c, malformed("a caller", nil)
		}
		c.DeviceKeyID = [8]byte(p.DeviceKeyId)
	}
	if len(p.GetAddress()) > 0 {
		a, ok := netip.AddrFromSlice(p.Address)
		if !ok {
			return c, malformed("a caller", nil)
		}
		c.Address = a
	}
	return c, nil
}

func deviceToProto(d core.Device, err error) *v1.LogicDevice {
	p := &v1.LogicDevice{Uin: uint64(d.UIN), PublicKey: d.PublicKey, Error: wire.ToProto(err, 0)}
	if d.UIN != 0 {
		p.KeyId, p.ExpiresUnix = d.KeyID[:], d.Expires.Unix()
	}
	return p
}

func deviceFromProto(p *v1.LogicDevice) (core.Device, error) {
	d := core.Device{UIN: region.UIN(p.Uin), PublicKey: p.PublicKey}
	if p.Uin != 0 {
		if len(p.KeyId) != len(d.KeyID) {
			return core.Device{}, malformed("a device", nil)
		}
		d.KeyID, d.Expires = [8]byte(p.KeyId), time.Unix(p.ExpiresUnix, 0)
	}
	return d, wire.FromProto(p.Error)
}

func malformed(what string, cause error) error {
	return region.Errorf(region.Unavailable, "%s cannot be read", what).WithHint("the processes of the region run different versions").WithCause(cause)
}

func encode(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, region.Errorf(region.BadInput, "cannot encode: a text is not UTF-8").WithCause(err)
	}
	return b, nil
}

// Handler serves a logic to access processes.
func Handler(l access.Logic) rpc.Handler { return handler{logic: l, methods: access.NewMethods(l)} }

type handler struct {
	logic   access.Logic
	methods *access.Methods
}

func (handler) Connected(*rpc.Peer)                {}
func (handler) Gone(*rpc.Peer)                     {}
func (handler) Tell(*rpc.Peer, rpc.Method, []byte) {}

func (h handler) Call(ctx context.Context, _ *rpc.Peer, m rpc.Method, body []byte) ([]byte, error) {
	switch m {
	case methodProbe:
		return nil, nil
	case methodAuthenticate:
		q := new(v1.LogicAuthenticate)
		if err := proto.Unmarshal(body, q); err != nil {
			return nil, malformed("a ticket", err)
		}
		return encode(deviceToProto(h.logic.Authenticate(ctx, q.Ticket)))
	}
	q := new(v1.LogicCall)
	if err := proto.Unmarshal(body, q); err != nil {
		return nil, malformed("a call", err)
	}
	c, err := callerFromProto(q.Caller)
	if err != nil {
		return nil, err
	}
	answer, err := h.methods.Do(ctx, wire.Method(m), c, func(into proto.Message) error {
		return wire.Unmarshal(wire.Frame{Method: wire.Method(m), Body: q.Request}, into)
	})
	if err != nil {
		return nil, err
	}
	return encode(answer)
}
