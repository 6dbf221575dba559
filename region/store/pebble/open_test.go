package pebble_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
)

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	good := pebble.Options{Dir: dir, Region: "sh", Partitions: 4}
	s, err := pebble.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	file := dir + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(o *pebble.Options)
		kind   region.Kind
		words  []string
	}{
		"another region":      {func(o *pebble.Options) { o.Region = "hk" }, region.BadInput, []string{dir, "sh", "hk"}},
		"another count":       {func(o *pebble.Options) { o.Partitions = 8 }, region.BadInput, []string{dir, "4", "8"}},
		"no directory":        {func(o *pebble.Options) { o.Dir = "" }, region.BadInput, []string{"directory"}},
		"no region":           {func(o *pebble.Options) { o.Region = "" }, region.BadInput, []string{"region"}},
		"no partitions":       {func(o *pebble.Options) { o.Partitions = 0 }, region.BadInput, []string{"0 partitions"}},
		"too many":            {func(o *pebble.Options) { o.Partitions = 1<<16 + 1 }, region.BadInput, []string{"65537"}},
		"a file in its place": {func(o *pebble.Options) { o.Dir = file }, region.Internal, []string{file}},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			_, err := pebble.Open(o)
			if region.KindOf(err) != c.kind {
				t.Fatalf("Open: %v (%v), want kind %v", err, region.KindOf(err), c.kind)
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not name %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error is not one line: %q", err)
			}
		})
	}
	if s, err = pebble.Open(good); err != nil {
		t.Fatalf("after all those refusals: %v", err)
	}
	closed(t, s)
}

// TestLocked opens a directory twice, from this process and from another.
func TestLocked(t *testing.T) {
	dir := os.Getenv("HOMING_TEST_LOCKED_DIR")
	o := pebble.Options{Dir: dir, Region: "sh", Partitions: 4}
	if dir != "" { // the other process
		_, err := pebble.Open(o)
		wantLocked(t, err, dir)
		return
	}
	o.Dir = t.TempDir()
	s, err := pebble.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = pebble.Open(o)
	wantLocked(t, err, o.Dir)
	cmd := exec.Command(os.Args[0], "-test.run=^TestLocked$")
	cmd.Env = append(os.Environ(), "HOMING_TEST_LOCKED_DIR="+o.Dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
	closed(t, s)
	if s, err = pebble.Open(o); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
}

func wantLocked(t *testing.T, err error, dir string) {
	t.Helper()
	var e *region.Error
	if !errors.As(err, &e) || e.Kind != region.Unavailable || e.Hint == "" || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("Open of a locked directory: %v", err)
	}
}

// nearlyFull is a file system that says how much room is left.
type nearlyFull struct {
	vfs.FS
	free *atomic.Uint64
}

func (f nearlyFull) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := f.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 40, UsedBytes: 1<<40 - free}, nil
}

// TestDiskFull lets the disk fill up and be freed: writes are refused and go on
// by themselves; fences and trims, which help, pass.
func TestDiskFull(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	s, err := pebble.Open(pebble.Options{Dir: "/store", FS: nearlyFull{vfs.NewMem(), &free}, Region: "sh", Partitions: partitions, MinFree: 1 << 20, Memory: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	commit := func() error {
		i++
		_, err := s.Commit(ctx, pair(1000, i))
		return err
	}
	if err := commit(); err != nil {
		t.Fatal(err)
	}
	free.Store(1<<20 - 1)
	for err == nil { // until the writers look again
		err = commit()
	}
	var e *region.Error
	if !errors.As(err, &e) || e.Kind != region.Unavailable || !strings.Contains(err.Error(), "/store") || e.Hint == "" {
		t.Fatalf("Commit on a full disk: %v", err)
	}
	p := region.PartitionOf(1000, partitions)
	next := s.Head(p).Next
	if err := commit(); region.KindOf(err) != region.Unavailable {
		t.Fatalf("Commit on a full disk: %v", err)
	}
	if _, err := s.Watermark(ctx, p); region.KindOf(err) != region.Unavailable {
		t.Fatalf("Watermark on a full disk: %v", err)
	}
	if got := s.Head(p).Next; got != next {
		t.Fatalf("a refused commit took sequences: %d, was %d", got, next)
	}
	if err := s.Trim(ctx, p, 3); err != nil || s.Head(p).First != 3 {
		t.Fatalf("Trim on a full disk: %v", err)
	}
	if err := s.Fence(ctx, "hk", region.Term{Counter: 1}); err != nil {
		t.Fatalf("Fence on a full disk: %v", err)
	}
	free.Store(1 << 30)
	for err = commit(); region.KindOf(err) == region.Unavailable; {
		err = commit()
	}
	if err != nil {
		t.Fatalf("Commit after space was freed: %v", err)
	}
	closed(t, s)
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	s, err := pebble.Open(pebble.Options{Dir: "/store", FS: vfs.NewMem(), Region: "sh", Partitions: partitions, Registry: r, Memory: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := s.Commit(ctx, pair(1000, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	b := pair(1000, 9)
	b.Writes[0].Expect = store.AtVersion(7)
	if _, err := s.Commit(ctx, b); region.KindOf(err) != region.Conflict {
		t.Fatal(err)
	}
	closed(t, s)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	for name, want := range map[string]float64{
		"homing_store_commits_total": 3, "homing_store_row_writes_total": 6, "homing_store_refusals_total": 1,
		"homing_store_failures_total": 0, "homing_store_fsync_seconds": 3, "homing_store_group_commits": 3,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if got["homing_store_journal_bytes_total"] < 300 {
		t.Errorf("journal bytes are %v", got["homing_store_journal_bytes_total"])
	}
}
