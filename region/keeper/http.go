package keeper

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// maxChain bounds one answer of GET /world/chain, in worlds; who is further
// behind asks again.
const maxChain = 64

// Handler serves the paths of the package comment.
func (k *Keeper) Handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /world", k.getWorld)
	m.HandleFunc("POST /world", k.postWorld)
	m.HandleFunc("POST /world/accept", k.postAccept)
	m.HandleFunc("GET /world/chain", k.getChain)
	m.HandleFunc("GET /world/standing", k.getStanding)
	m.Handle("GET /overlay", k.peers.Require(nil, http.HandlerFunc(k.getOverlay)))
	m.Handle("POST /overlay", k.peers.Require(nil, http.HandlerFunc(k.postOverlay)))
	return m
}

// reply writes JSON. An error of the connection is the client's to notice.
func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// read decodes one JSON value of at most max bytes.
func read(r *http.Request, max int64, v any) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, max+1))
	if err != nil {
		return region.Errorf(region.BadInput, "the body ended early").WithCause(err)
	}
	if int64(len(data)) > max {
		return region.Errorf(region.TooLarge, "the body is over %d bytes", max)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return region.Errorf(region.BadInput, "the body is not the JSON expected: %v", err)
	}
	return nil
}

func (k *Keeper) getWorld(w http.ResponseWriter, r *http.Request) {
	e := k.Envelope()
	if e == nil {
		peer.WriteError(w, region.Errorf(region.Unavailable, "%s has no world yet", k.o.Self).WithHint("push one to it"))
		return
	}
	tag := `"` + e.Signed.Hash().String() + `"`
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	reply(w, e)
}

func (k *Keeper) postWorld(w http.ResponseWriter, r *http.Request) {
	e := new(region.Envelope)
	err := read(r, region.MaxEnvelope, e)
	if err != nil {
		k.metrics.refused.WithLabelValues(region.KindOf(err).String()).Inc()
	} else if err = k.Offer(r.Context(), e); err != nil && region.KindOf(err) == region.Unavailable {
		k.poke(0) // worlds in between may be missing
	}
	if err != nil {
		k.log.Warn("offered world refused", "from", r.RemoteAddr, "err", err)
		writeError(w, err)
		return
	}
	v := k.View()
	reply(w, map[string]any{"version": v.World.Version, "hash": v.Hash})
}

func (k *Keeper) postAccept(w http.ResponseWriter, r *http.Request) {
	s := new(region.Signed)
	err := read(r, region.MaxSigned, s)
	var a region.Acceptance
	if err == nil {
		a, err = k.accept(s)
	}
	if err != nil {
		k.metrics.refused.WithLabelValues(region.KindOf(err).String()).Inc()
		k.log.Warn("world not accepted", "from", r.RemoteAddr, "err", err)
		writeError(w, err)
		return
	}
	reply(w, a)
}

func (k *Keeper) getChain(w http.ResponseWriter, r *http.Request) {
	var after uint64
	if q := r.URL.Query().Get("after"); q != "" {
		n, err := strconv.ParseUint(q, 10, 64)
		if err != nil {
			peer.WriteError(w, region.Errorf(region.BadInput, "after=%.32q is not a version", q))
			return
		}
		after = n
	}
	var have region.Hash
	if q := r.URL.Query().Get("hash"); q != "" {
		if err := have.UnmarshalText([]byte(q)); err != nil {
			peer.WriteError(w, region.Errorf(region.BadInput, "%v", err))
			return
		}
	}
	k.mu.Lock()
	links := k.chain.Links()
	_, known := k.chain.Find(have)
	k.mu.Unlock()
	if !have.IsZero() && !known && len(links) > 0 && after >= links[len(links)-1].World.Version {
		// The other side of a fork, or simply ahead of us: show what we follow.
		after = 0
		if len(links) > maxChain {
			after = links[len(links)-maxChain].World.Version - 1
		}
	}
	out := []*region.Envelope{}
	for i := range links {
		if links[i].World.Version > after && len(out) < maxChain {
			out = append(out, links[i].Envelope)
		}
	}
	reply(w, out)
}

// writeError shows the whole chain of an error of the kernel, which says what
// is wrong with a world and holds no secret.
func writeError(w http.ResponseWriter, err error) {
	var e *region.Error
	if kind := region.KindOf(err); kind != region.Internal && errors.As(err, &e) {
		err = &region.Error{Kind: kind, Message: err.Error()}
	}
	peer.WriteError(w, err)
}
