package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
)

const partitions = 4

var ctx = context.Background()

func open(t testing.TB, fs vfs.FS) *pebble.Store {
	t.Helper()
	s, err := pebble.Open(pebble.Options{Dir: "/store", FS: fs, Region: "sh", Partitions: partitions, Memory: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t testing.TB, s *pebble.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// pair is a batch of two rows of equal value, so that half of it shows.
func pair(owner region.UIN, i int) *store.Batch {
	v := fmt.Appendf(nil, "%d", i)
	return &store.Batch{Owner: owner, Home: "sh", Writes: []store.Write{
		{Table: 1, Row: fmt.Appendf(nil, "%06d", i), Value: v},
		{Table: 101, Row: []byte("last"), Value: v},
	}}
}

// TestCrash takes the power away while callers commit, many times: of what was
// not synced, the disk keeps nothing, or any part. Every acknowledged commit is
// there afterwards, none is there by half, and rows, journal and digests agree.
func TestCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	acknowledged := map[region.UIN]int{} // last
	for round := range 12 {
		s := open(t, fs)
		verify(t, s, acknowledged)
		var mu sync.Mutex
		var wg sync.WaitGroup
		var commits atomic.Int64
		stop := make(chan struct{})
		enough := make(chan struct{})
		for c := range 6 {
			owner := region.UIN(1000 + c)
			mu.Lock()
			first := acknowledged[owner] + 1
			mu.Unlock()
			wg.Go(func() {
				for i := first; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := s.Commit(ctx, pair(owner, i)); err != nil {
						t.Errorf("Commit: %v", err)
						return
					}
					mu.Lock()
					acknowledged[owner] = i
					mu.Unlock()
					if commits.Add(1) == int64(40+round*30) {
						close(enough)
					}
				}
			})
		}
		<-enough
		// What was acknowledged before the power went; later acknowledgements
		// are of a machine that is no more.
		mu.Lock()
		before := map[region.UIN]int{}
		for owner, i := range acknowledged {
			before[owner] = i
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[round%3], RNG: rand.New(rand.NewPCG(uint64(round), 7))})
		mu.Unlock()
		close(stop)
		wg.Wait()
		closed(t, s)
		fs, acknowledged = crashed, before
	}
	s := open(t, fs)
	verify(t, s, acknowledged)
	closed(t, s)
}

// verify checks a store after a crash, and raises acknowledged to what is there:
// a commit that was not acknowledged may be there, whole.
func verify(t *testing.T, s *pebble.Store, acknowledged map[region.UIN]int) {
	t.Helper()
	sums := [partitions]journal.Watermark{}
	for owner := region.UIN(1000); owner < 1006; owner++ {
		p := region.PartitionOf(owner, partitions)
		n := 0
		err := s.Scan(ctx, owner, 1, store.Range{Limit: 1 << 20}, func(r *store.Row) bool {
			n++
			if want := fmt.Sprintf("%06d", n); string(r.Row) != want || r.Version != 1 {
				t.Errorf("owner %d has row %s@%d, want %s@1", owner, r.Row, r.Version, want)
			}
			sums[p].SharedSum = sums[p].SharedSum.Add(journal.RowSum(owner, 1, r.Row, r.Version, r.Epoch, r.Deleted, r.Value))
			sums[p].SharedRows++
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		last, err := s.Get(ctx, owner, 101, []byte("last"))
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			if string(last.Value) != fmt.Sprint(n) || last.Version != uint64(n) {
				t.Fatalf("owner %d has %d rows, but last=%s@%d: half a batch", owner, n, last.Value, last.Version)
			}
			sums[p].OwnSum = sums[p].OwnSum.Add(journal.RowSum(owner, 101, last.Row, last.Version, last.Epoch, last.Deleted, last.Value))
			sums[p].OwnRows++
		}
		if n < acknowledged[owner] {
			t.Fatalf("owner %d: %d commits were acknowledged, %d are there", owner, acknowledged[owner], n)
		}
		acknowledged[owner] = n
	}
	for p := range region.Partition(partitions) {
		sums[p].Home = "sh"
		if got := s.Sums(p, "sh"); got != sums[p] {
			t.Fatalf("partition %d: sums are %+v, the rows give %+v", p, got, sums[p])
		}
		head := journal.StreamHead{Stream: journal.Full}
		batches, err := s.Journal(ctx, p, journal.Full, 1, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			if head, err = journal.Follow(head, b); err != nil {
				t.Fatal(err)
			}
			if len(b.Records) != 2 {
				t.Fatalf("batch %d has %d records", b.First(), len(b.Records))
			}
		}
		if h := s.Head(p); head.Last+1 != h.Next || uint64(2*len(batches)) != sums[p].SharedRows*2 {
			t.Fatalf("partition %d: journal ends at %d with %d batches, head %+v, %d rows", p, head.Last, len(batches), h, sums[p].SharedRows)
		}
	}
}

// TestAcknowledgedAfterSync holds the log's sync back: meanwhile nothing is
// acknowledged, and nobody reads what is not durable.
func TestAcknowledgedAfterSync(t *testing.T) {
	held, release := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isLogSync(op) && hold.CompareAndSwap(true, false) {
			close(held)
			<-release
		}
		return nil
	}))
	s := open(t, fs)
	if _, err := s.Commit(ctx, pair(1000, 1)); err != nil {
		t.Fatal(err)
	}
	p := region.PartitionOf(1000, partitions)
	changed := s.Changed(p)
	hold.Store(true)
	done := make(chan error, 2)
	go func() {
		_, err := s.Commit(ctx, pair(1000, 2))
		done <- err
	}()
	<-held
	// The next commit builds on the one that syncs.
	go func() {
		b := pair(1000, 3)
		b.Writes[1].Expect = store.AtVersion(2)
		_, err := s.Commit(ctx, b)
		done <- err
	}()
	for range 100 {
		select {
		case err := <-done:
			t.Fatalf("acknowledged before the sync returned: %v", err)
		case <-changed:
			t.Fatal("readers were woken before the sync returned")
		default:
		}
		r, err := s.Get(ctx, 1000, 101, []byte("last"))
		if err != nil || r.Version != 1 {
			t.Fatalf("a reader sees version %d, %v", r.Version, err)
		}
		batches, err := s.Journal(ctx, p, journal.Full, 1, 1<<20)
		if err != nil || len(batches) != 1 || s.Head(p).Next != 3 || s.Sums(p, "sh").SharedRows != 1 {
			t.Fatalf("a reader sees %d batches, head %+v, %v", len(batches), s.Head(p), err)
		}
	}
	close(release)
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if r, err := s.Get(ctx, 1000, 101, []byte("last")); err != nil || r.Version != 3 {
		t.Fatalf("version is %d, %v", r.Version, err)
	}
	closed(t, s)
}

