package core

import (
	"bytes"
	"cmp"
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// once makes a change of the owner's records that takes effect at most once per
// method and idempotency key: the response is kept with the change, and a
// repeat gets it again. change must fill resp. The same key with another
// request is region.Conflict. Keys are remembered for onceLife or longer.
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
	return c.asUser(ctx, owner, func(t *txn) error {
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
		return t.remember(row[:], &v1.OnceRow{UnixMilli: t.now, Response: answer, RequestSum: sum[:]})
	})
}

const (
	// onceLife is how long an idempotency key is remembered, at least. A client
	// retries for minutes, a phone that was off for days; commands are executed
	// again only within what the queue and the journal keep.
	onceLife = 30 * 24 * time.Hour
	// onceSweep is how many of an owner's remembered keys are looked at whenever
	// one is added. More than one is enough for the old ones to go faster than
	// new ones come; and an owner who changes nothing keeps what there is.
	onceSweep = 8
)

// remember keeps the outcome of a mutation, and forgets some that are older than
// onceLife. Keys are hashes, so the neighbours of a new one are a fair sample of
// the owner's, and no list by age has to be kept.
func (t *txn) remember(row []byte, outcome *v1.OnceRow) error {
	var old [][]byte
	var bad error
	err := t.c.o.Store.Scan(t.ctx, t.owner, tableOnce, store.Range{From: row, Limit: onceSweep}, func(r *store.Row) bool {
		var o v1.OnceRow
		if bad = unmarshalRow(r, &o); bad != nil {
			return false
		}
		if t.now-o.UnixMilli > onceLife.Milliseconds() && !bytes.Equal(r.Row, row) {
			old = append(old, bytes.Clone(r.Row))
		}
		return true
	})
	if err = cmp.Or(err, bad); err != nil {
		return err
	}
	for _, key := range old {
		if _, err := t.get(tableOnce, key); err != nil { // the version to delete at
			return err
		}
		t.delete(tableOnce, key)
	}
	return t.save(tableOnce, row, outcome)
}
