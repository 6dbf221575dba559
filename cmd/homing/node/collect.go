package node

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// collectEvery is how often a node looks how often its garbage is collected.
	collectEvery = time.Second
	// A node that collects more than once a second lets garbage grow before the
	// next collection: to busyGarbage, or to three times what lives if that is
	// more. Each collection costs all of what lives, takes a tenth of the processor
	// time in sum, and shrinks the stacks that the next request grows again. An idle
	// node keeps Go's own measure: memory is what its connections cost.
	busyGarbage = 256 << 20 // bytes
	busyPercent = 300
	idlePercent = 100
	// A node becomes busy after so many looks in a row with collections in which what
	// lives did not grow by more than a tenth. It grows when many clients connect: what
	// stays would lie scattered among their garbage, and nearly every page with it
	// (9.3 KB for each of 4,000 connections in place of 4.5).
	settling = 2
	growth   = 10
	// calm is in how many looks, with next to no collection, a node is idle again:
	// there are few because it is busy.
	calm = 5
)

// collection decides how much garbage may lie around.
type collection struct {
	percent int
	quiet   int // looks in a row with a collection at most in all of them
	late    uint64
	live    uint64 // at the last look
	steady  int    // looks in a row with collections and without growth
}

// look takes how many collections there were since the last look, and how many
// bytes live, and returns the percentage from now on.
func (c *collection) look(collections, live uint64) int {
	if collections <= 1 || live > c.live+c.live/growth {
		c.steady = 0
	} else {
		c.steady++
	}
	c.live = live
	c.late += collections
	if c.quiet++; c.late > 1 {
		c.quiet, c.late = 0, 0
	}
	switch {
	case collections > 1 && (c.steady >= settling || c.percent != idlePercent):
		c.percent = max(busyPercent, int(100*busyGarbage/max(live, 1<<20)))
	case c.quiet >= calm:
		c.percent, c.quiet, c.late = idlePercent, 0, 0
	}
	return c.percent
}

// collectLess adapts the collection to the load until the node is closed. GOGC,
// where it is set, counts instead. It is the process's, so nodes of one process
// agree on it, more or less.
func (n *Node) collectLess() {
	if os.Getenv("GOGC") != "" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(collectEvery)
		defer t.Stop()
		c := collection{percent: idlePercent}
		percent, last := idlePercent, uint64(0)
		samples := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
		for {
			select {
			case <-t.C:
			case <-ctx.Done():
				if percent != idlePercent {
					debug.SetGCPercent(idlePercent)
				}
				return
			}
			metrics.Read(samples)
			cycles := samples[0].Value.Uint64()
			if want := c.look(cycles-last, samples[1].Value.Uint64()); want != percent {
				percent = want
				debug.SetGCPercent(percent)
				if percent == idlePercent {
					// What the busy time left goes back to the kernel now: the runtime
					// gives it up after a collection, and an idle node makes the next
					// one in two minutes.
					debug.FreeOSMemory()
				}
			}
			last = cycles
		}
	}()
	n.onClose("collection", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
}
