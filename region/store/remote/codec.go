package remote

import (
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/rpc"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/wire"
)

// Methods, append-only.
const (
	methodShape  rpc.Method = 1 // nothing -> StoreShape
	methodGet    rpc.Method = 2 // StoreGet -> StoreRow
	methodScan   rpc.Method = 3 // StoreScan -> StoreRows
	methodCommit rpc.Method = 4 // StoreCommit -> StoreReceipt
)

// ScanBytes is about how much one answer to a scan holds, in bytes of keys and
// values.
const ScanBytes = 1 << 20

func malformed(what string, cause error) error {
	return region.Errorf(region.BadInput, "%s cannot be read", what).WithHint("the processes of the region run different versions").WithCause(cause)
}

func encode(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, region.Errorf(region.BadInput, "cannot encode: a text is not UTF-8").WithCause(err)
	}
	return b, nil
}

func tableOf(n uint32) (journal.Table, error) {
	if n > math.MaxUint8 {
		return 0, malformed("a table", nil)
	}
	return journal.Table(n), nil
}

func rowToProto(r *store.Row) *v1.StoreRow {
	return &v1.StoreRow{Table: uint32(r.Table), Row: r.Row, Version: r.Version, Epoch: wire.EpochToProto(r.Epoch), Deleted: r.Deleted, Value: r.Value}
}

func rowFromProto(p *v1.StoreRow) (store.Row, error) {
	t, err := tableOf(p.Table)
	if err != nil {
		return store.Row{}, err
	}
	e, err := wire.EpochFromProto(p.Epoch)
	if err != nil {
		return store.Row{}, malformed("an epoch", err)
	}
	return store.Row{Table: t, Row: p.Row, Version: p.Version, Epoch: e, Deleted: p.Deleted, Value: p.Value}, nil
}

func batchToProto(b *store.Batch) *v1.StoreCommit {
	p := &v1.StoreCommit{Owner: uint64(b.Owner), Home: string(b.Home), Epoch: wire.EpochToProto(b.Epoch)}
	for i := range b.Writes {
		w := &b.Writes[i]
		how, version := w.Expect.Parts()
		p.Writes = append(p.Writes, &v1.StoreWrite{Table: uint32(w.Table), Row: w.Row, Value: w.Value, Delete: w.Delete, Expect: uint32(how), Version: version})
	}
	for i := range b.Commands {
		c := &b.Commands[i]
		p.Commands = append(p.Commands, &v1.StoreCommand{Id: c.ID[:], To: string(c.To), Target: uint64(c.Target), Method: uint32(c.Method), Payload: c.Payload})
	}
	return p
}

func batchFromProto(p *v1.StoreCommit) (*store.Batch, error) {
	e, err := wire.EpochFromProto(p.Epoch)
	if err != nil {
		return nil, malformed("an epoch", err)
	}
	b := &store.Batch{Owner: region.UIN(p.Owner), Home: region.ID(p.Home), Epoch: e}
	for _, w := range p.Writes {
		t, err := tableOf(w.Table)
		if err != nil {
			return nil, err
		}
		expect, ok := store.ExpectOf(uint8(min(w.Expect, math.MaxUint8)), w.Version)
		if !ok {
			return nil, malformed("a precondition", nil)
		}
		b.Writes = append(b.Writes, store.Write{Table: t, Row: w.Row, Value: w.Value, Delete: w.Delete, Expect: expect})
	}
	for _, c := range p.Commands {
		if len(c.Id) != len(journal.CommandID{}) || c.Method > math.MaxUint16 {
			return nil, malformed("a command", nil)
		}
		b.Commands = append(b.Commands, journal.Command{ID: journal.CommandID(c.Id), To: region.ID(c.To), Target: region.UIN(c.Target), Method: uint16(c.Method), Payload: c.Payload})
	}
	return b, nil
}

func rangeToProto(owner region.UIN, t journal.Table, r store.Range) *v1.StoreScan {
	return &v1.StoreScan{Owner: uint64(owner), Table: uint32(t), From: r.From, To: r.To, Reverse: r.Reverse, Limit: uint32(min(max(r.Limit, 0), math.MaxInt32)), Deleted: r.Deleted}
}

func rangeFromProto(p *v1.StoreScan) store.Range {
	return store.Range{From: p.From, To: p.To, Reverse: p.Reverse, Limit: int(p.Limit), Deleted: p.Deleted}
}
