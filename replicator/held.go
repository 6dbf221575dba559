package replicator

import (
	"context"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// heldEvery is how often the backup is asked how far it is, while there is
// something it did not have: how much longer than needed clients keep what they
// sent.
const heldEvery = time.Second

// Mark is a place in this region's journal.
type Mark struct {
	Incarnation uint64
	Seq         uint64
}

// Held returns up to where this region's backup is known to have applied a
// partition's journal, commands included; false when that is not known. A
// region that has no backup has nobody to wait for: then it is the newest
// record. It does not block.
func (r *Replicator) Held(p region.Partition) (Mark, bool) {
	k := r.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.held[p]
	return m, ok
}

// hold finds out how far the backup is.
func (k *keeper) hold(ctx context.Context) {
	view := k.options.View()
	if view == nil {
		return
	}
	self, ok := view.World.Region(k.options.Self)
	if !ok {
		return
	}
	// Heads come before positions, so that what is written in between is not
	// taken for held.
	heads := make(map[region.Partition]Mark)
	last := make(map[region.Partition]uint64)
	news := false
	k.mu.Lock()
	if len(self.Backups) > 0 && k.holder != self.Backups[0] {
		k.holder = self.Backups[0] // another one may be behind what the one before had
		clear(k.held)
	}
	for i := range k.options.Store.Partitions() {
		p := region.Partition(i)
		h := k.options.Store.Head(p)
		heads[p] = Mark{h.Incarnation, max(h.Next, 1) - 1}
		for _, s := range h.Streams {
			if s.Stream == journal.Full {
				last[p] = s.Last
			}
		}
		if have, ok := k.held[p]; !ok || have != heads[p] {
			news = true
		}
	}
	k.mu.Unlock()
	if !news {
		return
	}
	if len(self.Backups) == 0 {
		k.setHeld(heads)
		return
	}
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	positions, err := k.peers.Positions(ask, self.Backups[0])
	cancel()
	if err != nil {
		return // what was known still holds: a backup does not forget
	}
	held := make(map[region.Partition]Mark)
	for _, e := range positions.Positions {
		head, ok := heads[e.Partition]
		if !ok || e.Origin != self.ID || e.Stream != journal.Full {
			continue
		}
		m := Mark{Incarnation: head.Incarnation}
		if e.Incarnation == head.Incarnation {
			m.Seq = e.Seq
			if e.Seq >= last[e.Partition] {
				m.Seq = max(e.Seq, head.Seq) // what follows is not for the backup
			}
		}
		held[e.Partition] = m
	}
	k.setHeld(held)
}

func (k *keeper) setHeld(held map[region.Partition]Mark) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, m := range held {
		k.held[p] = m
	}
}
