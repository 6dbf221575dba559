package keeper

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// maxFeed bounds one answer of GET /overlay, in bytes.
const maxFeed = 4 << 20

// Headers of the feed.
const (
	headerLog  = "Homing-Overlay-Log"  // ID of the file the cursor belongs to
	headerNext = "Homing-Overlay-Next" // cursor behind the answer
)

// OfferOverlay verifies a batch and takes it up: it is on disk before it shows.
// A batch known already is no error. A batch with one wrong entry is refused
// whole.
//
// Errors: Forbidden when it is not signed by a region that acted for, or was
// the home of, every owner in it; Conflict when an owner's moves do not grow;
// Unavailable when the world it was made under is not known here.
func (k *Keeper) OfferOverlay(_ context.Context, b *Batch) error {
	added, err := k.takeBatch(b)
	if err != nil {
		k.metrics.forged.WithLabelValues(region.KindOf(err).String()).Inc()
		return err
	}
	if added {
		k.metrics.entries.Set(float64(k.overlay.Len()))
		k.mu.Lock()
		k.notifyLocked()
		k.mu.Unlock()
	}
	return nil
}

func (k *Keeper) takeBatch(b *Batch) (bool, error) {
	k.mu.Lock()
	chain := k.chain
	k.mu.Unlock()
	if _, known := chain.Find(b.World); !known {
		k.poke(0) // whoever made the batch has that world
	}
	k.overlay.write.Lock()
	defer k.overlay.write.Unlock()
	fresh, err := Judge(chain, k.overlay, b)
	if err != nil || !fresh {
		return false, err
	}
	return true, k.overlay.append(b)
}

// Judge is the step of a node that is offered a batch: it verifies it by the
// worlds and the overlay that the node has, and says whether anything in it is
// new. It changes nothing.
//
// Errors: those of [Keeper.OfferOverlay].
func Judge(chain *region.Chain, have region.Overlay, b *Batch) (fresh bool, err error) {
	if len(b.Entries) > MaxBatch {
		return false, region.Errorf(region.TooLarge, "the batch has %d entries, more than %d", len(b.Entries), MaxBatch)
	}
	then, known := chain.Find(b.World)
	newest := chain.Newest()
	if !known || newest == nil {
		return false, region.Errorf(region.Unavailable, "the batch of %s was made under world %s, which this node lacks", b.From, b.World.Short()).WithHint("it is fetched when the world is here")
	}
	key, named := keyOf(chain, b.From)
	if !named || !ed25519.Verify(ed25519.PublicKey(key), b.covered(), b.Sig) {
		return false, region.Errorf(region.Forbidden, "the batch is not signed with the key of region %s", b.From).WithHint("a region signs what it gave away; after a change of key, again")
	}
	view := region.NewView(then.World, then.Hash, have)
	seen := make(map[region.UIN]bool, len(b.Entries))
	for _, e := range b.Entries {
		if seen[e.Owner] {
			return false, region.Errorf(region.BadInput, "the batch of %s has an owner twice", b.From)
		}
		seen[e.Owner] = true
		if m, ok := have.Lookup(e.Owner); ok && m.Moves == uint64(e.Moves) && m.Home == e.Home {
			continue
		}
		fresh = true
		if _, ok := newest.World.Region(e.Home); !ok {
			return false, region.Errorf(region.BadInput, "the batch of %s gives an owner to %s, which is no region of world %d", b.From, e.Home, newest.World.Version)
		}
		p, ok := view.Placement(e.Owner)
		if !ok || p.Home != b.From && p.Acting != b.From {
			return false, region.Errorf(region.Forbidden, "region %s gives away an owner of another region", b.From)
		}
		if uint64(e.Moves) <= p.Epoch.Moves {
			return false, region.Errorf(region.Conflict, "the batch of %s is stale: an owner has moved since", b.From)
		}
	}
	return fresh, nil
}

