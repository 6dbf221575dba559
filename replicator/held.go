package replicator

import (
	"context"
	"maps"
	"slices"
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

// heldKey is what a mark is of: the owners of one home can lose what that home's
// backup does not have, whatever other regions have of this region's journal.
type heldKey struct {
	home      region.ID
	partition region.Partition
}

// Held returns up to where the backup of a home that this region acts for is known
// to have applied this region's journal of a partition, commands included; false
// when that is not known. A home that has no backup has nobody to wait for: then it
// is the newest record. It does not block.
func (r *Replicator) Held(home region.ID, p region.Partition) (Mark, bool) {
	k := r.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.held[heldKey{home, p}]
	return m, ok
}

// hold finds out how far the backups are.
func (k *keeper) hold(ctx context.Context) {
	view := k.options.View()
	if view == nil {
		return
	}
	held := make(map[region.ID][]region.ID) // homes, by their backup; "" is nobody
	var backups []region.ID
	k.mu.Lock()
	for i := range view.World.Regions {
		r := &view.World.Regions[i]
		if r.Acting.Region != k.options.Self {
			continue
		}
		backup, _ := r.Backup()
		if was, ok := k.holder[r.ID]; !ok || was != backup {
			k.holder[r.ID] = backup // another one may be behind what the one before had
			maps.DeleteFunc(k.held, func(h heldKey, _ Mark) bool { return h.home == r.ID })
		}
		held[backup] = append(held[backup], r.ID)
		// This region's own home first: the backup of another one may be dead, and
		// keep the question waiting.
		switch {
		case len(held[backup]) > 1:
		case r.ID == k.options.Self:
			backups = slices.Insert(backups, 0, backup)
		default:
			backups = append(backups, backup)
		}
	}
	k.mu.Unlock()
	for _, backup := range backups {
		k.holdOf(ctx, backup, held[backup])
	}
}

// holdOf finds out how far one region is, which is the backup of homes.
func (k *keeper) holdOf(ctx context.Context, backup region.ID, homes []region.ID) {
	// Heads come before positions, so that what is written in between is not
	// taken for held.
	heads := make(map[region.Partition]Mark)
	last := make(map[region.Partition]uint64)
	news := false
	k.mu.Lock()
	for i := range k.options.Store.Partitions() {
		p := region.Partition(i)
		h := k.options.Store.Head(p)
		heads[p] = Mark{h.Incarnation, max(h.Next, 1) - 1}
		for _, s := range h.Streams {
			if s.Stream == journal.Full {
				last[p] = s.Last
			}
		}
		for _, home := range homes {
			if have, ok := k.held[heldKey{home, p}]; !ok || have != heads[p] {
				news = true
			}
		}
	}
	k.mu.Unlock()
	if !news {
		return
	}
	if backup == "" {
		k.setHeld(homes, heads)
		return
	}
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	positions, err := k.peers.Positions(ask, backup)
	cancel()
	if err != nil {
		return // what was known still holds: a backup does not forget
	}
	held := make(map[region.Partition]Mark)
	for _, e := range positions.Positions {
		head, ok := heads[e.Partition]
		if !ok || e.Origin != k.options.Self || e.Stream != journal.Full {
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
	k.setHeld(homes, held)
}

func (k *keeper) setHeld(homes []region.ID, held map[region.Partition]Mark) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, m := range held {
		for _, home := range homes {
			k.held[heldKey{home, p}] = m
		}
	}
}
