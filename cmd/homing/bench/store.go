package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
)

const defaultDuration = 10 * time.Second

// Options say what is measured.
type Options struct {
	Dir        string
	Duration   time.Duration // of each measurement
	Callers    int
	Owners     int
	Rows       int // of a batch
	Fresh      int // of these are new
	Value      int // bytes
	Partitions int
}

// Validate reports what is wrong with the options, or nil.
func (o *Options) Validate() error {
	switch {
	case o.Duration <= 0:
		return fmt.Errorf("--duration %s: want more than 0", o.Duration)
	case o.Callers < 1 || o.Callers > 1<<20:
		return fmt.Errorf("--callers %d: want 1 to %d", o.Callers, 1<<20)
	case o.Owners < 1:
		return fmt.Errorf("--owners %d: want at least 1", o.Owners)
	case o.Rows < 1 || o.Rows > 100:
		return fmt.Errorf("--rows %d: want 1 to 100", o.Rows)
	case o.Fresh < 1 || o.Fresh > o.Rows:
		return fmt.Errorf("--new %d: want 1 to the rows of a batch, %d", o.Fresh, o.Rows)
	case o.Value < 0 || o.Value > 8<<10:
		return fmt.Errorf("--value %d: want 0 to %d", o.Value, 8<<10)
	case o.Partitions < 1 || o.Partitions > 1<<16:
		return fmt.Errorf("--partitions %d: want 1 to %d", o.Partitions, 1<<16)
	}
	return nil
}

// tables of the rows: the messages and heads of an inbox.
const (
	tableMessage journal.Table = 101
	tableHead    journal.Table = 102
)

// bench is one run.
type bench struct {
	Options
	s      store.Store
	next   atomic.Uint64 // number of the newest batch
	filler []byte
}

// Store measures the embedded store in a directory of its own, which it
// removes. It blocks for three times Options.Duration and a little.
func Store(ctx context.Context, o Options) (r *StoreReport, err error) {
	dir, err := os.MkdirTemp(o.Dir, "homing-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = &StoreReport{Machine: machine(), Options: o}
	if r.Machine.Fsync, err = probeFsync(dir); err != nil {
		return nil, err
	}
	s, err := pebble.Open(pebble.Options{Dir: dir + "/store", Region: "sh", Partitions: o.Partitions})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b := &bench{Options: o, s: s, filler: make([]byte, o.Value+1<<16)}
	for i := range b.filler {
		b.filler[i] = byte(rand.Uint32())
	}
	if r.Write, err = b.saturate(ctx, o.Callers, b.commit, o.Rows); err != nil {
		return nil, err
	}
	// A read does not wait for a disk it has in memory: more callers than keep
	// the processors busy would measure the scheduler.
	if r.Read, err = b.saturate(ctx, min(o.Callers, 4*runtime.GOMAXPROCS(0)), b.read, 1); err != nil {
		return nil, err
	}
	if r.Half, err = b.schedule(ctx, r.Write.PerSecond/2); err != nil {
		return nil, err
	}
	return r, nil
}

// commit makes one batch durable. Which owner and which rows follows from its
// number, so that read finds them again.
func (b *bench) commit(ctx context.Context, _ *rand.Rand) error {
	n := b.next.Add(1)
	keys := make([]byte, 0, 16*b.Rows)
	writes := make([]store.Write, b.Rows)
	for i := range writes {
		w := &writes[i]
		start := len(keys)
		if i < b.Fresh {
			keys = appendRow(keys, n, i)
			w.Table, w.Expect = tableMessage, store.Absent()
		} else {
			keys = append(keys, byte(i))
			w.Table = tableHead
		}
		w.Row = keys[start:]
		at := (n*uint64(b.Rows) + uint64(i)) * 31 % (1 << 16)
		w.Value = b.filler[at : at+uint64(b.Value)]
	}
	_, err := b.s.Commit(ctx, &store.Batch{Owner: b.owner(n), Home: "sh", Writes: writes})
	return err
}

// read reads one of the new rows.
func (b *bench) read(ctx context.Context, r *rand.Rand) error {
	n := 1 + r.Uint64N(b.next.Load())
	row, err := b.s.Get(ctx, b.owner(n), tableMessage, appendRow(make([]byte, 0, 16), n, r.IntN(b.Fresh)))
	if err == nil && !row.Exists() {
		err = fmt.Errorf("a row of batch %d was acknowledged, and is not there", n)
	}
	return err
}

// owner scatters the batches over the owners.
func (b *bench) owner(n uint64) region.UIN {
	return region.UIN(1 + n*0x9e3779b97f4a7c15>>1%uint64(b.Owners))
}

func appendRow(dst []byte, n uint64, i int) []byte {
	return append(binary.BigEndian.AppendUint64(dst, n), byte(i))
}

// saturate has callers call again and again.
func (b *bench) saturate(ctx context.Context, callers int, call func(context.Context, *rand.Rand) error, rows int) (Rate, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	delays := make([]histogram, callers)
	before := usage()
	end := before.at.Add(b.Duration)
	var wg sync.WaitGroup
	for i := range delays {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for now := time.Now(); now.Before(end); {
				if err := call(ctx, r); err != nil {
					cancel(err)
					return
				}
				then := time.Now()
				delays[i].add(then.Sub(now))
				now = then
			}
		})
	}
	wg.Wait()
	return newRate(before, usage(), delays, rows), context.Cause(ctx)
}

// schedule has batches arrive at a rate, in rows per second. A caller that is
// late does not wait for the next arrival, and its delay counts from when the
// batch was due.
func (b *bench) schedule(ctx context.Context, perSecond float64) (Rate, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	interval := time.Duration(float64(time.Second) * float64(b.Rows) / perSecond)
	delays := make([]histogram, b.Callers)
	due := make(chan time.Time, b.Callers)
	before := usage()
	var wg sync.WaitGroup
	for i := range delays {
		wg.Go(func() {
			for at := range due {
				if err := b.commit(ctx, nil); err != nil {
					cancel(err)
				}
				delays[i].add(time.Since(at))
			}
		})
	}
	end := before.at.Add(b.Duration)
	for at := before.at; at.Before(end) && ctx.Err() == nil; {
		// A timer's tick is about a millisecond: what is due by then comes at once.
		time.Sleep(time.Until(at))
		for now := time.Now(); !at.After(now) && ctx.Err() == nil; at = at.Add(interval) {
			select {
			case due <- at:
			case <-ctx.Done():
			}
		}
	}
	close(due)
	wg.Wait()
	return newRate(before, usage(), delays, b.Rows), context.Cause(ctx)
}
