package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/homing-im/homing/region/store/pebble/plain"
)

// Floor is what the disk and the engine below the store do at the rate of
// StoreReport.Half, measured right after it: no store can be quicker.
type Floor struct {
	// Plain has the same batches arrive on the same schedule, each committed to
	// Pebble by itself, without journal, digests and preconditions.
	Plain Rate `json:"plain"`

	// Disk is one writer who appends to a file what is due, as many bytes a second
	// as rows and journal of Half are, and syncs it, again and again. Rows are
	// those bytes' worth; delays are of batches, from when they were due.
	Disk Rate `json:"disk"`

	TimesPlain float64 `json:"times_plain"` // p99 of Half over that of Plain
	TimesDisk  float64 `json:"times_disk"`  // p99 of Half over that of Disk
}

// plainMemory is of the peer's memtables, in bytes: as the store's.
const plainMemory = 64 << 20

// logShare is how many bytes the store's log takes for each byte of a row's key
// and value: the row, and its record in the journal with the digests.
const logShare = 2.4

// floor measures what is below the store, at the rate of half.
func (b *bench) floor(ctx context.Context, dir string, half *Rate) (f *Floor, err error) {
	f = new(Floor)
	p, err := plain.Open(filepath.Join(dir, "plain"), plainMemory)
	if err != nil {
		return nil, err
	}
	f.Plain, err = b.schedule(ctx, half.PerSecond, func(context.Context, *rand.Rand) error { return p.Commit(b.batch()) })
	if err = errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	if f.Disk, err = b.bareDisk(ctx, filepath.Join(dir, "bare"), half.PerSecond); err != nil {
		return nil, err
	}
	f.TimesPlain, f.TimesDisk = half.P99/f.Plain.P99, half.P99/f.Disk.P99
	return f, nil
}

// bareDisk appends and syncs, at so many rows a second. The file is made longer
// and longer, as a log is that nobody has used before.
func (b *bench) bareDisk(ctx context.Context, name string, perSecond float64) (r Rate, err error) {
	f, err := os.Create(name)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	bytes := int(float64(b.Batch) * b.rowBytes() * logShare) // of a batch
	interval := time.Duration(float64(time.Second) * float64(b.Batch) / perSecond)
	delays := make([]histogram, 1)
	buffer := make([]byte, bytes)
	before := usage()
	end := before.at.Add(b.Duration)
	for at := before.at; at.Before(end) && ctx.Err() == nil; {
		time.Sleep(time.Until(at))
		now := time.Now()
		first, due := at, 0
		for ; !at.After(now); at = at.Add(interval) {
			due++
		}
		if n := due * bytes; n > len(buffer) {
			buffer = make([]byte, n)
		}
		if _, err := f.Write(buffer[:due*bytes]); err != nil {
			return r, err
		}
		if err := f.Sync(); err != nil {
			return r, err
		}
		done := time.Now()
		for i := range due {
			delays[0].add(done.Sub(first.Add(time.Duration(i) * interval)))
		}
	}
	return newRate(before, usage(), delays, b.Batch, b.rowBytes()), ctx.Err()
}
