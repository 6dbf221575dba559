package bench

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
)

const defaultDuration = 10 * time.Second

// Options say what is measured.
type Options struct {
	Engine     string // pebble or postgres
	DSN        string `json:"-"` // of engine postgres; empty starts a server
	Dir        string
	Keep       string        `json:"keep,omitempty"` // directory of a store that stays, and is gone on with; engine pebble only
	Duration   time.Duration // of each measurement
	Callers    int
	Owners     int
	Rows       Sizes // that the store has when it is measured, ascending; none measures it as it grows from nothing
	Batch      int   // rows of a batch
	Fresh      int   // of these are new
	Value      int   // bytes
	Partitions int
}

// Validate reports what is wrong with the options, or nil.
func (o *Options) Validate() error {
	switch {
	case o.Engine != "pebble" && o.Engine != "postgres":
		return fmt.Errorf("--engine %s: want pebble or postgres", o.Engine)
	case o.Engine == "pebble" && o.DSN != "":
		return errors.New("--dsn is for --engine postgres")
	case o.Engine == "postgres" && o.Keep != "":
		return errors.New("--keep is for --engine pebble; a database is kept where --dsn says")
	case o.Duration <= 0:
		return fmt.Errorf("--duration %s: want more than 0", o.Duration)
	case o.Callers < 1 || o.Callers > 1<<20:
		return fmt.Errorf("--callers %d: want 1 to %d", o.Callers, 1<<20)
	case o.Owners < 1:
		return fmt.Errorf("--owners %d: want at least 1", o.Owners)
	case o.Batch < 1 || o.Batch > 100:
		return fmt.Errorf("--batch %d: want 1 to 100", o.Batch)
	case o.Fresh < 1 || o.Fresh > o.Batch:
		return fmt.Errorf("--new %d: want 1 to the rows of a batch, %d", o.Fresh, o.Batch)
	case !slices.IsSorted(o.Rows):
		return fmt.Errorf("--rows %s: want each to be more than the one before", &o.Rows)
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

// trimEvery is how often the journal is trimmed, of what was in it the time
// before: as a replicator does whose regions keep up.
const trimEvery = 10 * time.Second

// Store measures a store in a directory or schema of its own, which it
// removes; engine postgres next to its peer. It blocks for three times
// Options.Duration and a little, with engine pebble five times; with
// Options.Rows for as long as it takes to write them, and twice
// Options.Duration at each size more.
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
	var s store.Store
	var db *database
	var data string // where the engine's files are
	if o.Engine == "postgres" {
		if db, err = newDatabase(&o); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, db.close()) }()
		data = db.dir()
		engine, _, remove, err := db.open(ctx, "engine", o.Partitions)
		if err != nil {
			return nil, err
		}
		s = engine
		defer func() { err = errors.Join(err, remove()) }()
	} else {
		node.SpareForStore()
		data = cmp.Or(o.Keep, filepath.Join(dir, "store"))
		if s, err = openReady(ctx, data, o.Partitions); err != nil {
			return nil, err
		}
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b := &bench{Options: o, s: s, filler: make([]byte, o.Value+1<<16)}
	for i := range b.filler {
		b.filler[i] = byte(rand.Uint32())
	}
	if err := b.resume(ctx); err != nil {
		return nil, err
	}
	trimmed := b.trims(ctx)
	defer func() { err = errors.Join(err, trimmed()) }()
	if len(o.Rows) == 0 {
		if r.Write, r.Read, err = b.both(ctx); err != nil {
			return nil, err
		}
	}
	for _, rows := range o.Rows {
		size := Size{Rows: rows}
		if size.Fill, err = b.saturate(ctx, o.Callers, b.commit, o.Batch, b.has(rows)); err != nil {
			return nil, err
		}
		if size.Write, size.Read, err = b.both(ctx); err != nil {
			return nil, err
		}
		size.Disk = diskUse(data)
		r.Sizes = append(r.Sizes, size)
		r.Write, r.Read = size.Write, size.Read
	}
	if r.Half, err = b.schedule(ctx, r.Write.PerSecond/2, b.commit); err != nil {
		return nil, err
	}
	if o.Engine == "pebble" {
		if r.Floor, err = b.floor(ctx, dir, &r.Half); err != nil {
			return nil, err
		}
	}
	r.finish(data)
	if db != nil {
		peer, err := b.peer(ctx, db)
		if err != nil {
			return nil, err
		}
		r.Peer, r.TimesPeer = &peer, r.Write.PerSecond/peer.PerSecond
	}
	return r, nil
}