// keyOf returns the key of a region: that of the newest world, so that a key taken
// out of use signs nothing any more; for a retired region the last it had, because
// what it gave away stays given.
func keyOf(chain *region.Chain, id region.ID) (region.PublicKey, bool) {
	links := chain.Links()
	for i := len(links) - 1; i >= 0; i-- {
		if r, ok := links[i].World.Region(id); ok {
			return r.Key, len(r.Key) == ed25519.PublicKeySize
		}
	}
	return nil, false
}

func (k *Keeper) getOverlay(w http.ResponseWriter, r *http.Request) {
	var after uint64
	if q := r.URL.Query().Get("after"); q != "" {
		n, err := strconv.ParseUint(q, 10, 64)
		if err != nil {
			peer.WriteError(w, region.Errorf(region.BadInput, "after=%.32q is not a cursor", q))
			return
		}
		after = n
	}
	if log := r.URL.Query().Get("log"); log != k.overlay.id {
		after = 0
	}
	data, next, err := k.overlay.feed(after, maxFeed)
	if err != nil {
		k.log.Error("overlay not served", "err", err)
		peer.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(headerLog, k.overlay.id)
	w.Header().Set(headerNext, strconv.FormatUint(next, 10))
	_, _ = w.Write(data)
}

func (k *Keeper) postOverlay(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(io.LimitReader(r.Body, MaxBatchSize+1))
	var b *Batch
	if err == nil {
		if b, err = DecodeBatch(data); err != nil {
			k.metrics.forged.WithLabelValues(region.KindOf(err).String()).Inc()
		}
	}
	if err == nil {
		err = k.OfferOverlay(r.Context(), b)
	}
	if err != nil {
		k.log.Warn("overlay batch refused", "from", r.RemoteAddr, "err", err)
		peer.WriteError(w, err)
	}
}

// feedCursor is how far this node has followed another's feed, in this life.
// After a restart it begins again: known batches are cheap.
type feedCursor struct {
	log  string
	next uint64
}

// overlayLoop follows the feeds of all regions, one after the other. POPs and
// DNS nodes do not sign batches, so the regions have them all.
func (k *Keeper) overlayLoop(ctx context.Context) {
	cursors := make(map[string]*feedCursor)
	tick := time.NewTimer(jitter(k.o.OverlayInterval))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if v := k.View(); v != nil {
			for i := range v.World.Regions {
				r := &v.World.Regions[i]
				if r.Admin == "" || peer.Region(r.ID) == k.o.Self || ctx.Err() != nil {
					continue
				}
				c := cursors[r.Admin]
				if c == nil {
					c = new(feedCursor)
					cursors[r.Admin] = c
				}
				if err := k.followOverlay(ctx, region.AdminURL(r.Admin), c); err != nil {
					k.log.Debug("overlay not followed", "region", string(r.ID), "err", err)
				}
			}
		}
		tick.Reset(jitter(k.o.OverlayInterval))
	}
}

// followOverlay reads one node's feed to its end. A refused batch is counted
// and passed over, except one whose world is still to come: it is asked for
// again.
func (k *Keeper) followOverlay(ctx context.Context, url string, c *feedCursor) error {
	for {
		data, h, err := call(ctx, k.client, http.MethodGet, fmt.Sprintf("%s/overlay?after=%d&log=%s", url, c.next, c.log), nil, maxFeed+MaxBatchSize+frameHead)
		if err != nil {
			return err
		}
		next, err := strconv.ParseUint(h.Get(headerNext), 10, 64)
		if err != nil {
			return region.Errorf(region.BadInput, "%s serves no overlay feed", url)
		}
		for r := bytes.NewReader(data); ; {
			_, b, err := readFrame(r)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				k.metrics.forged.WithLabelValues(region.BadInput.String()).Inc()
				return err
			}
			if err := k.OfferOverlay(ctx, b); err != nil {
				if kind := region.KindOf(err); kind == region.Unavailable || kind == region.Internal {
					return err
				}
				k.log.Warn("overlay batch refused", "url", url, "err", err)
			}
		}
		done := len(data) == 0 || h.Get(headerLog) == c.log && next <= c.next
		c.log, c.next = h.Get(headerLog), next
		if done {
			return nil
		}
	}
}
