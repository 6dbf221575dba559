package node

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// collectEvery is how often a node looks how often its garbage is collected.
	collectEvery = 5 * time.Second
	// A busy node collects more than once a second, and then lets garbage be three
	// times what lives before the next collection, because each takes a tenth of
	// the processor time and shrinks the stacks that the next request grows again.
	// An idle one keeps Go's own measure: memory is what its connections cost.
	busyCollections = 5 // in collectEvery
	busyPercent     = 300
	idlePercent     = 100
)

// gcPercent is the measure after so many collections in collectEvery. With
// busyPercent there are half as many or fewer, so it is left only when there are
// next to none.
func gcPercent(now int, collections uint32) int {
	switch {
	case collections > busyCollections:
		return busyPercent
	case collections <= 1:
		return idlePercent
	default:
		return now
	}
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
		percent, last := idlePercent, uint32(0)
		for {
			select {
			case <-t.C:
			case <-ctx.Done():
				if percent != idlePercent {
					debug.SetGCPercent(idlePercent)
				}
				return
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if want := gcPercent(percent, m.NumGC-last); want != percent {
				percent = want
				debug.SetGCPercent(percent)
			}
			last = m.NumGC
		}
	}()
	n.onClose("collection", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
}