// openReady opens the embedded engine and waits until it knows what it has.
func openReady(ctx context.Context, dir string, partitions int) (store.Store, error) {
	s, err := pebble.Open(pebble.Options{Dir: dir, Region: "sh", Partitions: partitions})
	if err != nil {
		return nil, err
	}
	if err := s.Ready(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// resume finds the newest batch of the run before, which was not cut off.
func (b *bench) resume(ctx context.Context) (err error) {
	there := func(n uint64) bool {
		row, e := b.s.Get(ctx, b.owner(n), tableMessage, appendRow(nil, n, 0))
		err = cmp.Or(err, e)
		return e == nil && row.Exists()
	}
	most := 1
	for there(uint64(most)) {
		most *= 2
	}
	b.next.Store(uint64(max(1, sort.Search(most, func(n int) bool { return n > 0 && !there(uint64(n)) })) - 1))
	return err
}

// both measures writes and reads as fast as the callers can.
func (b *bench) both(ctx context.Context) (write, read Rate, err error) {
	if write, err = b.saturate(ctx, b.Callers, b.commit, b.Batch, lasts(b.Duration)); err != nil {
		return write, read, err
	}
	read, err = b.reads(ctx)
	return write, read, err
}

// readings are how often point reads are measured, each for a part of
// Options.Duration.
const readings = 5

// reads measures point reads when nothing that was written before is at work any
// more: a compaction beside them takes a processor, and one binary's readings
// differed by half. It returns the median of the readings; one before them fills the
// block cache.
func (b *bench) reads(ctx context.Context) (Rate, error) {
	began := time.Now()
	if s, ok := b.s.(*pebble.Store); ok {
		if err := s.Settle(ctx); err != nil {
			return Rate{}, err
		}
	}
	settled := time.Since(began)
	all := make([]Rate, 1+readings)
	for i := range all {
		var err error
		// A read does not wait for a disk it has in memory: more callers than keep
		// the processors busy would measure the scheduler.
		if all[i], err = b.saturate(ctx, min(b.Callers, 4*runtime.NumCPU()), b.read, 1, lasts(b.Duration/readings)); err != nil {
			return Rate{}, err
		}
	}
	all = all[1:]
	slices.SortFunc(all, func(x, y Rate) int { return cmp.Compare(x.PerSecond, y.PerSecond) })
	r := all[readings/2]
	r.Least, r.Most, r.Settled = all[0].PerSecond, all[readings-1].PerSecond, settled.Seconds()
	return r, nil
}

// lasts is true for so long.
func lasts(d time.Duration) func(now time.Time) bool {
	end := time.Now().Add(d)
	return func(now time.Time) bool { return now.Before(end) }
}

// has is true until the store has so many rows, but for heads.
func (b *bench) has(rows uint64) func(time.Time) bool {
	return func(time.Time) bool { return b.next.Load()*uint64(b.Fresh) < rows }
}

// trims trims the journal in the background until the function it returns is
// called.
func (b *bench) trims(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(trimEvery)
		defer tick.Stop()
		heads := make([]uint64, b.Partitions)
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
			for p := range heads {
				id := region.Partition(p)
				if err := b.s.Trim(ctx, id, heads[p]); err != nil && ctx.Err() == nil {
					done <- err
					return
				}
				heads[p] = b.s.Head(id).Next
			}
		}
	}()
	return func() error {
		cancel()
		return <-done
	}
}

// commit makes one batch durable.
func (b *bench) commit(ctx context.Context, _ *rand.Rand) error {
	_, err := b.s.Commit(ctx, b.batch())
	return err
}

// batch is the next batch. Which owner and which rows follows from its number, so
// that read finds them again.
func (b *bench) batch() *store.Batch {
	n := b.next.Add(1)
	keys := make([]byte, 0, 16*b.Batch)
	writes := make([]store.Write, b.Batch)
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
		at := (n*uint64(b.Batch) + uint64(i)) * 31 % (1 << 16)
		w.Value = b.filler[at : at+uint64(b.Value)]
	}
	return &store.Batch{Owner: b.owner(n), Home: "sh", Writes: writes}
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

// rowBytes is what a caller gives the store for a row: its key and its value.
func (b *bench) rowBytes() float64 {
	return float64(b.Value) + float64(b.Fresh*len(appendRow(nil, 0, 0))+b.Batch-b.Fresh)/float64(b.Batch)
}

// owner scatters the batches over the owners.
func (b *bench) owner(n uint64) region.UIN {
	return region.UIN(1 + n*0x9e3779b97f4a7c15>>1%uint64(b.Owners))
}

func appendRow(dst []byte, n uint64, i int) []byte {
	return append(binary.BigEndian.AppendUint64(dst, n), byte(i))
}

// saturate has callers call again and again while more says so.
func (b *bench) saturate(ctx context.Context, callers int, call func(context.Context, *rand.Rand) error, rows int, more func(now time.Time) bool) (Rate, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	delays := make([]histogram, callers)
	before := usage()
	var wg sync.WaitGroup
	for i := range delays {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for now := time.Now(); more(now); {
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
	return newRate(before, usage(), delays, rows, b.rowBytes()), context.Cause(ctx)
}

// schedule has batches arrive at a rate, in rows per second. A caller that is
// late does not wait for the next arrival, and its delay counts from when the
// batch was due.
func (b *bench) schedule(ctx context.Context, perSecond float64, commit func(context.Context, *rand.Rand) error) (Rate, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	interval := time.Duration(float64(time.Second) * float64(b.Batch) / perSecond)
	delays := make([]histogram, b.Callers)
	due := make(chan time.Time, b.Callers)
	before := usage()
	var wg sync.WaitGroup
	for i := range delays {
		wg.Go(func() {
			for at := range due {
				if err := commit(ctx, nil); err != nil {
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
	return newRate(before, usage(), delays, b.Batch, b.rowBytes()), context.Cause(ctx)
}
