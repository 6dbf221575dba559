package pebble

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/homing-im/homing/region"
)

// diskInterval is how often writers look at the disk: often enough that no
// writer fills Options.MinFree in between.
const diskInterval = 250 * time.Millisecond

// disk keeps writes away from a disk that is nearly full, because a log that
// runs into a full one makes the store read-only.
type disk struct {
	fs  vfs.FS
	dir string
	min int64 // bytes; negative: never full

	looked atomic.Int64 // nanoseconds since the first look
	full   atomic.Bool
}

var epoch = time.Now()

// check returns an error while there is too little room. Writers pay for the
// look at the disk, so that nothing runs in a store nobody writes to.
func (d *disk) check() error {
	if d.min < 0 {
		return nil
	}
	now, looked := int64(time.Since(epoch))+1, d.looked.Load()
	if (looked == 0 || now-looked > int64(diskInterval)) && d.looked.CompareAndSwap(looked, now) {
		usage, err := d.fs.GetDiskUsage(d.dir)
		d.full.Store(err == nil && usage.AvailBytes < uint64(d.min))
	}
	if d.full.Load() {
		return region.Errorf(region.Unavailable, "the disk of the store in %s has less than %d MiB left", d.dir, d.min>>20).
			WithHint("free space there; writes go on by themselves")
	}
	return nil
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
