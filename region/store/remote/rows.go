package remote

import (
	"bytes"
	"context"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/rpc"
	"github.com/homing-im/homing/region/store"
)

// Rows is the store of another process. It is safe for concurrent use.
type Rows struct {
	c          *rpc.Client
	region     region.ID
	partitions int
}

var _ store.Rows = (*Rows)(nil)

// Open dials the process that has the store, and blocks until it answered or
// ctx ends. Close it after whoever uses it.
//
// Errors: region.Unavailable when it does not answer; region.BadInput when it
// has another region's store.
func Open(ctx context.Context, o rpc.ClientOptions) (*Rows, error) {
	c, err := rpc.Dial(o)
	if err != nil {
		return nil, err
	}
	r := &Rows{c: c}
	shape := new(v1.StoreShape)
	err = r.read(ctx, methodShape, nil, shape)
	if err == nil && shape.Region != string(o.Identity.Region) || shape.Partitions > math.MaxUint16 {
		err = region.Errorf(region.BadInput, "the store at %s is of region %q", o.Address, shape.Region).WithHint("check the address")
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	r.region, r.partitions = region.ID(shape.Region), int(shape.Partitions)
	return r, nil
}

// Close ends the connection.
func (r *Rows) Close() error { return r.c.Close() }

// Up says whether the store can be reached now.
func (r *Rows) Up() bool { return r.c.Up() }

// Region returns whose store it is.
func (r *Rows) Region() region.ID { return r.region }

// Partitions returns their number.
func (r *Rows) Partitions() int { return r.partitions }

// call asks when there is a connection.
func (r *Rows) call(ctx context.Context, m rpc.Method, body []byte, answer proto.Message) error {
	for {
		b, err := r.c.Call(ctx, m, body)
		if err == nil {
			if err := proto.Unmarshal(b, answer); err != nil {
				return malformed("the store's answer", err)
			}
			return nil
		}
		if rpc.Sent(err) || ctx.Err() != nil {
			return err
		}
		if err := r.c.Ready(ctx); err != nil {
			return err
		}
	}
}

// read is call for what may be asked twice.
func (r *Rows) read(ctx context.Context, m rpc.Method, body []byte, answer proto.Message) error {
	for {
		err := r.call(ctx, m, body, answer)
		if err == nil || rpc.Answered(err) || ctx.Err() != nil || r.c.Ready(ctx) != nil {
			return err
		}
	}
}

// Get implements store.Rows.
func (r *Rows) Get(ctx context.Context, owner region.UIN, t journal.Table, row []byte) (store.Row, error) {
	body, err := encode(&v1.StoreGet{Owner: uint64(owner), Table: uint32(t), Row: row})
	if err != nil {
		return store.Row{}, err
	}
	p := new(v1.StoreRow)
	if err := r.read(ctx, methodGet, body, p); err != nil {
		return store.Row{}, err
	}
	return rowFromProto(p)
}

// Scan implements store.Rows.
func (r *Rows) Scan(ctx context.Context, owner region.UIN, t journal.Table, want store.Range, yield func(*store.Row) bool) error {
	if want.Limit == 0 {
		want.Limit = store.DefaultLimit
	}
	for {
		body, err := encode(rangeToProto(owner, t, want))
		if err != nil {
			return err
		}
		answer := new(v1.StoreRows)
		if err := r.read(ctx, methodScan, body, answer); err != nil {
			return err
		}
		for _, p := range answer.Rows {
			row, err := rowFromProto(p)
			if err != nil {
				return err
			}
			if !yield(&row) {
				return nil
			}
		}
		n := len(answer.Rows)
		if want.Limit -= n; !answer.More || n == 0 || want.Limit <= 0 {
			return nil
		}
		last := answer.Rows[n-1].Row
		if want.Reverse {
			want.To = last
		} else {
			want.From = append(bytes.Clone(last), 0) // the smallest key behind it
		}
	}
}

// Commit implements store.Rows.
func (r *Rows) Commit(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	if err := b.Validate(); err != nil {
		return store.Receipt{}, err
	}
	body, err := encode(batchToProto(b))
	if err != nil {
		return store.Receipt{}, err
	}
	p := new(v1.StoreReceipt)
	if err := r.call(ctx, methodCommit, body, p); err != nil {
		return store.Receipt{}, err
	}
	return store.Receipt{Partition: region.Partition(p.Partition), First: p.First, Last: p.Last}, nil
}
