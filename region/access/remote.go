package access

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/wire"
)

// Remote is a [Logic] in other processes. Do asks for one method of the IM
// service; the answer is that method's. Calls block until answered or ctx ends,
// and are safe for concurrent use.
type Remote interface {
	Do(ctx context.Context, m wire.Method, c core.Caller, request proto.Message) (proto.Message, error)

	// Authenticate verifies a ticket. Errors: region.Unauthenticated;
	// region.WrongRegion together with the device.
	Authenticate(ctx context.Context, ticket string) (core.Device, error)
}

// Methods answers the methods of the IM service by number: what a logic process
// does for the access processes. It is safe for concurrent use.
type Methods struct {
	logic    Logic
	handlers map[wire.Method]handler
}

// NewMethods makes one over a Logic in this process.
func NewMethods(l Logic) *Methods { return &Methods{logic: l, handlers: handlers()} }

// Do answers one request; decode reads its body. Errors: region.Unsupported for
// a method that this version does not have, and those of decode and the Logic.
func (m *Methods) Do(ctx context.Context, method wire.Method, c core.Caller, decode func(proto.Message) error) (proto.Message, error) {
	h, ok := m.handlers[method]
	if !ok {
		return nil, region.Errorf(region.Unsupported, "logic has no method %s", method).WithHint("upgrade the logic processes before the access processes")
	}
	do, err := h(decode)
	if err != nil {
		return nil, err
	}
	return do.local(ctx, m.logic, c)
}
