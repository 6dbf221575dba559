package remote

import (
	"bytes"
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/rpc"
	"github.com/homing-im/homing/region/store"
)

// Held says how much of a partition's journal the backup of the region's own home
// has; false when that is not known. It must not block.
type Held func(region.Partition) (incarnation, sequence uint64, ok bool)

// Handler serves a store to logic processes. Its server must be closed before
// the store. Held may be nil.
func Handler(s store.Rows, held Held) rpc.Handler {
	if held == nil {
		held = func(region.Partition) (uint64, uint64, bool) { return 0, 0, false }
	}
	return handler{s, held}
}

type handler struct {
	s    store.Rows
	held Held
}

// place is asked after the rows were, so that it covers what they show.
func (h handler) place(owner region.UIN) *v1.StorePlace {
	p := region.PartitionOf(owner, h.s.Partitions())
	at := h.s.Head(p)
	out := &v1.StorePlace{Incarnation: at.Incarnation, First: at.First, Next: at.Next}
	if i, n, ok := h.held(p); ok {
		out.HeldIncarnation, out.HeldSequence = i, n
	}
	return out
}

func (handler) Connected(*rpc.Peer)                {}
func (handler) Gone(*rpc.Peer)                     {}
func (handler) Tell(*rpc.Peer, rpc.Method, []byte) {}

func (h handler) Call(ctx context.Context, _ *rpc.Peer, m rpc.Method, body []byte) ([]byte, error) {
	switch m {
	case methodShape:
		return encode(&v1.StoreShape{Region: string(h.s.Region()), Partitions: uint32(h.s.Partitions())})
	case methodGet:
		return h.get(ctx, body)
	case methodScan:
		return h.scan(ctx, body)
	case methodCommit:
		return h.commit(ctx, body)
	default:
		return nil, region.Errorf(region.Unsupported, "the store has no method %d", m).WithHint("upgrade the process that has the store first")
	}
}

func (h handler) get(ctx context.Context, body []byte) ([]byte, error) {
	q := new(v1.StoreGet)
	if err := proto.Unmarshal(body, q); err != nil {
		return nil, malformed("a get", err)
	}
	t, err := tableOf(q.Table)
	if err != nil {
		return nil, err
	}
	r, err := h.s.Get(ctx, region.UIN(q.Owner), t, q.Row)
	if err != nil {
		return nil, err
	}
	p := rowToProto(&r)
	p.Place = h.place(region.UIN(q.Owner))
	return encode(p)
}

func (h handler) scan(ctx context.Context, body []byte) ([]byte, error) {
	q := new(v1.StoreScan)
	if err := proto.Unmarshal(body, q); err != nil {
		return nil, malformed("a scan", err)
	}
	t, err := tableOf(q.Table)
	if err != nil {
		return nil, err
	}
	answer, size := new(v1.StoreRows), 0
	err = h.s.Scan(ctx, region.UIN(q.Owner), t, rangeFromProto(q), func(r *store.Row) bool {
		if size >= ScanBytes {
			answer.More = true
			return false
		}
		size += len(r.Row) + len(r.Value)
		p := rowToProto(r)
		p.Row, p.Value = bytes.Clone(r.Row), bytes.Clone(r.Value)
		answer.Rows = append(answer.Rows, p)
		return true
	})
	if err != nil {
		return nil, err
	}
	answer.Place = h.place(region.UIN(q.Owner))
	return encode(answer)
}

func (h handler) commit(ctx context.Context, body []byte) ([]byte, error) {
	q := new(v1.StoreCommit)
	if err := proto.Unmarshal(body, q); err != nil {
		return nil, malformed("a commit", err)
	}
	b, err := batchFromProto(q)
	if err != nil {
		return nil, err
	}
	r, err := h.s.Commit(ctx, b)
	if err != nil {
		return nil, err
	}
	return encode(&v1.StoreReceipt{Partition: uint32(r.Partition), First: r.First, Last: r.Last, Place: h.place(b.Owner)})
}
