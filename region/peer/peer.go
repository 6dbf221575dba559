package peer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/homing-im/homing/region"
)

// MaxBody is the largest body of a signed request, in bytes. Bodies are hashed
// before the handler sees them, so they are held in memory.
const MaxBody = 8 << 20

// Window is how far the sender's clock and the verifier's may differ. Wider
// makes the memory of nonces larger, narrower ejects nodes with poor clocks.
const Window = 60 * time.Second

// The headers of a signed request.
const (
	headerNode      = "Homing-Node"
	headerTime      = "Homing-Time"
	headerNonce     = "Homing-Nonce"
	headerSignature = "Homing-Signature"
)

const context0 = "homing.peer.v1\x00"

// The kinds of node.
const (
	KindRegion = "region"
	KindPOP    = "pop"
	KindDNS    = "dns"
	KindIDs    = "ids"

	// KindOperator is no node: a person who holds one of the world's operator keys.
	KindOperator = "operator"
)

// Identity names a node: its kind and its name in the world.
type Identity struct {
	Kind string // region, pop, dns, ids or operator
	Name string // region ID, POP ID, node name, or an operator's public key in hex
}

// Region is the identity of a region.
func Region(id region.ID) Identity { return Identity{KindRegion, string(id)} }

// POP is the identity of a POP.
func POP(id region.POPID) Identity { return Identity{KindPOP, string(id)} }

// Operator is the identity of whoever holds an operator's key.
func Operator(key ed25519.PrivateKey) Identity {
	return Identity{KindOperator, hex.EncodeToString(key.Public().(ed25519.PublicKey))}
}

func (i Identity) String() string { return i.Kind + "/" + i.Name }

// ParseIdentity reads "kind/name".
func ParseIdentity(s string) (Identity, error) {
	kind, name, ok := strings.Cut(s, "/")
	switch {
	case !ok || name == "" || len(s) > 128:
	case kind == KindRegion, kind == KindPOP, kind == KindDNS, kind == KindIDs, kind == KindOperator:
		return Identity{kind, name}, nil
	}
	return Identity{}, fmt.Errorf("%.128q is not a node: want region/, pop/, dns/, ids/ or operator/ and a name", s)
}

// KeyOf returns the key that the world gives a node.
func KeyOf(w *region.World, id Identity) (region.PublicKey, bool) {
	_, key, ok := lookup(w, id)
	return key, ok && len(key) == ed25519.PublicKeySize
}

// AdminOf returns the host:port of the node's admin listener.
func AdminOf(w *region.World, id Identity) (string, bool) {
	admin, _, ok := lookup(w, id)
	return admin, ok && admin != ""
}

func lookup(w *region.World, id Identity) (admin string, key region.PublicKey, ok bool) {
	switch id.Kind {
	case KindRegion:
		if r, ok := w.Region(region.ID(id.Name)); ok {
			return r.Admin, r.Key, true
		}
	case KindPOP:
		if p, ok := w.POP(region.POPID(id.Name)); ok {
			return p.Admin, p.Key, true
		}
	case KindOperator:
		for _, k := range w.Operators {
			if hex.EncodeToString(k) == id.Name {
				return "", k, true
			}
		}
	case KindDNS, KindIDs:
		nodes := w.DNS
		if id.Kind == KindIDs {
			nodes = w.IDs
		}
		for i := range nodes {
			if nodes[i].Name == id.Name {
				return nodes[i].Admin, nodes[i].Key, true
			}
		}
	}
	return "", nil, false
}

type identityKey struct{}

// From returns the node that signed the request whose context this is.
func From(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// covered returns the bytes a signature is over; see the package comment.
func covered(node, method, host, target, milli, nonce string, body [sha256.Size]byte) []byte {
	b := []byte(context0)
	for _, f := range []string{node, method, host, target, milli, nonce, string(body[:])} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// NewTransport returns a transport that signs every request as the node and
// passes it to base, or to [http.DefaultTransport] when base is nil. A body is
// read whole before the request is sent; one over [MaxBody] is an error.
func NewTransport(id Identity, key ed25519.PrivateKey, base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{id: id, key: key, base: base, now: time.Now}
}

type transport struct {
	id   Identity
	key  ed25519.PrivateKey
	base http.RoundTripper
	now  func() time.Time
}

// CloseIdleConnections passes [http.Client.CloseIdleConnections] on.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		var err error
		body, err = io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
		err = errors.Join(err, r.Body.Close())
		if err != nil {
			return nil, err
		}
		if len(body) > MaxBody {
			return nil, region.Errorf(region.TooLarge, "body of a request to %s is over %d bytes", r.URL.Host, MaxBody)
		}
	}
	out := r.Clone(r.Context())
	if body != nil {
		out.Body = io.NopCloser(bytes.NewReader(body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		out.ContentLength = int64(len(body))
	}
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, err
	}
	milli, nonce := strconv.FormatInt(t.now().UnixMilli(), 10), hex.EncodeToString(raw[:])
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	sig := ed25519.Sign(t.key, covered(t.id.String(), method, host, r.URL.RequestURI(), milli, nonce, sha256.Sum256(body)))
	out.Header.Set(headerNode, t.id.String())
	out.Header.Set(headerTime, milli)
	out.Header.Set(headerNonce, nonce)
	out.Header.Set(headerSignature, base64.StdEncoding.EncodeToString(sig))
	return t.base.RoundTrip(out)
}
