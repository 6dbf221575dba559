package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	signed "github.com/homing-im/homing/region/answer"
	"github.com/homing-im/homing/region/peer"
)

// grantPath is where a region grants DNS nodes of its world to sign answers.
const grantPath = "/dns/grant"

const (
	grantEvery   = signed.Life / 4        // grants are fetched anew; three more tries before one ends
	grantRetry   = 500 * time.Millisecond // while a region has granted nothing yet, doubled up to grantEvery
	grantTimeout = 3 * time.Second
)

// serveGrants grants DNS nodes of the newest world to sign in the region's name.
// One that a world no longer has is refused, and thus silent within signed.Life.
func (n *Node) serveGrants() {
	grant := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := peer.From(r.Context()) // Require has put it there
		key, ok := peer.KeyOf(n.world.View().World, id)
		if !ok {
			peer.WriteError(w, region.Errorf(region.Forbidden, "the world has no key of %s", id))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(signed.NewGrant(n.key, region.ID(n.self.Name), key, time.Now()))
	})
	n.admin.mux.Handle("POST "+grantPath, peer.NewVerifier(peer.Options{View: n.world.View}).Require(
		func(i peer.Identity) bool { return i.Kind == peer.KindDNS }, grant))
}

// grants are what the regions granted this DNS node.
type grants struct {
	n  *Node
	mu sync.Mutex
	of map[region.ID]signed.Grant
}

// startGrants fetches grants until the node is closed.
func (n *Node) startGrants() *grants {
	g := &grants{n: n, of: map[region.ID]signed.Grant{}}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { g.follow(ctx) })
	n.onClose("grants", func(context.Context) error {
		cancel()
		done.Wait()
		return nil
	})
	return g
}

func (g *grants) follow(ctx context.Context) {
	next, wait := map[region.ID]time.Time{}, map[region.ID]time.Duration{}
	look := time.NewTicker(grantRetry)
	defer look.Stop()
	for {
		w := g.n.world.View().World
		for i := range w.Regions {
			r := &w.Regions[i]
			if time.Now().Before(next[r.ID]) {
				continue
			}
			err := g.fetch(ctx, r)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				next[r.ID], wait[r.ID] = time.Now().Add(grantEvery), 0
				continue
			}
			wait[r.ID] = min(max(2*wait[r.ID], grantRetry), grantEvery)
			next[r.ID] = time.Now().Add(wait[r.ID])
			g.n.log.Debug("region grants nothing", "region", r.ID, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

func (g *grants) fetch(ctx context.Context, r *region.Region) error {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, region.AdminURL(r.Admin)+grantPath, bytes.NewReader(nil))
	if err != nil {
		return err
	}
	resp, err := g.n.peers.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200s", resp.Status, b)
	}
	var got signed.Grant
	if err := json.Unmarshal(b, &got); err != nil {
		return err
	}
	if got.Region != r.ID || !got.Good(r.Key, time.Now()) {
		return fmt.Errorf("the grant is not good for region %s", r.ID)
	}
	g.mu.Lock()
	g.of[r.ID] = got
	g.mu.Unlock()
	return nil
}

// sign signs an answer in the name of the region that acts for the client, or of
// another one while that has granted nothing.
func (g *grants) sign(acting region.ID, target string, body []byte) string {
	now := time.Now()
	g.mu.Lock()
	grant, ok := g.of[acting]
	if !ok || grant.Until <= now.Unix() {
		ok = false
		var ids []region.ID
		for id := range g.of {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		for _, id := range ids {
			if other := g.of[id]; !ok && other.Until > now.Unix() {
				grant, ok = other, true
			}
		}
	}
	g.mu.Unlock()
	if !ok {
		return ""
	}
	return grant.Sign(g.n.key, target, body)
}
