package pebble

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/ids/idstest"
	"github.com/homing-im/homing/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContractInMemory(t *testing.T) {
	fs := map[ids.Store]vfs.FS{}
	idstest.Run(t, idstest.Engine{
		Open: func(t testing.TB) ids.Store {
			f := vfs.NewMem()
			s := mustOpen(t, Options{Dir: "ids", FS: f})
			fs[s] = f
			return s
		},
		Reopen: func(t testing.TB, s ids.Store) ids.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			n := mustOpen(t, Options{Dir: "ids", FS: fs[s]})
			fs[n] = fs[s]
			return n
		},
	})
}

// TestOnDisk runs what matters most on the real file system.
func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	s := mustOpen(t, Options{Dir: dir, Registry: reg})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := s.Claim(t.Context(), ids.Handle(fmt.Sprintf("user%d", i)), region.UIN(i+1)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if h := f.GetMetric()[0].GetHistogram(); f.GetName() == "homing_ids_group_operations" && (h.GetSampleSum() != 200 || h.GetSampleCount() > 200) {
			t.Errorf("%v claims in %d fsyncs, want 200 in fewer", h.GetSampleSum(), h.GetSampleCount())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Options{Dir: dir})
	defer func() { _ = s.Close() }()
	for i := range 200 {
		if c, err := s.Resolve(t.Context(), ids.Handle(fmt.Sprintf("user%d", i))); err != nil || c.Owner != region.UIN(i+1) {
			t.Fatalf("user%d: %+v, %v", i, c, err)
		}
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir})
	defer func() { _ = s.Close() }()
	_, err := Open(Options{Dir: dir})
	if region.KindOf(err) != region.Unavailable || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("second open: %v", err)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, Options{Dir: "ids", FS: fs})
	if err := s.db.Set([]byte("mformat"), []byte("2"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: "ids", FS: fs}); region.KindOf(err) != region.Unsupported {
		t.Fatalf("open of format 2: %v", err)
	}
}

// TestCrash cuts the power at random moments: everything that was acknowledged,
// and everything a reader was told, has to be there afterwards, and no range may
// be given out again.
func TestCrash(t *testing.T) {
	for seed := range uint64(12) {
		fs := vfs.NewCrashableMem()
		s := mustOpen(t, Options{Dir: "ids", FS: fs})
		var mu sync.Mutex
		more := sync.NewCond(&mu)
		known := map[ids.Handle]region.UIN{}
		ranges := map[string]ids.Range{}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for c := range 8 {
			rng := rand.New(rand.NewPCG(seed, uint64(c)))
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					h := ids.Handle(fmt.Sprintf("h%d", rng.IntN(400)))
					var got ids.Claimed
					var err error
					if rng.IntN(2) == 0 {
						got, err = s.Claim(t.Context(), h, region.UIN(1+rng.IntN(400)))
					} else {
						got, err = s.Resolve(t.Context(), h)
					}
					mu.Lock()
					if err == nil {
						known[h] = got.Owner
					}
					more.Signal()
					mu.Unlock()
					if i%4 == 0 {
						key := fmt.Sprintf("%d-%d", c, i)
						r, err := s.Allot(t.Context(), ids.Allotment{Region: "sh", Key: key, Home: "sh", N: 5, Segments: []region.Segment{{First: 0, Last: 1 << 40, Home: "sh"}}})
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						ranges[key] = r
						mu.Unlock()
					}
				}
			})
		}
		mu.Lock() // until the disaster has something to destroy
		for len(known) < 20*int(seed+1) || len(ranges) < 5 {
			more.Wait()
		}
		// What is in the books now was told before the power went.
		owners, given := map[ids.Handle]region.UIN{}, map[string]ids.Range{}
		for h, o := range known {
			owners[h] = o
		}
		for k, r := range ranges {
			given[k] = r
		}
		mu.Unlock()
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed) * 9, RNG: rand.New(rand.NewPCG(seed, 99))})
		close(stop)
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}

		s = mustOpen(t, Options{Dir: "ids", FS: after})
		for h, o := range owners {
			if c, err := s.Resolve(t.Context(), h); err != nil || c.Owner != o {
				t.Fatalf("seed %d: %s belonged to %d before the crash; now %+v, %v", seed, h, o, c, err)
			}
		}
		seen := map[region.UIN]string{}
		for k, r := range given {
			again, err := s.Allot(t.Context(), ids.Allotment{Region: "sh", Key: k, Home: "sh", N: 5})
			if err != nil || again != r {
				t.Fatalf("seed %d: key %s gave %v before the crash; now %v, %v", seed, k, r, again, err)
			}
			seen[r.First] = k
		}
		fresh, err := s.Allot(t.Context(), ids.Allotment{Region: "sh", Key: "after", Home: "sh", N: 5, Segments: []region.Segment{{First: 0, Last: 1 << 40, Home: "sh"}}})
		if err != nil || seen[fresh.First] != "" {
			t.Fatalf("seed %d: range %v after the crash had been given to %q: %v", seed, fresh, seen[fresh.First], err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecords pins the bytes on disk.
func TestRecords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{string(handleKey("al.ice")), "hal.ice"},
		{string(ownerKey(0x0102030405060708)), "o\x01\x02\x03\x04\x05\x06\x07\x08"},
		{string(rangeKey(1000001)), "r\x00\x00\x00\x00\x00\x0f\x42\x41"},
		{string(keyKey("sh", "k1")), "ksh\x00k1"},
		{string(encode(handleRecord{Owner: 1000001})), `{"owner":1000001}`},
		{string(encode(ownerRecord{Handles: []ids.Handle{"old", "primary"}})), `{"handles":["old","primary"]}`},
		{string(encode(rangeRecord{First: 1, Last: 2, Home: "sh", Region: "hk", Key: "k1"})), `{"first":1,"last":2,"home":"sh","region":"hk","key":"k1"}`},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"owner":1}`))
	f.Add([]byte(`{"handles":["a"]}`))
	f.Add([]byte(`{"first":2,"last":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h handleRecord
		if decode("handle", b, &h) == nil && h.Owner == 0 {
			t.Error("a handle without an owner")
		}
		var o ownerRecord
		if decode("owner", b, &o) == nil {
			_ = o.primary()
		}
		var r rangeRecord
		if decode("range", b, &r) == nil && (r.First == 0 || r.Last < r.First) {
			t.Errorf("range %+v", r)
		}
	})
}

func TestDamagedRecordIsAnError(t *testing.T) {
	s := mustOpen(t, Options{Dir: "ids", FS: vfs.NewMem()})
	defer func() { _ = s.Close() }()
	if err := s.db.Set(handleKey("alice"), []byte("{}"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), "alice"); region.KindOf(err) != region.Internal {
		t.Fatalf("resolve of a damaged record: %v", err)
	}
	if _, err := s.Claim(t.Context(), "alice", 1); region.KindOf(err) != region.Internal {
		t.Fatalf("claim over a damaged record: %v", err)
	}
}

func BenchmarkClaim(b *testing.B) {
	s := mustOpen(b, Options{Dir: filepath.Join(b.TempDir(), "ids")})
	defer func() { _ = s.Close() }()
	var mu sync.Mutex
	n := 0
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			n++
			i := n
			mu.Unlock()
			if _, err := s.Claim(b.Context(), ids.Handle(fmt.Sprintf("u%d", i)), region.UIN(i)); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "claims/s")
}
