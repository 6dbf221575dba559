package peer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
)

// Options configure a [Verifier].
type Options struct {
	View     func() *region.View   // the newest world; may return nil while there is none
	Registry prometheus.Registerer // may be nil
	Now      func() time.Time      // time.Now when nil
}

// Verifier checks signed requests. One per node is enough; its memory of
// nonces is shared by all the handlers it guards. It is safe for concurrent use.
type Verifier struct {
	view    func() *region.View
	now     func() time.Time
	nonces  *nonces
	refused *prometheus.CounterVec
}

// NewVerifier makes a verifier and registers its metric.
func NewVerifier(o Options) *Verifier {
	if o.Now == nil {
		o.Now = time.Now
	}
	v := &Verifier{view: o.View, now: o.Now, nonces: newNonces(), refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "homing_peer_refused_requests_total",
		Help: "Node-to-node requests refused, by kind of error.",
	}, []string{"kind"})}
	if o.Registry != nil {
		var are prometheus.AlreadyRegisteredError
		if err := o.Registry.Register(v.refused); errors.As(err, &are) {
			if c, ok := are.ExistingCollector.(*prometheus.CounterVec); ok {
				v.refused = c
			}
		}
	}
	return v
}

// Require is [Verifier.Require] of a verifier of its own, without metrics.
func Require(view func() *region.View, allow func(Identity) bool, next http.Handler) http.Handler {
	return NewVerifier(Options{View: view}).Require(allow, next)
}

// Require passes on to next the requests that a node of the world has signed
// and that allow lets through; a nil allow lets every node of the world
// through, and no operator. The others are answered 401 or 403 (413 for a body over [MaxBody],
// 429 for a node that asks too often, 503 while there is no world) with one
// line of text that says what to do.
func (v *Verifier) Require(allow func(Identity) bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := v.verify(r)
		if err == nil && (allow == nil && id.Kind == KindOperator || allow != nil && !allow(id)) {
			err = region.Errorf(region.Forbidden, "%s may not call %s", id, r.URL.Path).WithHint("only some kinds of nodes may")
		}
		if err != nil {
			v.refused.WithLabelValues(region.KindOf(err).String()).Inc()
			WriteError(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
	})
}

// verify returns who signed the request and leaves its body to be read again.
func (v *Verifier) verify(r *http.Request) (Identity, error) {
	unauthenticated := func(format string, args ...any) *region.Error {
		return region.Errorf(region.Unauthenticated, format, args...)
	}
	node := r.Header.Get(headerNode)
	if node == "" {
		return Identity{}, unauthenticated("the request is not signed by a node").WithHint("this address is for nodes of the world; sign with the node's key")
	}
	id, err := ParseIdentity(node)
	if err != nil {
		return id, unauthenticated("header %s: %v", headerNode, err)
	}
	view := v.view()
	if view == nil {
		return id, region.Errorf(region.Unavailable, "this node has no world yet").WithHint("push one to it, or let it reach another node")
	}
	if err := shows(r, id, view.World.Zone); err != nil {
		return id, err
	}
	key, ok := KeyOf(view.World, id)
	if !ok {
		return id, unauthenticated("world %d has no key for %s", view.World.Version, node).WithHint("add the node's key to the world, or give it a newer world")
	}
	milli, err := strconv.ParseInt(r.Header.Get(headerTime), 10, 64)
	if err != nil {
		return id, unauthenticated("header %s is not a Unix time in milliseconds", headerTime)
	}
	now := v.now()
	if skew := now.Sub(time.UnixMilli(milli)); skew > Window || skew < -Window {
		return id, unauthenticated("the request of %s is %s off this node's clock, more than %s", node, skew.Round(time.Millisecond), Window).WithHint("set both clocks (NTP)")
	}
	nonceText := r.Header.Get(headerNonce)
	var nonce [16]byte
	if n, err := hex.Decode(nonce[:], []byte(nonceText[:min(len(nonceText), 32)])); err != nil || n != len(nonce) || len(nonceText) != 32 {
		return id, unauthenticated("header %s is not 32 hex digits", headerNonce)
	}
	sig, err := base64.StdEncoding.DecodeString(r.Header.Get(headerSignature))
	if err != nil || len(sig) != ed25519.SignatureSize {
		return id, unauthenticated("header %s is not base64 of %d bytes", headerSignature, ed25519.SignatureSize)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return id, region.Errorf(region.BadInput, "the body of the request ended early").WithCause(err)
	}
	if len(body) > MaxBody {
		return id, region.Errorf(region.TooLarge, "the body is over %d bytes", MaxBody).WithHint("send it in pieces")
	}
	// The target as it was sent: a mux that strips prefixes changes URL only.
	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI()
	}
	c := covered(node, r.Method, r.Host, target, r.Header.Get(headerTime), nonceText, sha256.Sum256(body))
	if !ed25519.Verify(ed25519.PublicKey(key), c, sig) {
		return id, unauthenticated("the signature of %s does not match world %d's key for it", node, view.World.Version).WithHint("is the key file the one the world names?")
	}
	if to, ok := misdirected(view.World, r); ok {
		return id, unauthenticated("the request of %s was made out to %s", node, to).WithHint("somebody repeats another node's requests")
	}
	// Last, so that only valid signatures cost memory.
	switch v.nonces.add(id, nonce, now) {
	case seen:
		return id, unauthenticated("the request of %s was made before", node).WithHint("sign every request anew")
	case full:
		return id, region.Errorf(region.Overloaded, "%s made more than %d requests in %s", node, maxNonces, 2*Window).WithHint("slow down")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return id, nil
}

