package keeper

import (
	"sync"

	"github.com/homing-im/homing/region"
)

// Owners are those who moved, in memory: ten million in less than 200 MB. It
// implements [region.Overlay], is safe for concurrent use, and empty when zero.
type Owners struct {
	mu      sync.RWMutex
	entries entries
}

// Lookup implements [region.Overlay].
func (o *Owners) Lookup(u region.UIN) (region.Moved, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.entries.get(u)
}

// Put says where owners live now; the last word counts. It checks nothing.
func (o *Owners) Put(all ...Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range all {
		o.entries.put(e)
	}
}

// Len is the number of owners.
func (o *Owners) Len() int {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.entries.n
}
