package ticket

import (
	"bytes"
	"crypto/sha256"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/homing-im/homing/region"
)

// DefaultVerified is how many verified tickets a [Verifier] remembers by
// default; about 300 bytes each.
const DefaultVerified = 65536

// Verifier is [Verify] with a memory: a token whose signature was verified once
// is not verified again under the same key. Expiry and the issuer's standing
// are judged every time, so a new world takes effect at once.
//
// It is safe for concurrent use.
type Verifier struct {
	verified *lru.Cache[[sha256.Size]byte, verified]
}

type verified struct {
	claims Claims
	key    region.PublicKey // the one that verified it
}

// NewVerifier remembers up to size tickets; 0 is [DefaultVerified].
func NewVerifier(size int) *Verifier {
	if size <= 0 {
		size = DefaultVerified
	}
	cache, err := lru.New[[sha256.Size]byte, verified](size)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Verifier{verified: cache}
}

// Verify is [Verify]. The claims' public key is shared between callers and must
// not be changed.
func (f *Verifier) Verify(v *region.View, token string, now time.Time) (Claims, error) {
	if len(token) > MaxLength { // before hashing it
		_, err := issuerOf(token)
		return Claims{}, err
	}
	name := sha256.Sum256([]byte(token))
	if known, ok := f.verified.Get(name); ok {
		key, err := keyOf(v, known.claims.Issuer)
		if err != nil {
			return Claims{}, err
		}
		if bytes.Equal(key, known.key) {
			return known.claims, judge(v, known.claims, now)
		}
		f.verified.Remove(name)
	}
	c, key, err := prove(v, token)
	if err != nil {
		return Claims{}, err
	}
	if err := judge(v, c, now); err != nil {
		return c, err
	}
	f.verified.Add(name, verified{claims: c, key: key})
	return c, nil
}
