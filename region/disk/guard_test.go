package disk

import (
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/homing-im/homing/region"
)

// small is a file system that is full until the ballast is gone.
type small struct {
	vfs.FS
	free atomic.Uint64
	full atomic.Bool // for who writes
}

func (f *small) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free.Load(), TotalBytes: 1 << 40}, nil
}

func (f *small) Remove(name string) error {
	if name == "/ballast" {
		f.full.Store(false)
	}
	return f.FS.Remove(name)
}

func newSmall(fails func(errorfs.Op) bool) *small {
	f := &small{}
	f.FS = errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.full.Load() && fails(op) {
			return syscall.ENOSPC
		}
		return nil
	}))
	f.free.Store(1 << 30)
	return f
}

func newGuard(f vfs.FS) *Guard {
	return New(Options{Dir: "/", FS: f, MinFree: 8 << 20, What: "the test", Logger: slog.New(slog.DiscardHandler)})
}

func (g *Guard) again() error { // as if the interval had passed
	g.looked.Store(-int64(interval))
	return g.Check()
}

func exists(f vfs.FS, name string) bool {
	_, err := f.Stat(name)
	return err == nil
}

// TestBallast runs a log into a full disk: the write succeeds with the ballast's
// room, writers are refused until there is room for a ballast again, and the
// ballast is back then.
func TestBallast(t *testing.T) {
	f := newSmall(func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate })
	g := newGuard(f)
	defer g.Close()
	if err := g.Check(); err != nil || !exists(f, "/ballast") {
		t.Fatalf("at the start: %v, ballast %t", err, exists(f, "/ballast"))
	}
	log, err := g.FS().Create("/000001.log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	f.full.Store(true)
	f.free.Store(0)
	if n, err := log.Write([]byte("all of it")); n != 9 || err != nil {
		t.Fatalf("Write on a full disk with a ballast: %d, %v", n, err)
	}
	if err := g.Check(); region.KindOf(err) != region.Unavailable || !errors.Is(err, syscall.ENOSPC) || exists(f, "/ballast") {
		t.Fatalf("after the ballast was used: %v, ballast %t", err, exists(f, "/ballast"))
	}
	f.full.Store(true)
	if _, err := log.Write([]byte("more")); !IsFull(err) {
		t.Fatalf("Write without a ballast: %v", err)
	}
	if _, err := g.FS().Create("/000002.log", vfs.WriteCategoryUnspecified); !IsFull(err) {
		t.Fatalf("Create without a ballast: %v", err)
	}
	f.full.Store(false)
	f.free.Store(9 << 20) // enough for writers, too little for a ballast as well
	if err := g.again(); region.KindOf(err) != region.Unavailable {
		t.Fatalf("with too little room: %v", err)
	}
	f.free.Store(10 << 20)
	if err := g.again(); err != nil || !exists(f, "/ballast") {
		t.Fatalf("with room: %v, ballast %t", err, exists(f, "/ballast"))
	}
	r, err := f.Open("/000001.log")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); string(b) != "all of it" || err != nil {
		t.Errorf("the log has %q, %v", b, err)
	}
	if err := errors.Join(r.Close(), log.Close()); err != nil {
		t.Fatal(err)
	}
	g.Close()
	if exists(f, "/ballast") {
		t.Error("the ballast is there after Close")
	}
}

// TestSyncOnce fails a sync for want of room: it is not tried again, because the
// second one would say that all is well.
func TestSyncOnce(t *testing.T) {
	f := newSmall(func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData })
	g := newGuard(f)
	defer g.Close()
	for _, sync := range []func(vfs.File) error{vfs.File.Sync, vfs.File.SyncData} {
		log, err := g.FS().Create("/000001.log", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		f.full.Store(true)
		if err := sync(log); !IsFull(err) {
			t.Errorf("a sync that failed: %v", err)
		}
		if err := g.Check(); region.KindOf(err) != region.Unavailable {
			t.Errorf("afterwards: %v", err)
		}
		if err := errors.Join(g.again(), log.Close()); err != nil {
			t.Errorf("with room again: %v", err)
		}
	}
}

// TestTablesLeaveTheBallast fails a table, which the engine makes again later.
func TestTablesLeaveTheBallast(t *testing.T) {
	f := newSmall(func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate })
	g := newGuard(f)
	defer g.Close()
	for _, name := range []string{"/000003.sst", "/000004.blob"} {
		table, err := g.FS().Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		f.full.Store(true)
		f.free.Store(0)
		if _, err := table.Write([]byte("x")); !IsFull(err) || !exists(f, "/ballast") {
			t.Errorf("%s: %v, ballast %t", name, err, exists(f, "/ballast"))
		}
		if err := g.Check(); region.KindOf(err) != region.Unavailable {
			t.Errorf("afterwards: %v", err)
		}
		if _, err := g.FS().Create(name, vfs.WriteCategoryUnspecified); !IsFull(err) {
			t.Errorf("Create of %s: %v", name, err)
		}
		f.full.Store(false)
		f.free.Store(1 << 30)
		if err := errors.Join(g.again(), table.Close()); err != nil {
			t.Errorf("with room again: %v", err)
		}
	}
}

func TestAdmitsAlways(t *testing.T) {
	f := newSmall(func(errorfs.Op) bool { return true })
	f.free.Store(0)
	g := New(Options{Dir: "/", FS: f, MinFree: -1, Logger: slog.New(slog.DiscardHandler)})
	defer g.Close()
	if err := g.Check(); err != nil || exists(f, "/ballast") || g.FS() != vfs.FS(f) {
		t.Errorf("%v, ballast %t", err, exists(f, "/ballast"))
	}
}
