package answer

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
)

var (
	now       = time.Unix(1_800_000_000, 0)
	regionKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	nodeKey   = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
	keys      = map[region.ID]region.PublicKey{"sh": public(regionKey)}
)

const (
	target = "/d?host=long.demo.test&nonce=1"
	body   = `{"host":"long.demo.test"}`
	golden = "v1 sh gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q= 1800003600 " +
		"xH2dYX8Z5Mzi9QOt7wqvb/dH6L6IIjxTs7WNbrRE6tlLZWbGhwrSJG35yh8w+czcw889PvgdDCHP/YgS4nBzCg== " +
		"qtq1agMXt5/es6W7VFLQSfPrlMEl+/SrNmDh86XQl6rlDgt4PEcTd+1iARvTlxL3zTBNA10sRoTD5cq71lSEAA=="
)

func public(k ed25519.PrivateKey) region.PublicKey {
	return region.PublicKey(k.Public().(ed25519.PublicKey))
}

func TestVerify(t *testing.T) {
	g := NewGrant(regionKey, "sh", public(nodeKey), now)
	good := g.Sign(nodeKey, target, []byte(body))
	if err := Verify(keys, good, target, []byte(body), now); err != nil {
		t.Fatal(err)
	}
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	foreign := NewGrant(stranger, "sh", public(nodeKey), now)
	unknown := NewGrant(regionKey, "xx", public(nodeKey), now)
	longer := g
	longer.Until += 60
	forever := Grant{Region: "sh", Node: public(nodeKey), Until: now.Add(30 * 24 * time.Hour).Unix()}
	forever.Sig = ed25519.Sign(regionKey, forever.covered())
	for _, c := range []struct {
		name, header, target, body string
		at                         time.Time
		why                        string
	}{
		{"none", "", target, body, now, "not signed"},
		{"another body", good, target, strings.Replace(body, "long", "1ong", 1), now, "changed"},
		{"another question", good, strings.Replace(target, "nonce=1", "nonce=2", 1), body, now, "another question"},
		{"too old", good, target, body, now.Add(Life), "no grant"},
		{"signed by another node", g.Sign(stranger, target, []byte(body)), target, body, now, "changed"},
		{"granted by a stranger", foreign.Sign(nodeKey, target, []byte(body)), target, body, now, "no grant"},
		{"granted by an unknown region", unknown.Sign(nodeKey, target, []byte(body)), target, body, now, "not known"},
		{"prolonged", longer.Sign(nodeKey, target, []byte(body)), target, body, now, "no grant"},
		{"granted for too long", forever.Sign(nodeKey, target, []byte(body)), target, body, now, "no grant"},
		{"another version", strings.Replace(good, "v1", "v2", 1), target, body, now, "malformed"},
		{"cut", good[:len(good)-1], target, body, now, "malformed"},
	} {
		err := Verify(keys, c.header, c.target, []byte(c.body), c.at)
		if region.KindOf(err) != region.Unauthenticated || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The bytes of a header do not change: clients in the field verify them.
func TestGolden(t *testing.T) {
	g := NewGrant(regionKey, "sh", public(nodeKey), now)
	if got := g.Sign(nodeKey, target, []byte(body)); got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
}

func FuzzParse(f *testing.F) {
	g := NewGrant(regionKey, "sh", public(nodeKey), now)
	f.Add(g.Sign(nodeKey, target, []byte(body)))
	f.Add("v1 sh x 1 y z")
	f.Fuzz(func(t *testing.T, header string) {
		g, sig, ok := parse(header)
		if ok && len(sig) != ed25519.SignatureSize {
			t.Fatal("a short signature")
		}
		// Nobody can make what verifies without the keys.
		if Verify(keys, header, "/d?host=never.signed", []byte(body), now) == nil {
			t.Fatalf("%q verifies: %+v", header, g)
		}
	})
}
