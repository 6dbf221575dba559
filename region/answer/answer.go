// Package answer signs what HTTPDNS says, so that a client believes it whoever
// carried it: a proxy, a captive network, or a DNS node that was stolen.
//
// # Guarantees
//
//   - [Verify] accepts a body only with the signature of a key that one of the
//     client's regions granted, until a time that has not passed, to a DNS node.
//   - The request's target is signed with the answer, and with it the nonce that
//     the client put there: an answer to another question, or to the same one at
//     another time, is refused without looking at a clock.
//   - A DNS node never holds a region's key. What it is granted ends by itself
//     within [Life], and at once where the region grants it nothing more.
//
// # Format
//
// The signature travels in the header [Header] as fields of base64 (standard,
// padded) and decimal numbers, separated by single blanks:
//
//	v1 <region> <node key> <until> <grant> <signature>
//
// until is Unix time in seconds. The grant is the region's ed25519 signature over
// "homing.dns-grant.v1\x00", then region, node key and until as decimal text,
// each preceded by its length in four big-endian bytes. The signature is the
// node's over "homing.dns-answer.v1\x00", then the request's target (path and
// query, as sent) and the body, likewise.
package answer

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/homing-im/homing/region"
)

const (
	// Header carries the signature of an answer.
	Header = "Homing-Answer-Signature"
	// Nonce is the parameter whose presence asks for a signature.
	Nonce = "nonce"
	// Life is the longest that a grant holds. Longer would let a stolen node speak
	// for longer, shorter would need regions more often than they fail.
	Life = time.Hour
	// slack is how late a client's clock may be before it refuses good grants.
	slack = 10 * time.Minute

	version       = "v1"
	grantContext  = "homing.dns-grant.v1\x00"
	answerContext = "homing.dns-answer.v1\x00"
	maxHeader     = 1024 // bytes
)

// Grant lets a DNS node sign answers in a region's name until a time.
type Grant struct {
	Region region.ID        `json:"region"`
	Node   region.PublicKey `json:"node"`
	Until  int64            `json:"until"` // Unix seconds
	Sig    []byte           `json:"sig"`   // the region's
}

func covered(context string, fields ...string) []byte {
	b := []byte(context)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

func (g *Grant) covered() []byte {
	return covered(grantContext, string(g.Region), string(g.Node), strconv.FormatInt(g.Until, 10))
}

// NewGrant is what a region, by its key, gives a DNS node for [Life] from now.
func NewGrant(key ed25519.PrivateKey, id region.ID, node region.PublicKey, now time.Time) Grant {
	g := Grant{Region: id, Node: node, Until: now.Add(Life).Unix()}
	g.Sig = ed25519.Sign(key, g.covered())
	return g
}

// Good says whether the grant is by the region's key and holds at a time.
func (g *Grant) Good(of region.PublicKey, now time.Time) bool {
	return len(of) == ed25519.PublicKeySize && len(g.Node) == ed25519.PublicKeySize &&
		now.Unix() < g.Until && g.Until <= now.Add(Life+slack).Unix() && ed25519.Verify(ed25519.PublicKey(of), g.covered(), g.Sig)
}

// Sign returns the value of [Header] for the answer to a request, by the node's
// key.
func (g *Grant) Sign(key ed25519.PrivateKey, target string, body []byte) string {
	b64 := base64.StdEncoding.EncodeToString
	sig := ed25519.Sign(key, covered(answerContext, target, string(body)))
	return strings.Join([]string{version, string(g.Region), b64(g.Node), strconv.FormatInt(g.Until, 10), b64(g.Sig), b64(sig)}, " ")
}

// Verify says whether the header proves that a body is the answer to the
// request. keys are those of the regions that the client believes; the error is
// of kind region.Unauthenticated.
func Verify(keys map[region.ID]region.PublicKey, header, target string, body []byte, now time.Time) error {
	if header == "" {
		return refused("the answer is not signed")
	}
	g, sig, ok := parse(header)
	if !ok {
		return refused("the answer's signature is malformed")
	}
	of, ok := keys[g.Region]
	switch {
	case !ok:
		return refused("the answer is signed for region " + strconv.Quote(string(g.Region)) + ", whose key is not known here")
	case !g.Good(of, now):
		return refused("the answer's signer has no grant of region " + string(g.Region) + " that holds now")
	case !ed25519.Verify(ed25519.PublicKey(g.Node), covered(answerContext, target, string(body)), sig):
		return refused("the answer's signature is wrong: somebody changed it, or it answers another question")
	}
	return nil
}

// parse reads a header; each part has one spelling.
func parse(header string) (g Grant, sig []byte, ok bool) {
	f := strings.Split(header, " ")
	if len(header) > maxHeader || len(f) != 6 || f[0] != version || f[1] == "" {
		return g, nil, false
	}
	var node, grant []byte
	for _, part := range []struct {
		text string
		into *[]byte
		size int
	}{{f[2], &node, ed25519.PublicKeySize}, {f[4], &grant, ed25519.SignatureSize}, {f[5], &sig, ed25519.SignatureSize}} {
		b, err := base64.StdEncoding.Strict().DecodeString(part.text)
		if err != nil || len(b) != part.size {
			return g, nil, false
		}
		*part.into = b
	}
	until, err := strconv.ParseInt(f[3], 10, 64)
	if err != nil || strconv.FormatInt(until, 10) != f[3] {
		return g, nil, false
	}
	return Grant{Region: region.ID(f[1]), Node: node, Until: until, Sig: grant}, sig, true
}

func refused(why string) error {
	return region.Errorf(region.Unauthenticated, "%s", why).WithHint("ask another DNS node, or use the addresses that are known")
}
