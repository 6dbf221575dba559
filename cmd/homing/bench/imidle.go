package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// idleWarm connections are there before memory is first looked at, so that what
// the process needs once is not counted.
const idleWarm = 200

// idle measures the memory of connections that said something once.
func (b *imBench) idle(ctx context.Context) (*IMIdle, error) {
	var err error
	if b.people, err = register(ctx, b.short, b.o.Users+idleWarm); err != nil {
		return nil, err
	}
	if err := b.site.restartRegion(ctx, b.o.GOMAXPROCS); err != nil {
		return nil, err
	}
	b.pid = b.site.pid
	awake := func(people []*person) error {
		if err := b.connectAll(ctx, people); err != nil {
			return err
		}
		return parallel(ctx, 32, len(people), func(ctx context.Context, i int) error {
			return people[i].call(ctx, wire.Sync, &v1.SyncRequest{}, new(v1.SyncResponse))
		})
	}
	if err := awake(b.people[:idleWarm]); err != nil {
		return nil, err
	}
	before, err := b.still(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := awake(b.people[idleWarm:]); err != nil {
		return nil, err
	}
	r := &IMIdle{Connections: b.o.Users, Before: before, Connected: float64(b.o.Users) / time.Since(began).Seconds()}
	r.Peak = procOf(b.pid).memory
	if r.After, err = b.still(ctx); err != nil {
		return nil, err
	}
	r.PerConnection = float64(r.After-r.Before) / float64(r.Connections)
	if b.o.Profile != "" {
		err = fetch(ctx, "http://"+b.site.admin+"/debug/pprof/heap", b.o.Profile)
	}
	return r, err
}

// collections are the garbage collections that idle memory is measured after. A
// Go process that does nothing makes one every two minutes, and each halves the
// stacks that are too large.
const collections = 4

// still waits until the node is idle, has garbage collected, waits until the
// process's memory stays, for b.o.Duration at least, and returns it.
func (b *imBench) still(ctx context.Context) (int64, error) {
	if err := b.calm(ctx); err != nil {
		return 0, err
	}
	for range collections {
		if err := fetch(ctx, "http://"+b.site.admin+"/debug/pprof/heap?gc=1", os.DevNull); err != nil {
			return 0, err
		}
	}
	t := time.NewTicker(b.o.Duration)
	defer t.Stop()
	last := procOf(b.pid).memory
	for range 20 {
		select {
		case <-t.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		now := procOf(b.pid).memory
		if now >= last-last/100 {
			return now, nil
		}
		last = now
	}
	return last, nil
}

// calm waits until the node collects garbage as an idle one does: a busy one lets
// more of it lie around, and needs some seconds to notice that it is idle.
func (b *imBench) calm(ctx context.Context) error {
	const idlePercent = 100 // Go's own; what GOGC says, where it is set, stays
	if os.Getenv("GOGC") != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t := time.NewTicker(time.Second) // seldom: an answer is garbage, too
	defer t.Stop()
	for {
		var percent float64
		if err := counters(ctx, "http://"+b.site.admin+"/metrics", map[string]*float64{"go_gc_gogc_percent": &percent}); err != nil {
			return err
		}
		if percent == idlePercent {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("the node is not idle: it collects garbage at %.0f %%: %w", percent, ctx.Err())
		}
	}
}
