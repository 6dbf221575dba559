package core

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
)

const (
	nonceLife = 60 * time.Second
	// maxUsedNonces bounds the memory of nonces that were used: 1 MiB of keys
	// takes 17,000 logins a second for a minute.
	maxUsedNonces = 1 << 20
)

// nonces are login challenges that cost no memory until a device has proven its
// key, so that a flood of Challenge cannot push out anybody's. A nonce is
//
//	8 bytes  Unix milliseconds when it was issued, big-endian
//	8 bytes  random
//	16 bytes HMAC-SHA256, truncated, over UIN, device key ID and the above
//
// under a secret that all processes of the region derive from its key, so that
// any of them takes the answer to a challenge of another one. Only nonces of
// logins that succeeded are remembered, until they are too old to be valid, and
// each process remembers its own: who has seen a login from within TLS could
// repeat it at another process within a minute, and gets a ticket that is
// worth nothing without the device key.
type nonces struct {
	secret [32]byte

	mu    sync.Mutex
	used  map[[32]byte]struct{}
	order []usedNonce // oldest first
}

type usedNonce struct {
	nonce [32]byte
	until time.Time
}

func newNonces(key ed25519.PrivateKey) (*nonces, error) {
	secret, err := hkdf.Key(sha256.New, key.Seed(), nil, "homing.login.nonce.v1", 32)
	if err != nil {
		return nil, region.Errorf(region.Internal, "no secret for login nonces").WithCause(err)
	}
	return &nonces{secret: [32]byte(secret), used: make(map[[32]byte]struct{})}, nil
}

func (n *nonces) seal(u region.UIN, keyID [8]byte, open []byte) []byte {
	h := hmac.New(sha256.New, n.secret[:])
	h.Write(keyUIN(u))
	h.Write(keyID[:])
	h.Write(open)
	return h.Sum(nil)[:16]
}

func (n *nonces) issue(u region.UIN, keyID [8]byte, now time.Time) ([]byte, error) {
	b := make([]byte, 16, 32)
	binary.BigEndian.PutUint64(b, uint64(now.UnixMilli()))
	if _, err := rand.Read(b[8:]); err != nil {
		return nil, region.Errorf(region.Internal, "no randomness").WithCause(err)
	}
	return append(b, n.seal(u, keyID, b)...), nil
}

// valid says whether the nonce was issued to that device, lately, and is unused.
func (n *nonces) valid(u region.UIN, keyID [8]byte, nonce []byte, now time.Time) bool {
	if len(nonce) != 32 || !hmac.Equal(nonce[16:], n.seal(u, keyID, nonce[:16])) {
		return false
	}
	issued := time.UnixMilli(int64(binary.BigEndian.Uint64(nonce)))
	if now.Before(issued) || now.Sub(issued) >= nonceLife {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	_, used := n.used[[32]byte(nonce)]
	return !used
}

// use marks a valid nonce; the second of two concurrent uses is refused.
func (n *nonces) use(nonce []byte, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.order) > 0 && !now.Before(n.order[0].until) {
		delete(n.used, n.order[0].nonce)
		n.order = n.order[1:]
	}
	k := [32]byte(nonce)
	if _, used := n.used[k]; used {
		return region.Errorf(region.Unauthenticated, "the login nonce was used").WithHint("ask for a new challenge")
	}
	if len(n.order) >= maxUsedNonces {
		return region.Errorf(region.Overloaded, "too many logins").WithHint("retry in a minute")
	}
	n.used[k] = struct{}{}
	n.order = append(n.order, usedNonce{k, now.Add(nonceLife)})
	return nil
}
