// Package ticket makes and checks tickets: a region's word that a device was
// allowed to ask for a user.
//
// It guarantees that a token passes only when it was signed by the key the
// world names for its issuer, when that issuer is the home of the user or acts
// for it, and when it has not expired. A ticket is bound to a device key and
// is worth nothing without a proof of that key, so stealing one is not enough.
//
// # Format
//
// A ticket is a PASETO v4.public token. Its footer is the region ID of the
// issuer, in plain text; it selects the key and is covered by the signature.
// Its claims, all required:
//
//	iss  region ID of the issuer, equal to the footer
//	sub  UIN, decimal
//	dpk  the device's ed25519 public key, base64 (URL alphabet, unpadded)
//	trm  term of the user's home when issued: "counter/hash", as region.Term prints it
//	iat  issued, RFC 3339, whole seconds UTC
//	exp  expires, RFC 3339, whole seconds UTC; the ticket is good before it
//
// The device key ID is not a claim: it is the first 8 bytes of the SHA-256 of
// the public key. Unknown claims are ignored, so that some may be added.
package ticket

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	paseto "aidanwoods.dev/go-paseto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// MaxLength is the longest token looked at, in bytes. A real one has about 420.
const MaxLength = 1024

// Leeway is how far in the future a ticket may have been issued, to bear the
// difference between two regions' clocks.
const Leeway = 2 * time.Minute

// Claims is what a ticket says.
type Claims struct {
	UIN       region.UIN
	KeyID     [8]byte           // wire.KeyID of PublicKey; Mint ignores it
	PublicKey ed25519.PublicKey // of the device
	Issuer    region.ID
	Term      region.Term // of the user's home when it was issued
	Issued    time.Time
	Expires   time.Time
}