func isLogSync(op errorfs.Op) bool {
	sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
	return sync && strings.HasSuffix(op.Path, ".log")
}

func isLogWrite(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log")
}

// TestSyncFails injects an error where the log is synced or written: nothing is
// acknowledged any more, reads go on, and the store opened again has every
// acknowledged commit.
func TestSyncFails(t *testing.T) {
	for name, c := range map[string]struct {
		at   func(errorfs.Op) bool
		err  error
		kind region.Kind
	}{
		"sync":          {isLogSync, errors.New("I/O error"), region.Internal},
		"write":         {isLogWrite, errors.New("I/O error"), region.Internal},
		"full at sync":  {isLogSync, syscall.ENOSPC, region.Unavailable},
		"full at write": {isLogWrite, syscall.ENOSPC, region.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			var broken atomic.Bool
			s := open(t, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && c.at(op) {
					return c.err
				}
				return nil
			})))
			acknowledged := map[region.UIN]int{}
			var mu sync.Mutex
			var wg sync.WaitGroup
			for n := range 6 {
				owner := region.UIN(1000 + n)
				wg.Go(func() {
					for i := 1; ; i++ {
						_, err := s.Commit(ctx, pair(owner, i))
						if err != nil {
							var e *region.Error
							if !errors.As(err, &e) || e.Kind != c.kind || e.Hint == "" || !errors.Is(err, c.err) {
								t.Errorf("Commit: %v, want kind %v with a hint", err, c.kind)
							}
							return
						}
						mu.Lock()
						acknowledged[owner] = i
						if len(acknowledged) == 6 && i > 5 {
							broken.Store(true)
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			_, err := s.Commit(ctx, pair(1000, 1<<19))
			if region.KindOf(err) != c.kind {
				t.Errorf("a commit after the failure: %v", err)
			}
			if err := s.Fence(ctx, "sh", region.Term{Counter: 1}); region.KindOf(err) != c.kind {
				t.Errorf("a fence after the failure: %v", err)
			}
			for owner, i := range acknowledged {
				r, err := s.Get(ctx, owner, 101, []byte("last"))
				if err != nil || r.Version != uint64(i) {
					t.Errorf("owner %d: read version %d, %v; acknowledged %d", owner, r.Version, err, i)
				}
			}
			closed(t, s)
			s = open(t, disk.CrashClone(vfs.CrashCloneCfg{}))
			verify(t, s, acknowledged)
			closed(t, s)
		})
	}
}
