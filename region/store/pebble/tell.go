package pebble

import (
	"sync"

	"github.com/homing-im/homing/region/store"
)

const (
	// tellers call back those who submitted. More than one, so that a call-back
	// that takes a while (it may encode what a client is sent) does not keep the
	// second processor waiting; a partition has always the same, which keeps its
	// order.
	tellers = 2
	// untold is how many chunks may wait for a teller before the committer waits
	// for it.
	untold = 1024
)

// told is who is called when a batch is durable or failed.
type told struct {
	receipt store.Receipt
	then    func(store.Receipt, error)
}

// telling calls back, chunk by chunk in the order in which they ended.
type telling struct {
	chunks  [tellers]chan *chunk
	running sync.WaitGroup
}

func (t *telling) start() {
	for i := range t.chunks {
		ended := make(chan *chunk, untold)
		t.chunks[i] = ended
		t.running.Go(func() {
			for c := range ended {
				c.tell()
			}
		})
	}
}

// ended takes a chunk that is durable or failed. The committer alone calls it.
func (t *telling) ended(c *chunk) {
	if len(c.told) > 0 {
		t.chunks[int(c.p.id)%tellers] <- c
	}
}

// stop returns when everybody was told.
func (t *telling) stop() {
	for _, ended := range t.chunks {
		close(ended)
	}
	t.running.Wait()
}

func (c *chunk) tell() {
	for _, d := range c.told {
		if c.err != nil {
			d.then(store.Receipt{}, c.err)
		} else {
			d.then(d.receipt, nil)
		}
	}
	c.told = nil
}
