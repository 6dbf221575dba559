package remote_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/rpc"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/remote"
	"github.com/homing-im/homing/region/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(name string, r region.ID) rpc.Identity {
	seed := sha256.Sum256([]byte("key"))
	return rpc.Identity{Region: r, Name: name, Key: ed25519.NewKeyFromSeed(seed[:])}
}

// far is a store whose rows are read and committed over rpc, and whose journal
// is at hand.
type far struct {
	store.Store
	rows *remote.Rows
	stop func()
}

func newFar(t testing.TB, s store.Store) *far {
	t.Helper()
	server, err := rpc.Listen(rpc.ServerOptions{Identity: identity("store", s.Region()), Address: "127.0.0.1:0", Handler: remote.Handler(s)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rows, err := remote.Open(ctx, rpc.ClientOptions{Identity: identity("logic", s.Region()), Address: server.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	f := &far{Store: s, rows: rows}
	f.stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = rows.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Close(ctx)
	}
	t.Cleanup(f.stop)
	return f
}

func (f *far) Region() region.ID { return f.rows.Region() }
func (f *far) Partitions() int   { return f.rows.Partitions() }
func (f *far) Get(ctx context.Context, u region.UIN, t journal.Table, row []byte) (store.Row, error) {
	return f.rows.Get(ctx, u, t, row)
}
func (f *far) Scan(ctx context.Context, u region.UIN, t journal.Table, r store.Range, yield func(*store.Row) bool) error {
	return f.rows.Scan(ctx, u, t, r, yield)
}
func (f *far) Commit(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	return f.rows.Commit(ctx, b)
}

// The contract holds over the network as it does at the engine.
func TestContract(t *testing.T) {
	storetest.Run(t, func(testing.TB) storetest.Factory {
		var memory *storetest.Memory
		return func(t testing.TB, c storetest.Config) store.Store {
			if memory == nil {
				memory = storetest.NewMemory(c)
			} else {
				memory = memory.Reopen(c.Now)
			}
			return newFar(t, memory)
		}
	})
}
