package core

import (
	"bytes"
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// once makes a change of the owner's records that takes effect at most once per
// method and idempotency key: the response is kept with the change, and a
// repeat gets it again. change must fill resp. The same key with another
// request is region.Conflict.
func (c *Core) once(ctx context.Context, owner region.UIN, method, key string, req, resp proto.Message, change func(*txn) error) error {
	if err := checkKey("idempotency_key", key); err != nil {
		return err
	}
	asked, err := marshal(req)
	if err != nil {
		return err
	}
	sum := digest("homing.request", asked)
	row := digest("homing.once", []byte(method), []byte{0}, []byte(key))
	return c.mutate(ctx, owner, func(t *txn) error {
		var done v1.OnceRow
		found, err := t.load(tableOnce, row[:], &done)
		if err != nil {
			return err
		}
		if found {
			if !bytes.Equal(done.RequestSum, sum[:]) {
				return region.Errorf(region.Conflict, "this idempotency key was used for another request").WithHint("use a new key")
			}
			return proto.Unmarshal(done.Response, resp)
		}
		if err := change(t); err != nil {
			return err
		}
		answer, err := marshal(resp)
		if err != nil {
			return err
		}
		return t.save(tableOnce, row[:], &v1.OnceRow{UnixMilli: t.now, Response: answer, RequestSum: sum[:]})
	})
}
