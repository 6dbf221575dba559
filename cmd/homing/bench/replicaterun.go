package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/replicator"
)

// replicateRun is one run, on one queue.
type replicateRun struct {
	ReplicateOptions
	report *QueueReport
	bench  *bench // of sh's store
	sh     store.Store
	worlds *twoRegions

	batches uint64 // committed before copying began
}

// replicateOn measures everything on one kind of queue.
func replicateOn(ctx context.Context, v variant, dir string, o ReplicateOptions) (_ *QueueReport, err error) {
	b, err := startBrokers(ctx, v.queue, dir, o.Partitions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	r := &replicateRun{ReplicateOptions: o, report: &QueueReport{Queue: v.queue, Zstd: v.zstd}}
	if r.sh, err = pebble.Open(pebble.Options{Dir: filepath.Join(dir, "sh"), Region: "sh", Partitions: o.Partitions}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.sh.Close()) }()
	if r.worlds, err = newTwoRegions(o.Partitions, b.address, replicator.JournalHandler(r.sh, nil)); err != nil {
		return nil, err
	}
	r.worlds.zstd = v.zstd
	defer func() { err = errors.Join(err, r.worlds.close()) }()
	so := Options{Engine: "pebble", Callers: o.Callers, Owners: 100_000, Batch: 4, Fresh: 3, Value: o.Value, Partitions: o.Partitions, Duration: o.Duration}
	r.bench = &bench{Options: so, s: r.sh, filler: make([]byte, o.Value+1<<16)}
	fillWords(r.bench.filler)

	enough := func(time.Time) bool { return r.bench.next.Load() < uint64(o.Batches) }
	if r.report.Own, err = r.bench.saturate(ctx, o.Callers, r.bench.commit, so.Batch, enough); err != nil {
		return nil, err
	}
	r.batches = r.bench.next.Load()
	if err := r.ship(ctx); err != nil {
		return nil, fmt.Errorf("shipping: %w", err)
	}
	if err := r.null(ctx); err != nil {
		return nil, fmt.Errorf("copying to nothing: %w", err)
	}
	if o.Peer && v.queue == queueKafka {
		if r.report.Peer, err = mirror(ctx, b, r); err != nil {
			return nil, fmt.Errorf("MirrorMaker 2: %w", err)
		}
		if r.report.Peer.PerCPUSecond > 0 {
			r.report.TimesPeer = r.report.Null.PerCPUSecond / r.report.Peer.PerCPUSecond
		}
	}
	hk, err := pebble.Open(pebble.Options{Dir: filepath.Join(dir, "hk"), Region: "hk", Partitions: o.Partitions})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, hk.Close()) }()
	if err := r.apply(ctx, hk); err != nil {
		return nil, fmt.Errorf("applying: %w", err)
	}
	if err := r.live(ctx, b.address, hk); err != nil {
		return nil, fmt.Errorf("at half load: %w", err)
	}
	return r.report, nil
}

// fillWords makes bytes that compress about as text does: what messages are.
func fillWords(b []byte) {
	words := []string{"the ", "message ", "for ", "you ", "tomorrow ", "at ", "nine ", "and ", "where ", "is ", "Alice ", "Bob ", "meeting ", "again ", "yes ", "no ", "photo ", "see ", "ok ", "later "}
	seed := uint64(1)
	for n := 0; n < len(b); {
		seed = seed*6364136223846793005 + 1442695040888963407
		n += copy(b[n:], words[seed>>33%uint64(len(words))])
	}
}

// heads returns where sh's journal ends in every partition.
func (r *replicateRun) heads() map[region.Partition]uint64 {
	out := map[region.Partition]uint64{}
	for p := range region.Partition(r.Partitions) {
		for _, h := range r.sh.Head(p).Streams {
			if h.Stream == journal.Full {
				out[p] = h.Last
			}
		}
	}
	return out
}

