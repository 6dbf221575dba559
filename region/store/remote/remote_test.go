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
	server, err := rpc.Listen(rpc.ServerOptions{Identity: identity("store", s.Region()), Address: "127.0.0.1:0", Handler: remote.Handler(s, func(region.Partition) (uint64, uint64, bool) { return 7, 8, true })})
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

// What is read comes with where the journal stands, never older than the rows;
// and with what the backup has.
func TestHeadCoversWhatIsRead(t *testing.T) {
	s := storetest.NewMemory(storetest.Config{Region: "sh", Partitions: 4, Now: time.Now})
	f := newFar(t, s)
	ctx := context.Background()
	const u = 1_000_001
	p := region.PartitionOf(u, 4)
	if h := f.rows.Head(p); h.Incarnation != 0 || h.Next != 0 {
		t.Errorf("before anything was asked: %v", h)
	}
	if _, _, ok := f.rows.Held(p); ok {
		t.Error("held before anything was asked")
	}
	for i := range 3 {
		// Committed by somebody else, read here.
		r, err := s.Commit(ctx, &store.Batch{Owner: u, Home: "sh", Writes: []store.Write{{Table: 101, Row: []byte{byte(i)}, Value: []byte("x")}}})
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			err = f.rows.Scan(ctx, u, 101, store.Range{}, func(*store.Row) bool { return true })
		} else {
			_, err = f.rows.Get(ctx, u, 101, []byte{byte(i)})
		}
		if h := f.rows.Head(p); err != nil || h.Next != r.Last+1 || h.Incarnation == 0 {
			t.Errorf("head %v after record %d was read, %v", h, r.Last, err)
		}
	}
	r, err := f.rows.Commit(ctx, &store.Batch{Owner: u, Home: "sh", Writes: []store.Write{{Table: 101, Row: []byte("z"), Value: []byte("x")}}})
	if h := f.rows.Head(p); err != nil || h.Next != r.Last+1 {
		t.Errorf("head %v after record %d was committed, %v", h, r.Last, err)
	}
	if i, n, ok := f.rows.Held(p); i != 7 || n != 8 || !ok {
		t.Errorf("held: %d, %d, %v", i, n, ok)
	}
}

// A scan of more than one answer holds goes on where it stopped, in both
// directions, and keeps its limit.
func TestLongScan(t *testing.T) {
	s := storetest.NewMemory(storetest.Config{Region: "sh", Partitions: 4, Now: time.Now})
	f := newFar(t, s)
	ctx := context.Background()
	const u, n = 1_000_001, 40
	value := make([]byte, 100<<10)
	for i := range n {
		if _, err := s.Commit(ctx, &store.Batch{Owner: u, Home: "sh", Writes: []store.Write{{Table: 101, Row: []byte{byte(i)}, Value: value}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, reverse := range []bool{false, true} {
		for _, limit := range []int{0, 1, 11, 12, 25, n} {
			var got []byte
			if err := f.rows.Scan(ctx, u, 101, store.Range{Reverse: reverse, Limit: limit}, func(r *store.Row) bool { got = append(got, r.Row...); return true }); err != nil {
				t.Fatal(err)
			}
			want := limit
			if limit == 0 {
				want = n
			}
			for i, b := range got {
				if reverse {
					b = n - 1 - b
				}
				if int(b) != i {
					t.Fatalf("reverse %v, limit %d: %v", reverse, limit, got)
				}
			}
			if len(got) != want {
				t.Errorf("reverse %v, limit %d: %d rows", reverse, limit, len(got))
			}
		}
	}
}

// While the store's process is away, calls wait for it; its death is not a
// conflict, and not an acknowledgement.
func TestStoreRestarts(t *testing.T) {
	s := storetest.NewMemory(storetest.Config{Region: "sh", Partitions: 4, Now: time.Now})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	listen := func(address string) *rpc.Server {
		server, err := rpc.Listen(rpc.ServerOptions{Identity: identity("store", "sh"), Address: address, Handler: remote.Handler(s, nil)})
		if err != nil {
			t.Fatal(err)
		}
		return server
	}
	server := listen("127.0.0.1:0")
	at := server.Addr().String()
	rows, err := remote.Open(ctx, rpc.ClientOptions{Identity: identity("logic", "sh"), Address: at})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	_ = server.Close(ctx)
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	_, err = rows.Get(short, 1_000_001, 101, []byte("x"))
	stop()
	if region.KindOf(err) != region.Unavailable {
		t.Errorf("without a store: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := rows.Commit(ctx, &store.Batch{Owner: 1_000_001, Home: "sh", Writes: []store.Write{{Table: 101, Row: []byte("x"), Value: []byte("y")}}})
		got <- err
	}()
	server = listen(at)
	if err := <-got; err != nil {
		t.Errorf("a commit that waited: %v", err)
	}
	_ = server.Close(ctx)
}
