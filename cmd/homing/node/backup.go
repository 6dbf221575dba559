package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/store/dump"
	"github.com/homing-im/homing/region/worldfile"
)

// BackupPath is where a region's admin listener streams a dump of its store to
// whoever has the region's own key.
const BackupPath = "/store/backup"

// serveBackup answers GET /store/backup with a dump of the store while it is in
// use, one at a time. An answer that breaks off is no whole dump, which its
// reader notices.
func (r *regionRole) serveBackup() {
	n := r.node
	var mu sync.Mutex
	self := peer.NewVerifier(peer.Options{View: n.world.View, Registry: n.reg}).Require(
		func(i peer.Identity) bool { return i == n.self },
		http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !mu.TryLock() {
				peer.WriteError(w, region.Errorf(region.Unavailable, "another backup of region %s is under way", n.self.Name).WithHint("wait for it"))
				return
			}
			defer mu.Unlock()
			w.Header().Set("Content-Type", "application/octet-stream")
			s, err := dump.Write(req.Context(), w, r.store, true, time.Now())
			if err != nil {
				n.log.Error("backup broke off", "error", err, "bytes", s.Bytes)
				if s.Bytes > 0 {
					panic(http.ErrAbortHandler) // cuts the connection: the client sees no end
				}
				peer.WriteError(w, err)
				return
			}
			n.log.Info("backup taken", "rows", s.Rows, "batches", s.Batches, "bytes", s.Bytes)
		}))
	n.admin.mux.Handle("GET "+BackupPath, self)
}

// FirstWorld reads the world that the node's file starts with: of later ones it
// has the number of partitions, which never changes.
func (c *Config) FirstWorld() (*region.World, error) {
	b, err := os.ReadFile(c.World)
	if err != nil {
		return nil, err
	}
	e := new(region.Envelope)
	if err := json.Unmarshal(b, e); err != nil || e.Signed == nil {
		return nil, fmt.Errorf("%s is not a signed world", c.World)
	}
	return e.Signed.Decode()
}

// BackupClient returns a client that signs as the node's member, and the address
// of its admin listener.
func (c *Config) BackupClient(w *region.World) (*http.Client, string, error) {
	kind, name, err := c.member()
	if err != nil {
		return nil, "", err
	}
	self := peer.Identity{Kind: kind, Name: name}
	key, err := worldfile.ReadKey(c.Key)
	if err != nil {
		return nil, "", err
	}
	admin := c.Admin
	if admin == "" {
		admin, _ = peer.AdminOf(w, self)
	}
	if admin == "" {
		return nil, "", fmt.Errorf("the world gives %s no admin address: set \"admin\"", c.Member)
	}
	l := link{view: func() *region.View { return region.NewView(w, region.Hash{}, nil) }}
	if c.TLS.Cert != "" {
		cert, pool, err := c.TLS.read()
		if err != nil {
			return nil, "", err
		}
		l.dial = peer.ClientTLS(cert, pool)
	}
	return &http.Client{Transport: peer.NewTransport(self, key, l.once().Transport)}, region.AdminURL(admin), nil
}
