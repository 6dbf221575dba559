package node

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/postgres"
)

// PurgePath is where a region's admin listener has the store's files rewritten
// for whoever has the region's own key.
const PurgePath = "/store/purge"

// Purged is the answer. It begins at once and ends when all is rewritten.
type Purged struct {
	Error string `json:"error,omitempty"`
}

// purger is an engine that can rewrite its files, so that nothing that was
// deleted is left in them.
type purger interface {
	Purge(ctx context.Context) error
}

var (
	_ purger = (*pebble.Store)(nil)
	_ purger = (*postgres.Store)(nil)
)

// servePurge answers POST /store/purge, one at a time.
func (r *regionRole) servePurge() {
	n := r.node
	var mu sync.Mutex
	self := peer.NewVerifier(peer.Options{View: n.world.View}).Require(
		func(i peer.Identity) bool { return i == n.self },
		http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			p, ok := r.store.(purger)
			if !ok {
				peer.WriteError(w, region.Errorf(region.Unsupported, "the store of region %s cannot rewrite its files", n.self.Name))
				return
			}
			if !mu.TryLock() {
				peer.WriteError(w, region.Errorf(region.Unavailable, "the store of region %s is being purged", n.self.Name).WithHint("wait for it"))
				return
			}
			defer mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // it may take hours: whoever asked sees that it began
			var a Purged
			if err := p.Purge(req.Context()); err != nil {
				n.log.Error("store not purged", "error", err)
				a.Error = err.Error()
			} else {
				n.log.Info("store purged")
			}
			_ = json.NewEncoder(w).Encode(a)
		}))
	n.admin.mux.Handle("POST "+PurgePath, self)
}
