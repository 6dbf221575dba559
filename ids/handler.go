package ids

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// Options of the service.
type Options struct {
	Store    Store
	View     func() *region.View // the newest world; may return nil while there is none
	Logger   *slog.Logger
	Registry prometheus.Registerer // may be nil

	// Hint is told of a newer world than View's; it must not block. May be nil.
	Hint func(version uint64)
	// Verifier checks the signatures; nil makes one. A node that serves other
	// signed calls shares its own.
	Verifier *peer.Verifier
	// Rate is how many calls per second each region may make, in bursts of
	// twice as many; 0 is DefaultRate. It keeps a region that runs wild from
	// starving the others.
	Rate float64
	// Timeout bounds a call's time in the store; 0 is 5 s. A disk that hangs
	// then gives retryable errors instead of piling up callers.
	Timeout time.Duration
}

// DefaultRate is the calls per second a region may make: a thousand new users a
// second claim a handle each and leave room to resolve.
const DefaultRate = 2000

type handler struct {
	Options
	limits *limits
	m      *metrics
}

// NewHandler returns the service of the package comment. It lets through only
// requests that a region of the world has signed.
func NewHandler(o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Verifier == nil {
		o.Verifier = peer.NewVerifier(peer.Options{View: o.View, Registry: o.Registry})
	}
	o.Rate = cmp.Or(o.Rate, DefaultRate)
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	h := &handler{Options: o, limits: newLimits(o.Rate), m: newMetrics(o.Registry)}
	mux := http.NewServeMux()
	mux.Handle("POST "+pathClaim, serve(h, "claim", h.claim))
	mux.Handle("POST "+pathResolve, serve(h, "resolve", h.resolve))
	mux.Handle("POST "+pathAllot, serve(h, "allot", h.allot))
	onlyRegions := func(i peer.Identity) bool { return i.Kind == peer.KindRegion }
	return http.MaxBytesHandler(o.Verifier.Require(onlyRegions, mux), maxBody)
}

// caller is who asks, and under which world it is judged.
type caller struct {
	region region.ID
	view   *region.View
	behind bool // the caller's world is newer than view
}

// serve makes a handler of a method: limits, deadline, body, metrics, errors.
func serve[Q, A any](h *handler, method string, call func(context.Context, caller, *Q) (A, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		answer, err := func() (a A, err error) {
			c, err := h.caller(r)
			if err != nil {
				return a, err
			}
			w.Header().Set(headerWorld, strconv.FormatUint(c.view.World.Version, 10))
			var q Q
			if err := readRequest(r.Body, &q); err != nil {
				return a, err
			}
			ctx, cancel := context.WithTimeout(r.Context(), h.Timeout)
			defer cancel()
			a, err = call(ctx, c, &q)
			if err != nil && ctx.Err() != nil {
				err = region.Errorf(region.Unavailable, "the ids store did not answer in time").WithHint("retry").WithCause(err)
			}
			return a, err
		}()
		h.m.observe(method, err, time.Since(start))
		if err != nil {
			if region.KindOf(err) == region.Internal {
				h.Logger.Error("ids call failed", "method", method, "error", err)
			}
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	})
}

func (h *handler) caller(r *http.Request) (caller, error) {
	id, ok := peer.From(r.Context())
	view := h.View()
	if !ok || view == nil { // Require let neither through; a wrong wiring must not open the door
		return caller{}, region.Errorf(region.Unauthenticated, "the call is not signed by a region")
	}
	c := caller{region: region.ID(id.Name), view: view}
	if !h.limits.allow(c.region, time.Now()) {
		return c, region.Errorf(region.Overloaded, "region %s makes more than %g calls per second", c.region, h.Rate).WithHint("slow down and retry")
	}
	if v, err := strconv.ParseUint(r.Header.Get(headerWorld), 10, 64); err == nil && v > view.World.Version {
		c.behind = true
		if h.Hint != nil {
			h.Hint(v)
		}
	}
	return c, nil
}

// mayAct is guarantee 4. A refusal by a world older than the caller's is
// retryable: the caller may have become the acting region since.
func (c caller) mayAct(acting region.ID, what string) error {
	switch {
	case acting == c.region:
		return nil
	case c.behind:
		return region.Errorf(region.Unavailable, "ids has world %d, which is older than region %s's", c.view.World.Version, c.region).WithHint("retry; ids is fetching the newer one")
	default:
		return region.Errorf(region.Forbidden, "region %s does not act for %s in world %d, region %s does", c.region, what, c.view.World.Version, acting).WithHint("only the acting region may ask")
	}
}

func (h *handler) claim(ctx context.Context, c caller, q *claimRequest) (Claimed, error) {
	handle, err := ParseHandle(q.Handle)
	if err == nil {
		err = handle.Claimable()
	}
	if err != nil {
		return Claimed{}, err
	}
	p, ok := c.view.Placement(q.Owner)
	if !ok {
		return Claimed{}, region.Errorf(region.NotFound, "UIN %d belongs to no region of world %d", q.Owner, c.view.World.Version).WithHint("check the number")
	}
	if err := c.mayAct(p.Acting, "UIN "+q.Owner.String()); err != nil {
		return Claimed{}, err
	}
	return h.Store.Claim(ctx, handle, q.Owner)
}

func (h *handler) resolve(ctx context.Context, _ caller, q *resolveRequest) (Claimed, error) {
	handle, err := ParseHandle(q.Handle)
	if err != nil {
		return Claimed{}, err
	}
	return h.Store.Resolve(ctx, handle)
}

func (h *handler) allot(ctx context.Context, c caller, q *allotRequest) (Range, error) {
	a := Allotment{Region: c.region, Key: q.Key, Home: cmp.Or(q.Home, c.region), N: q.N}
	if err := a.Check(); err != nil {
		return Range{}, err
	}
	acting, _, ok := c.view.Acting(a.Home)
	if !ok {
		return Range{}, region.Errorf(region.NotFound, "world %d has no region %q", c.view.World.Version, a.Home).WithHint("check the region ID")
	}
	if err := c.mayAct(acting, "region "+string(a.Home)); err != nil {
		return Range{}, err
	}
	for _, s := range c.view.World.Segments {
		if s.Home == a.Home {
			a.Segments = append(a.Segments, s)
		}
	}
	slices.SortFunc(a.Segments, func(x, y region.Segment) int { return cmp.Compare(x.First, y.First) })
	return h.Store.Allot(ctx, a)
}
