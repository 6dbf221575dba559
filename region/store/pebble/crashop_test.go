package pebble_test

import (
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store/pebble"
)

// step names what the engine is about to do to the disk; "" for what a crash
// could not tell from the step before.
func step(op errorfs.Op) string {
	kind := ""
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData:
		kind = "sync"
	case errorfs.OpFileWrite:
		kind = "write"
	case errorfs.OpCreate, errorfs.OpReuseForWrite:
		kind = "create"
	case errorfs.OpRename, errorfs.OpRemove:
		return "rename or remove"
	default:
		return ""
	}
	for _, what := range []string{".log", ".sst", ".blob", "MANIFEST", "marker"} {
		if strings.Contains(op.Path, what) {
			return kind + " " + what
		}
	}
	if kind == "sync" && !strings.Contains(op.Path[strings.LastIndex(op.Path, "/")+1:], ".") {
		return "sync directory"
	}
	return ""
}

// TestCrashAtEveryStep takes the power away right before each kind of thing that
// the engine does to its disk, flushes and compactions included, many times
// each: what was acknowledged by then is there afterwards, and nothing by half.
func TestCrashAtEveryStep(t *testing.T) {
	const each = 5 // crashes of a kind
	type crash struct {
		at           string
		disk         *vfs.MemFS
		acknowledged map[region.UIN]int
	}
	disk := vfs.NewCrashableMem()
	var mu sync.Mutex
	var on atomic.Bool
	var crashes []crash
	seen, taken := map[string]int{}, map[string]int{}
	acknowledged := map[region.UIN]int{}
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		at := step(op)
		if at == "" || !on.Load() {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		// Early ones, and then ever fewer: logs are synced all the time.
		if seen[at]++; taken[at] < each && seen[at] >= 1<<taken[at]/2 {
			taken[at]++
			lost := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[len(crashes)%3], RNG: rand.New(rand.NewPCG(uint64(len(crashes)), 7))}
			crashes = append(crashes, crash{at, disk.CrashClone(lost), maps.Clone(acknowledged)})
		}
		return nil
	}))
	s, err := pebble.Open(pebble.Options{Dir: "/store", FS: fs, Region: "sh", Partitions: partitions, Memory: 32 << 10})
	if err != nil {
		t.Fatal(err)
	}
	on.Store(true)
	for i := 1; i <= 400; i++ {
		for owner := region.UIN(1000); owner < 1006; owner++ {
			if _, err := s.Commit(ctx, pair(owner, i)); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			acknowledged[owner] = i
			mu.Unlock()
		}
	}
	on.Store(false)
	closed(t, s)
	for _, at := range []string{
		"create .log", "write .log", "sync .log", "create .sst", "write .sst", "sync .sst", "create .blob", "write .blob", "sync .blob",
		"write MANIFEST", "sync MANIFEST", "sync directory", "rename or remove",
	} {
		if taken[at] == 0 {
			t.Errorf("no crash before %q; there were %v", at, taken)
		}
	}
	for _, c := range crashes {
		s := open(t, c.disk)
		verify(t, s, c.acknowledged)
		closed(t, s)
		if t.Failed() {
			t.Fatalf("after the crash before %q", c.at)
		}
	}
	t.Logf("%d crashes: %v", len(crashes), taken)
}