// until waits for a condition.
func until(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// settle waits until the stores have nothing left to do for what was measured
// before: files to write and to compact, garbage. It gives up after a while.
func settle(ctx context.Context) error {
	runtime.GC()
	for before, tries := usage(), 0; tries < 100; tries++ {
		if !wait(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
		now := usage()
		if (now.cpu - before.cpu).Seconds() < 0.02*now.at.Sub(before.at).Seconds() {
			return nil
		}
		before = now
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// speed makes a Speed of what was done between two moments.
func speed(before, after used, batches uint64, perBatch int) Speed {
	wall, cpu := after.at.Sub(before.at).Seconds(), (after.cpu - before.cpu).Seconds()
	s := Speed{Batches: batches, Rows: batches * uint64(perBatch), Seconds: wall, PerSecond: float64(batches) / wall, Cores: cpu / wall}
	if cpu > 0 {
		s.PerCPUSecond = float64(batches) / cpu
	}
	return s
}

// phase names what a profile shows from now on; goroutines inherit it.
func phase(ctx context.Context, name string) {
	pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels("phase", name)))
}

func (r *replicateRun) ship(ctx context.Context) error {
	phase(ctx, "shipped")
	if err := settle(ctx); err != nil {
		return err
	}
	heads := r.heads()
	before := usage()
	sh, transport, err := r.worlds.replicator("sh", r.sh, nil)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	err = until(ctx, func() bool {
		for _, s := range sh.Shipper().Status() {
			if s.Shipped < heads[s.Partition] {
				return false
			}
		}
		return true
	})
	r.report.Ship = speed(before, usage(), r.batches, r.bench.Batch)
	return errors.Join(err, sh.Close())
}

// null copies to nothing.
func (r *replicateRun) null(ctx context.Context) error {
	phase(ctx, "copied to nothing")
	to := newNothing(r.Partitions)
	s, err := r.copies(ctx, to, to.reached)
	r.report.Null = s
	return err
}

// apply copies into a store.
func (r *replicateRun) apply(ctx context.Context, hk store.Store) error {
	phase(ctx, "applied")
	s, err := r.copies(ctx, hk, func(p region.Partition) uint64 {
		at, _ := hk.Position(ctx, "sh", journal.Full, p)
		return at.Seq
	})
	r.report.Apply = s
	own := r.report.Own
	r.report.ApplyOfOwn = float64(s.Rows) / s.Seconds / own.PerSecond
	if s.Batches > 0 {
		perRow := 1e6 / (s.PerCPUSecond * float64(r.bench.Batch))
		r.report.ApplyOfOwnCPU = own.CPU / perRow
	}
	return err
}

// copies copies everything there is, and measures it.
func (r *replicateRun) copies(ctx context.Context, to replicator.Store, at func(region.Partition) uint64) (Speed, error) {
	if err := settle(ctx); err != nil {
		return Speed{}, err
	}
	heads := r.heads()
	before := usage()
	hk, transport, err := r.worlds.replicator("hk", to, nil)
	if err != nil {
		return Speed{}, err
	}
	defer transport.CloseIdleConnections()
	err = until(ctx, func() bool { return reached(heads, at) })
	s := speed(before, usage(), r.batches, r.bench.Batch)
	for _, l := range hk.Lag() {
		s.Fills += l.GapFills
	}
	return s, errors.Join(err, hk.Close())
}

func reached(heads map[region.Partition]uint64, at func(region.Partition) uint64) bool {
	for p, last := range heads {
		if at(p) < last {
			return false
		}
	}
	return true
}

// live measures lag at half load, then an outage, then the queue by itself.
func (r *replicateRun) live(ctx context.Context, brokers string, hk store.Store) (err error) {
	phase(ctx, "at half load")
	// One after the other, as if there were one processor: what is committed has to
	// be shipped and applied on the same machine.
	capacity := 1 / (float64(r.bench.Batch)/r.report.Own.PerSecond + 1/r.report.Ship.PerSecond + 1/r.report.Apply.PerSecond)
	r.report.Capacity = capacity
	far, err := startDistance(ctx, r.RTT)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, far.stop()) }()
	lags := newLags(hk, &r.worlds.stages)
	sh, transport, err := r.worlds.replicator("sh", r.sh, nil)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, sh.Close())
		transport.CloseIdleConnections()
	}()
	replay, farTransport, err := r.worlds.replicator("hk", lags, far)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, replay.Close())
		farTransport.CloseIdleConnections()
	}()
	level := func() bool { return reached(r.heads(), lags.at) }
	if err := until(ctx, level); err != nil {
		return err
	}
	if err := settle(ctx); err != nil {
		return err
	}
	if err := r.warm(ctx, capacity/2, lags, level); err != nil {
		return err
	}
	if _, err := far.late(ctx); err != nil { // from now on
		return err
	}
	bytes, next, before := far.received.Load(), r.bench.next.Load(), usage()
	r.worlds.stages.count(true)
	if err := r.commits(ctx, capacity/2, r.Duration, lags); err != nil {
		return err
	}
	r.worlds.stages.count(false)
	after := usage()
	if err := until(ctx, level); err != nil {
		return err
	}
	half := &r.report.Half
	half.PerSecond = float64(r.bench.next.Load()-next) / r.Duration.Seconds()
	half.P50, half.P99, half.Samples = lags.quantile(0.5), lags.quantile(0.99), lags.samples()
	half.Produce, half.Fetch, half.Apply = r.worlds.stages.p99(stageProduce), r.worlds.stages.p99(stageFetch), r.worlds.stages.p99(stageApply)
	half.Queue, half.Cross, half.Store = r.worlds.stages.p99(stageQueue), r.worlds.stages.p99(stageCross), r.worlds.stages.p99(stageStore)
	if half.Late, err = far.late(ctx); err != nil {
		return err
	}
	half.Cores = (after.cpu - before.cpu).Seconds() / after.at.Sub(before.at).Seconds()
	half.OverRTT = half.P99 - float64(r.RTT.Milliseconds())
	user := float64(r.bench.next.Load()-next) * float64(r.bench.Batch) * r.bench.rowBytes()
	half.WANBytes = float64(far.received.Load()-bytes) / user
	if err := r.outage(ctx, replay, lags, capacity/5); err != nil {
		return err
	}
	replay.Replay().Pause()
	half.Bare, err = r.bare(ctx, brokers, far, capacity/2)
	return err
}

