package pebble

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
)

// Options of a store. Dir, Region and Partitions are required; everything else
// has a default.
type Options struct {
	Dir        string    // made if missing; one process at a time
	Region     region.ID // a directory belongs to one region for ever
	Partitions int       // 1 to 65,536; fixed when the directory is made

	Logger   *slog.Logger          // nil logs nothing
	Registry prometheus.Registerer // nil registers no metrics; one store per registry
	Now      func() time.Time      // time of records; nil is time.Now

	// MinFree is how many bytes have to be free on the disk for writes to be
	// admitted. It has to hold what Pebble writes between two looks at the disk
	// (a quarter of a second), because a log that runs into a full disk makes
	// the store read-only. 0 is 128 MiB, negative admits always.
	MinFree int64

	// Memory is the size of a memtable, in bytes; 0 is 64 MiB. There are two, more
	// while flushes are behind; the block cache takes up to six times as much once
	// that was read, and what is known of recent rows up to as much.
	Memory int64

	// FilterMemory bounds what the store spends on knowing which rows are not
	// there, in bytes: 16 bits a row, up to three times as much while it grows.
	// In partitions whose rows do not fit, every new row is looked up on the
	// disk. 0 is 128 MiB, negative is none.
	FilterMemory int64

	// FS is the file system; nil is the operating system's. Tests lose writes
	// and fail syncs with it.
	FS vfs.FS

	// Fatal is called when Pebble cannot go on and the process has to end. It
	// must not return. nil is os.Exit(1) after the error was logged.
	Fatal func(message string)
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, fmt.Errorf("store: no directory given")
	}
	if err := o.Region.Valid(); err != nil {
		return o, fmt.Errorf("store: %w", err)
	}
	if o.Partitions < 1 || o.Partitions > 1<<16 {
		return o, fmt.Errorf("store: %d partitions: want 1 to 65536", o.Partitions)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MinFree == 0 {
		o.MinFree = 128 << 20
	}
	if o.Memory == 0 {
		o.Memory = 64 << 20
	}
	if o.FilterMemory == 0 {
		o.FilterMemory = 128 << 20
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Fatal == nil {
		o.Fatal = func(string) { os.Exit(1) }
	}
	return o, nil
}

// logger hands Pebble's own messages to slog.
type logger struct {
	log   *slog.Logger
	fatal func(string)
}

// Infof drops the chatter about flushes and compactions.
func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("pebble reports an error", "error", fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.log.Error("the store cannot go on", "error", message)
	l.fatal(message)
	panic("store: Fatal returned: " + message)
}
