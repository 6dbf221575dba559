package pebble

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// engineOptions are Pebble's options for this store's rows and journal.
func engineOptions(o *Options, fs vfs.FS, cache *pebble.Cache) *pebble.Options {
	po := &pebble.Options{
		FS:                 fs,
		Logger:             logger{log: o.Logger, fatal: o.Fatal},
		Cache:              cache,
		FormatMajorVersion: pebble.FormatValueSeparation,
		// Writes never wait for memory: two memtables fill while one is flushed.
		MemTableSize:                uint64(o.Memory),
		MemTableStopWritesThreshold: 4,
		// Rows scatter over all owners, so that every compaction out of level 0
		// rewrites most of the level below: seldom and much costs less.
		// A table is handed to the disk in pieces, so that the log's fsync does not
		// wait behind half a megabyte of it: with 512 KiB a sync took 3.5 ms in the
		// middle while a memtable was flushed, with 128 KiB 1.7 ms, without a flush 0.5.
		BytesPerSync:               128 << 10,
		L0CompactionThreshold:      8,
		L0StopWritesThreshold:      24,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
	}
	po.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { o.Logger.Error("store cannot write in the background", "dir", o.Dir, "error", err) },
	}
	po.TargetFileSizes[0] = 8 << 20 // fewer files to look into
	po.LBaseMaxBytes = 256 << 20
	for i := range po.Levels {
		// A filter on every level says without a read that a row is not there.
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// What is flushed is rewritten at once: compressing it is lost work.
	po.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	po.Levels[1].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	// The journal is written in order, read once or twice, and trimmed in order:
	// compactions need not carry it along. It is half of all bytes.
	po.Experimental.SpanPolicyFunc = spanPolicy
	po.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 64, MaxBlobReferenceDepth: 10, RewriteMinimumAge: 10 * time.Minute, TargetGarbageRatio: 0.5}
	}
	return po
}

// spanPolicy keeps the values of the journal (j) and of what is kept of other
// journals (k) apart, in files of their own, and all others with their keys.
func spanPolicy(start []byte) (pebble.SpanPolicy, []byte, error) {
	together := pebble.SpanPolicy{ValueStoragePolicy: pebble.ValueStorageLowReadLatency}
	switch {
	case len(start) == 0 || start[0] < 'j':
		return together, []byte{'j'}, nil
	case start[0] <= 'k':
		return pebble.SpanPolicy{DisableValueSeparationBySuffix: true}, []byte{'k' + 1}, nil
	}
	return together, nil, nil
}