// warm commits until the queue brings what is committed within a few round trips:
// connections over the distance are made, places in logs found. It gives up after
// a while.
func (r *replicateRun) warm(ctx context.Context, rate float64, lags *lags, level func() bool) error {
	for range 10 {
		lags.reset()
		if err := r.commits(ctx, rate, time.Second, lags); err != nil {
			return err
		}
		if err := until(ctx, level); err != nil {
			return err
		}
		if lags.quantile(0.9) < float64((2*r.RTT + 100*time.Millisecond).Milliseconds()) {
			break
		}
	}
	lags.reset()
	return nil
}

// outage measures how fast what was missed is made up for while more comes.
func (r *replicateRun) outage(ctx context.Context, replay *replicator.Replicator, lags *lags, rate float64) error {
	replay.Replay().Pause()
	if err := r.commits(ctx, rate, r.Duration, nil); err != nil {
		return err
	}
	missed := uint64(0)
	for p, last := range r.heads() {
		missed += last - lags.at(p)
	}
	more, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { _ = r.commits(more, rate, time.Hour, nil) })
	from := map[region.Partition]uint64{}
	for p := range r.heads() {
		from[p] = lags.at(p)
	}
	start := time.Now()
	replay.Replay().Resume()
	// Level is less behind than what is always under way.
	under := rate * float64(r.bench.Batch) * (2*r.RTT.Seconds() + 0.1)
	err := until(ctx, func() bool {
		behind := uint64(0)
		for p, last := range r.heads() {
			behind += last - min(last, lags.at(p))
		}
		return float64(behind) <= under
	})
	took := time.Since(start).Seconds()
	applied := uint64(0)
	for p, at := range from {
		applied += lags.at(p) - at
	}
	stop()
	group.Wait()
	c := &r.report.CatchUp
	c.Missed, c.Seconds = missed, took
	c.TimesIngest = float64(applied) / took / (rate * float64(r.bench.Batch))
	return err
}

// commits commits batches at a rate, on schedule, for a time; sampled says when
// each was durable.
func (r *replicateRun) commits(ctx context.Context, perSecond float64, d time.Duration, sampled *lags) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	due := make(chan struct{}, r.Callers)
	var group sync.WaitGroup
	for range r.Callers {
		group.Go(func() {
			for range due {
				receipt, err := r.sh.Commit(ctx, r.bench.batch())
				if err != nil {
					if ctx.Err() == nil {
						cancel(err)
					}
					return
				}
				if sampled != nil {
					sampled.durable(receipt.Partition, receipt.Last)
				}
			}
		})
	}
	start := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		at := start.Add(time.Duration(float64(n) / perSecond * float64(time.Second)))
		if at.Sub(start) >= d {
			break
		}
		select {
		case <-time.After(time.Until(at)):
		case <-ctx.Done():
			continue
		}
		select {
		case due <- struct{}{}:
		case <-ctx.Done():
		}
	}
	close(due)
	group.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