// misdirected says whether the Host of the request is one node's admin address
// while the address it arrived at is another's.
func misdirected(w *region.World, r *http.Request) (string, bool) {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || local.String() == r.Host {
		return "", false
	}
	var host, here bool
	for _, admin := range members(w) {
		host = host || admin == r.Host
		here = here || admin == local.String()
	}
	return r.Host, host && here
}

// members yields the nodes of a world with their admin addresses.
func members(w *region.World) func(func(Identity, string) bool) {
	return func(yield func(Identity, string) bool) {
		for i := range w.Regions {
			if !yield(Region(w.Regions[i].ID), w.Regions[i].Admin) {
				return
			}
		}
		for i := range w.POPs {
			if !yield(POP(w.POPs[i].ID), w.POPs[i].Admin) {
				return
			}
		}
		for i := range w.DNS {
			if !yield(Identity{KindDNS, w.DNS[i].Name}, w.DNS[i].Admin) {
				return
			}
		}
		for i := range w.IDs {
			if !yield(Identity{KindIDs, w.IDs[i].Name}, w.IDs[i].Admin) {
				return
			}
		}
	}
}

var statuses = map[region.Kind]int{
	region.BadInput: http.StatusBadRequest, region.Unauthenticated: http.StatusUnauthorized,
	region.Forbidden: http.StatusForbidden, region.NotFound: http.StatusNotFound,
	region.Conflict: http.StatusConflict, region.WrongRegion: http.StatusMisdirectedRequest,
	region.Unavailable: http.StatusServiceUnavailable, region.Overloaded: http.StatusTooManyRequests,
	region.TooLarge: http.StatusRequestEntityTooLarge, region.Unsupported: http.StatusNotImplemented,
}

// KindOfStatus is the kind of the error that WriteError answered with a status.
func KindOfStatus(status int) region.Kind {
	for k, s := range statuses {
		if s == status {
			return k
		}
	}
	return region.Internal
}

// WriteError answers with the HTTP status of the error's kind and one line of
// text: message and hint, without the cause.
func WriteError(w http.ResponseWriter, err error) {
	status, ok := statuses[region.KindOf(err)]
	if !ok {
		status = http.StatusInternalServerError
	}
	text := "internal error"
	var e *region.Error
	if errors.As(err, &e) {
		text = e.Message
		if e.Hint != "" {
			text += " (" + e.Hint + ")"
		}
	}
	http.Error(w, text, status)
}
