package remote

import (
	"bytes"
	"context"
	"math"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/rpc"
	"github.com/homing-im/homing/region/store"
)

// Rows is the store of another process. It is safe for concurrent use.
type Rows struct {
	c      *rpc.Client
	region region.ID

	mu     sync.Mutex
	places []place // of partitions: the newest that was heard of
}

// place is where a partition's journal stands, and how much of it the backup has.
type place struct {
	head                    store.Head
	heldIncarnation, heldTo uint64
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
	r.region, r.places = region.ID(shape.Region), make([]place, shape.Partitions)
	return r, nil
}

// Close ends the connection.
func (r *Rows) Close() error { return r.c.Close() }

// Up says whether the store can be reached now.
func (r *Rows) Up() bool { return r.c.Up() }

// Region returns whose store it is.
func (r *Rows) Region() region.ID { return r.region }

// Partitions returns their number.
func (r *Rows) Partitions() int { return len(r.places) }

// heard keeps the newest of what answers say; they may come in any order.
func (r *Rows) heard(owner region.UIN, p *v1.StorePlace) {
	if p == nil || len(r.places) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := &r.places[region.PartitionOf(owner, len(r.places))]
	if p.Incarnation < at.head.Incarnation || p.Incarnation == at.head.Incarnation && p.Next < at.head.Next {
		return
	}
	*at = place{store.Head{Incarnation: p.Incarnation, First: p.First, Next: p.Next}, p.HeldIncarnation, p.HeldSequence}
}

// Head implements store.Rows. It has no Streams, and is empty before anything
// was asked about the partition.
func (r *Rows) Head(p region.Partition) store.Head {
	r.mu.Lock()
	defer r.mu.Unlock()
	if int(p) >= len(r.places) {
		return store.Head{}
	}
	return r.places[p].head
}

// Held is the [Held] of the process that has the store, as of the newest answer
// about the partition.
func (r *Rows) Held(p region.Partition) (incarnation, sequence uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if int(p) >= len(r.places) {
		return 0, 0, false
	}
	at := r.places[p]
	return at.heldIncarnation, at.heldTo, at.heldIncarnation != 0
}

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
	r.heard(owner, p.Place)
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
		r.heard(owner, answer.Place)
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
	r.heard(b.Owner, p.Place)
	return store.Receipt{Partition: region.Partition(p.Partition), First: p.First, Last: p.Last}, nil
}
