// Package disk keeps an embedded engine (Pebble) away from a full disk, which
// would end its log or its manifest and with them the process.
//
// It guarantees two things. A [Guard] refuses writes while less than a minimum
// is free, and admits them again by itself. Where the disk is filled faster than
// the guard looks, by somebody else, the engine's log and manifest get the room
// of a ballast file that the guard holds, so that what was admitted becomes
// durable; the ballast is made again once there is room. Only when that is used
// up too does the engine see its disk full.
package disk

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/homing-im/homing/region"
)

const (
	// interval is how often writers look at the disk: often enough that no
	// engine fills Options.MinFree in between.
	interval = 250 * time.Millisecond

	// ballastName is a file in the engine's directory.
	ballastName = "ballast"

	// maxBallast bounds the ballast, in bytes: what an engine writes to log and
	// manifest before its last writer has heard that the disk is full.
	maxBallast = 32 << 20
)

// Options of a guard.
type Options struct {
	Dir     string // must be there; the engine's
	FS      vfs.FS
	MinFree int64 // bytes that have to be free for writes to be admitted; negative admits always, and has no ballast
	What    string
	Logger  *slog.Logger
}

// Guard is between one engine and its disk. All methods are safe for concurrent
// use.
type Guard struct {
	o    Options
	file string // of the ballast
	size int64  // of the ballast
	stop chan struct{}

	looked atomic.Int64 // nanoseconds since start of the last look at the disk; 0 for never
	full   atomic.Bool

	mu      sync.Mutex
	ballast bool // is there
	closed  bool
}

var start = time.Now()

// New makes the ballast, when the disk has room for it.
func New(o Options) *Guard {
	g := &Guard{o: o, file: o.FS.PathJoin(o.Dir, ballastName), size: min(maxBallast, max(0, o.MinFree)/4), stop: make(chan struct{})}
	if g.size > 0 {
		g.mu.Lock()
		g.look()
		g.mu.Unlock()
	}
	return g
}

// Check returns an error while the disk has too little room: region.Unavailable,
// and nothing may be written. Writers pay for the look at the disk, so that
// nothing runs where nobody writes.
func (g *Guard) Check() error {
	if g.o.MinFree < 0 {
		return nil
	}
	now, looked := int64(time.Since(start))+1, g.looked.Load()
	if now-looked > int64(interval) && g.looked.CompareAndSwap(looked, now) {
		g.mu.Lock()
		g.look()
		g.mu.Unlock()
	}
	if g.full.Load() {
		return region.Errorf(region.Unavailable, "the disk of %s has less than %d MiB left", g.o.What, (g.o.MinFree+g.size)>>20).
			WithHint("free space there; writes go on by themselves").WithCause(syscall.ENOSPC)
	}
	return nil
}

// look decides whether the disk is full, and makes the ballast that is missing.
// g.mu is held.
func (g *Guard) look() {
	g.looked.Store(int64(time.Since(start)) + 1)
	usage, err := g.o.FS.GetDiskUsage(g.o.Dir)
	if err != nil { // a file system that cannot tell is one that is not full
		usage.AvailBytes = 1 << 62
	}
	need := uint64(g.o.MinFree)
	if !g.ballast {
		need += uint64(g.size)
	}
	full := usage.AvailBytes < need
	if !full && !g.ballast && !g.closed {
		g.ballast = g.allocate()
	}
	g.set(full)
}

func (g *Guard) set(full bool) {
	if g.full.Swap(full) == full {
		return
	}
	if full {
		g.o.Logger.Error("disk is full and writes are refused", "dir", g.o.Dir)
	} else {
		g.o.Logger.Info("disk has room again and writes go on", "dir", g.o.Dir)
	}
}

// allocate makes the ballast, of real blocks where the file system has them.
func (g *Guard) allocate() bool {
	f, err := g.o.FS.Create(g.file, vfs.WriteCategoryUnspecified)
	if err == nil {
		err = errors.Join(f.Preallocate(0, g.size), f.Close())
	}
	if err != nil {
		g.o.Logger.Warn("no ballast for the time when the disk is full", "file", g.file, "error", err)
		_ = g.o.FS.Remove(g.file)
	}
	return err == nil
}

// give frees the ballast for who ran into the full disk, and refuses writes. It
// says whether trying again makes sense.
func (g *Guard) give() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	had := g.ballast
	if had {
		g.ballast = false
		had = g.o.FS.Remove(g.file) == nil
	}
	g.looked.Store(int64(time.Since(start)) + 1)
	g.set(true)
	return had
}

// pause holds up who cannot write what is not urgent, until the guard is closed
// at the latest.
func (g *Guard) pause() {
	g.set(true)
	t := time.NewTimer(interval)
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.stop:
	}
}

// Close lets go of who is held up, and removes the ballast. The engine may be
// closed after it.
func (g *Guard) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	close(g.stop)
	if g.ballast {
		g.ballast = false
		_ = g.o.FS.Remove(g.file)
	}
}

// IsFull says whether an error is that of a full disk.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