// Mint signs the claims with the issuer's region key.
//
// Errors: region.BadInput when a claim is missing or a key has the wrong size.
func Mint(c Claims, key ed25519.PrivateKey) (string, error) {
	switch {
	case len(key) != ed25519.PrivateKeySize:
		return "", region.Errorf(region.BadInput, "the region's private key has %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	case len(c.PublicKey) != ed25519.PublicKeySize:
		return "", region.Errorf(region.BadInput, "the device key has %d bytes, want %d", len(c.PublicKey), ed25519.PublicKeySize)
	case c.UIN == 0:
		return "", region.Errorf(region.BadInput, "a ticket needs a UIN")
	case c.Issuer.Valid() != nil:
		return "", region.Errorf(region.BadInput, "a ticket needs an issuer").WithCause(c.Issuer.Valid())
	case !c.Issued.Before(c.Expires):
		return "", region.Errorf(region.BadInput, "a ticket has to expire after it was issued")
	}
	secret, err := paseto.NewV4AsymmetricSecretKeyFromEd25519(key)
	if err != nil {
		return "", region.Errorf(region.BadInput, "the region's private key does not fit its public key").WithCause(err)
	}
	t := paseto.NewToken()
	t.SetFooter([]byte(c.Issuer))
	t.SetIssuer(string(c.Issuer))
	t.SetSubject(c.UIN.String())
	t.SetString("dpk", base64.RawURLEncoding.EncodeToString(c.PublicKey))
	t.SetString("trm", c.Term.String())
	t.SetIssuedAt(c.Issued.UTC().Truncate(time.Second))
	t.SetExpiration(c.Expires.UTC().Truncate(time.Second))
	return t.V4Sign(secret, nil), nil
}

// Verify checks a token under a world at a time and returns its claims. It does
// not prove that the caller holds the device key.
//
// Errors: region.Unauthenticated, with a message that begins "the ticket is
// malformed", "forged", "foreign" or "expired", and a hint.
func Verify(v *region.View, token string, now time.Time) (Claims, error) {
	c, _, err := prove(v, token)
	if err != nil {
		return Claims{}, err
	}
	return c, judge(v, c, now)
}

// prove returns the claims of a token that a region of the world signed, and the
// key it did so with. Whether they hold now is judge's.
func prove(v *region.View, token string) (Claims, region.PublicKey, error) {
	issuer, err := issuerOf(token)
	if err != nil {
		return Claims{}, nil, err
	}
	key, err := keyOf(v, issuer)
	if err != nil {
		return Claims{}, nil, err
	}
	c, err := open(token, issuer, key)
	return c, key, err
}

func malformed(format string, args ...any) *region.Error {
	return region.Errorf(region.Unauthenticated, "the ticket is malformed: "+format, args...).WithHint("log in again with the device key")
}

// issuerOf reads the footer, which nothing vouches for yet.
func issuerOf(token string) (region.ID, error) {
	if token == "" {
		return "", region.Errorf(region.Unauthenticated, "there is no ticket").WithHint("register, or log in with the device key")
	}
	if len(token) > MaxLength {
		return "", malformed("it has %d bytes, at most %d are read", len(token), MaxLength)
	}
	footer, err := paseto.NewParserWithoutExpiryCheck().UnsafeParseFooter(paseto.V4Public, token)
	if err != nil {
		return "", malformed("not a PASETO v4.public token").WithCause(err)
	}
	id := region.ID(footer)
	if err := id.Valid(); err != nil {
		return "", malformed("its footer names no region").WithCause(err)
	}
	return id, nil
}

func keyOf(v *region.View, issuer region.ID) (region.PublicKey, error) {
	if r, ok := v.World.Region(issuer); ok && len(r.Key) == ed25519.PublicKeySize {
		return r.Key, nil
	}
	return nil, foreign("region %s is not in world %d", issuer, v.World.Version)
}

func foreign(format string, args ...any) *region.Error {
	return region.Errorf(region.Unauthenticated, "the ticket is foreign: "+format, args...).WithHint("log in again with the device key, at the region that acts for the user")
}

// open verifies the signature and reads the claims.
func open(token string, issuer region.ID, key region.PublicKey) (Claims, error) {
	public, err := paseto.NewV4AsymmetricPublicKeyFromBytes(key)
	if err != nil {
		return Claims{}, foreign("the world has no usable key for region %s", issuer)
	}
	t, err := paseto.NewParserWithoutExpiryCheck().ParseV4Public(public, token, nil)
	if err != nil {
		return Claims{}, region.Errorf(region.Unauthenticated, "the ticket is forged: region %s's key did not sign it", issuer).
			WithHint("log in again with the device key").WithCause(err)
	}
	return read(t, issuer)
}

// read takes the claims apart. They are signed, so a mistake here is a region's.
func read(t *paseto.Token, issuer region.ID) (c Claims, err error) {
	text := func(name string) string {
		s, e := t.GetString(name)
		if e != nil && err == nil {
			err = malformed("claim %q is missing", name).WithCause(e)
		}
		return s
	}
	moment := func(name string) time.Time {
		m, e := t.GetTime(name)
		if e != nil && err == nil {
			err = malformed("claim %q is no time", name).WithCause(e)
		}
		return m
	}
	c.Issuer = region.ID(text("iss"))
	sub, dpk, trm := text("sub"), text("dpk"), text("trm")
	c.Issued, c.Expires = moment("iat"), moment("exp")
	if err != nil {
		return Claims{}, err
	}
	if c.Issuer != issuer {
		return Claims{}, malformed("issuer %q, but the footer says %q", c.Issuer, issuer)
	}
	if c.UIN, err = region.ParseUIN(sub); err != nil {
		return Claims{}, malformed("subject").WithCause(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(dpk)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return Claims{}, malformed("device key: want base64 of %d bytes", ed25519.PublicKeySize)
	}
	c.PublicKey, c.KeyID = raw, wire.KeyID(raw)
	if c.Term, err = parseTerm(trm); err != nil {
		return Claims{}, malformed("term").WithCause(err)
	}
	return c, nil
}

func parseTerm(s string) (t region.Term, err error) {
	counter, raised, ok := strings.Cut(s, "/")
	if !ok {
		return t, fmt.Errorf("%q: want counter/hash", s)
	}
	if t.Counter, err = strconv.ParseUint(counter, 10, 64); err != nil {
		return t, err
	}
	return t, t.Raised.UnmarshalText([]byte(raised))
}

// judge asks what may change while a token does not: the world and the time.
func judge(v *region.View, c Claims, now time.Time) error {
	p, ok := v.Placement(c.UIN)
	if !ok {
		return foreign("UIN %d belongs to no region of world %d", c.UIN, v.World.Version)
	}
	if c.Issuer != p.Home && c.Issuer != p.Acting {
		return foreign("region %s is not the home of UIN %d and does not act for it", c.Issuer, c.UIN)
	}
	if !now.Before(c.Expires) {
		return region.Errorf(region.Unauthenticated, "the ticket is expired since %s", c.Expires.UTC().Format(time.RFC3339)).
			WithHint("renew it with Challenge and Login")
	}
	if c.Issued.After(now.Add(Leeway)) {
		return region.Errorf(region.Unauthenticated, "the ticket is expired or not yet valid: it was issued at %s, in the future", c.Issued.UTC().Format(time.RFC3339)).
			WithHint("compare the clocks of the regions")
	}
	return nil
}
