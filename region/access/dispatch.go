package access

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/wire"
)

// handler decodes a request and returns the call that answers it, so that the
// caller may reuse the frame's buffer before the call is made.
type handler func(decode func(proto.Message) error) (call, error)

// call is a decoded request, and how a Logic in this process answers it.
type call struct {
	request proto.Message
	local   func(context.Context, Logic, core.Caller) (proto.Message, error)
}

func bind[Q any, PQ interface {
	*Q
	proto.Message
}, R proto.Message](f func(Logic, context.Context, core.Caller, PQ) (R, error)) handler {
	return func(decode func(proto.Message) error) (call, error) {
		q := PQ(new(Q))
		if err := decode(q); err != nil {
			return call{}, err
		}
		return call{request: q, local: func(ctx context.Context, l Logic, c core.Caller) (proto.Message, error) {
			r, err := f(l, ctx, c, q)
			if err != nil {
				return nil, err
			}
			return r, nil
		}}, nil
	}
}

// handlers are the methods of the IM service.
func handlers() map[wire.Method]handler {
	return map[wire.Method]handler{
		wire.Register:       bind(Logic.Register),
		wire.Challenge:      bind(Logic.Challenge),
		wire.Login:          bind(Logic.Login),
		wire.Send:           bind(Logic.Send),
		wire.Sync:           bind(Logic.Sync),
		wire.ClaimHandle:    bind(Logic.ClaimHandle),
		wire.Resolve:        bind(Logic.Resolve),
		wire.UpdateProfile:  bind(Logic.UpdateProfile),
		wire.SetContact:     bind(Logic.SetContact),
		wire.CreateGroup:    bind(Logic.CreateGroup),
		wire.SetMember:      bind(Logic.SetMember),
		wire.AddDevice:      bind(Logic.AddDevice),
		wire.ListDevices:    bind(Logic.ListDevices),
		wire.RevokeDevice:   bind(Logic.RevokeDevice),
		wire.RequestContact: bind(Logic.RequestContact),
		wire.AnswerContact:  bind(Logic.AnswerContact),
		wire.BlockUser:      bind(Logic.BlockUser),
		wire.Recall:         bind(Logic.Recall),
		wire.SetRead:        bind(Logic.SetRead),
		wire.UpdateGroup:    bind(Logic.UpdateGroup),
		wire.SetRole:        bind(Logic.SetRole),
		wire.SetSetting:     bind(Logic.SetSetting),
		wire.EraseAccount:   bind(Logic.EraseAccount),
	}
}
