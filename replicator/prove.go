package replicator

import (
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// A new backup follows the journal of the region that acts, which begins in the
// middle of the home's history: until the rows have been compared once, the copy
// is none, however short its lag. That is remembered in memory only, so after a
// restart it is compared again, unless the digests are seen to be equal first.

// unproven says whether the world has this region as a home's new backup, and its
// rows have not been seen to be all here.
func (c *cursor) unproven(home region.ID) bool {
	v := c.mender.view()
	if v == nil || c.stream != journal.Full || c.mender.replica == nil {
		return false
	}
	r, ok := v.World.Region(home)
	if !ok || r.Acting.Region != c.origin || r.Acting.Region == r.ID || r.NewBackup != c.replica.Region() {
		return false
	}
	_, term, _ := v.Acting(home)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mender.proven[home].Compare(term) < 0
}

// unprovenHome returns one such home, or "".
func (c *cursor) unprovenHome() region.ID {
	v := c.mender.view()
	if v == nil {
		return ""
	}
	for i := range v.World.Regions {
		if home := v.World.Regions[i].ID; v.World.Regions[i].NewBackup != "" && c.unproven(home) {
			return home
		}
	}
	return ""
}

// prove notes that all rows of a home were here, at the term of the newest world.
func (c *cursor) prove(home region.ID) {
	v := c.mender.view()
	if v == nil {
		return
	}
	_, term, _ := v.Acting(home)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mender.proven == nil {
		c.mender.proven = map[region.ID]region.Term{}
	}
	if term.Compare(c.mender.proven[home]) > 0 {
		c.mender.proven[home] = term
	}
}
