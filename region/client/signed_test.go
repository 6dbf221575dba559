package client_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/answer"
	"github.com/homing-im/homing/region/client"
)

// A client with the regions' keys takes a signed answer, and nothing that was
// forged: changed, replayed for another question, unsigned, or by a stranger.
func TestSignedHTTPDNS(t *testing.T) {
	regionKey, nodeKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	public := func(k ed25519.PrivateKey) region.PublicKey { return region.PublicKey(k.Public().(ed25519.PublicKey)) }
	good := answer.NewGrant(regionKey, "sh", public(nodeKey), time.Now())
	foreign := answer.NewGrant(stranger, "sh", public(stranger), time.Now())
	body := func(address string) []byte {
		b, _ := json.Marshal(map[string]any{"host": "long.demo.test", "endpoints": []string{address}, "ttl": 60, "world": 1})
		return b
	}
	const right, wrong = "192.0.2.1:7001", "192.0.2.66:7001"
	replayed := ""
	answers := map[string]func(w http.ResponseWriter, r *http.Request) []byte{
		"good": func(w http.ResponseWriter, r *http.Request) []byte {
			w.Header().Set(answer.Header, good.Sign(nodeKey, r.RequestURI, body(right)))
			replayed = w.Header().Get(answer.Header)
			return body(right)
		},
		"changed": func(w http.ResponseWriter, r *http.Request) []byte {
			w.Header().Set(answer.Header, good.Sign(nodeKey, r.RequestURI, body(right)))
			return body(wrong)
		},
		"replayed": func(w http.ResponseWriter, _ *http.Request) []byte {
			w.Header().Set(answer.Header, replayed)
			return body(right)
		},
		"unsigned": func(http.ResponseWriter, *http.Request) []byte { return body(wrong) },
		"by a stranger": func(w http.ResponseWriter, r *http.Request) []byte {
			w.Header().Set(answer.Header, foreign.Sign(stranger, r.RequestURI, body(wrong)))
			return body(wrong)
		},
	}
	mode := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(answers[mode](w, r))
	}))
	defer server.Close()
	c, err := client.New(client.Options{
		Zone: "demo.test", HTTPDNS: server.URL, Plain: true, AnswerKeys: map[region.ID]region.PublicKey{"sh": public(regionKey)},
		Identity: client.Identity{UIN: 1_000_001, Key: ed25519.NewKeyFromSeed(make([]byte, 32))},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for _, mode = range []string{"good", "changed", "replayed", "unsigned", "by a stranger"} {
		ends, source, err := c.Resolve(context.Background(), region.Long)
		if mode == "good" {
			if err != nil || source != "httpdns" || len(ends) != 1 || ends[0] != netip.MustParseAddrPort(right) {
				t.Fatalf("%v %q %v", ends, source, err)
			}
			continue
		}
		if region.KindOf(err) != region.Unauthenticated || len(ends) > 0 || !strings.Contains(err.Error(), "answer") {
			t.Errorf("%s: %v %v", mode, ends, err)
		}
	}
}
