package access_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/wire"
)

func authority() (*tls.Config, *x509.CertPool) {
	return accesstest.Authority("long.demo.test", "short.demo.test", "web.demo.test")
}

// envelope is what a browser sees.
type envelope struct {
	Method   string         `json:"method"`
	Sequence uint64         `json:"sequence,omitempty"`
	Response bool           `json:"response,omitempty"`
	Push     bool           `json:"push,omitempty"`
	Body     map[string]any `json:"body,omitempty"`
	Error    map[string]any `json:"error,omitempty"`
}

type browser struct {
	t    *testing.T
	uin  region.UIN
	key  ed25519.PrivateKey
	tick string
	conn []byte
}

func (r *rig) browser(uin region.UIN) *browser {
	key, ticket := r.users.Add(uin)
	return &browser{t: r.t, uin: uin, key: key, tick: ticket, conn: bytes.Repeat([]byte{7}, 16)}
}

func (b *browser) hello() envelope {
	id := wire.KeyID(b.key.Public().(ed25519.PublicKey))
	return envelope{Method: "Hello", Sequence: 1, Body: map[string]any{
		"wireVersion": 1, "uin": fmt.Sprint(b.uin), "clientVersion": 80003, "platform": "web",
		"deviceKeyId": id[:], "ticket": b.tick, "connectionId": b.conn}}
}

func (b *browser) proof(reply envelope) envelope {
	b.t.Helper()
	nonce, err := base64.StdEncoding.DecodeString(fmt.Sprint(reply.Body["nonce"]))
	if err != nil || len(nonce) != 32 {
		b.t.Fatalf("HelloReply %+v: %v", reply, err)
	}
	epoch := region.Epoch{Term: region.Term{Raised: region.Hash{1}.Short()}}
	sig := ed25519.Sign(b.key, wire.ConnectionProof(fmt.Sprint(reply.Body["region"]), epoch, b.conn, nonce, b.uin))
	return envelope{Method: "Reauth", Sequence: 2, Body: map[string]any{"nonce": nonce, "signature": sig}}
}

func (b *browser) text(seq uint64) envelope {
	return envelope{Method: "Send", Sequence: seq, Body: map[string]any{"to": fmt.Sprint(b.uin), "clientMessageId": fmt.Sprint(seq), "body": map[string]any{"text": "hello"}}}
}

func TestWebSocket(t *testing.T) {
	r := newRig(t, nil)
	b := r.browser(1_000_001)
	c, _, err := websocket.Dial(t.Context(), "ws://"+r.Addr(region.Web).String()+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	write := func(e envelope) {
		t.Helper()
		j, _ := json.Marshal(e)
		if err := c.Write(ctx, websocket.MessageText, j); err != nil {
			t.Fatal(err)
		}
	}
	read := func() (e envelope) {
		t.Helper()
		_, j, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(j, &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	write(b.hello())
	write(b.proof(read()))
	if e := read(); e.Method != "Reauth" || !e.Response || e.Body["heartbeatSeconds"] != 240.0 {
		t.Fatalf("%+v", e)
	}
	write(b.text(3))
	var notice, response bool
	for !notice || !response {
		e := read()
		notice = notice || (e.Method == "Notice" && e.Push && e.Body["sequence"] == "1")
		response = response || (e.Method == "Send" && e.Response && e.Sequence == 3 && e.Error == nil)
	}
	write(envelope{Method: "Nothing", Sequence: 4})
	if e := read(); e.Sequence != 4 || e.Error["name"] != "unsupported" {
		t.Errorf("%+v", e)
	}
	// Garbage ends the session, with a reason.
	if err := c.Write(ctx, websocket.MessageText, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if e := read(); e.Method != "GoAway" || e.Error["name"] != "bad-input" {
		t.Errorf("%+v", e)
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("read after the end: %v", err)
	}
	eventually(t, "nobody online", func() bool { u, _ := r.Online(); return u == 0 })
}

func TestOrigins(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.Origins = []string{"*.friend.test"} })
	defer http.DefaultClient.CloseIdleConnections()
	for origin, ok := range map[string]bool{
		"https://app.friend.test": true, "https://evil.test": false, "null": false,
		"http://127.2.0.1:7103": true, "http://127.2.0.1:7104": false, // hk's web listener, and another of its ports
	} {
		c, _, err := websocket.Dial(t.Context(), "ws://"+r.Addr(region.Web).String()+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		if (err == nil) != ok {
			t.Errorf("WebSocket from %s: %v", origin, err)
		}
		if c != nil {
			_ = c.CloseNow()
		}
		req, _ := http.NewRequest(http.MethodPost, "http://"+r.Addr(region.Web).String()+"/poll", bytes.NewReader([]byte(`{}`)))
		req.Header.Set("Origin", origin)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if (resp.StatusCode == 200) != ok {
			t.Errorf("poll from %s: %s", origin, resp.Status)
		}
		for _, path := range []string{"/poll", "/homing.v1.IM/Challenge"} {
			req, _ = http.NewRequest(http.MethodOptions, "http://"+r.Addr(region.Web).String()+path, nil)
			req.Header.Set("Origin", origin)
			req.Header.Set("Access-Control-Request-Method", "POST")
			if resp, err = http.DefaultClient.Do(req); err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if h := resp.Header; (resp.StatusCode == 204) != ok || (h.Get("Access-Control-Allow-Origin") == origin) != ok || h.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("preflight of %s from %s: %s %v", path, origin, resp.Status, h)
			}
		}
	}
	if n := r.count("homing_access_rejected_total", "origin"); n != 12 {
		t.Errorf("%v rejected", n)
	}
}

func TestLongPolling(t *testing.T) {
	r := newRig(t, nil)
	b := r.browser(1_000_001)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	type answer struct {
		Session   string     `json:"session"`
		Envelopes []envelope `json:"envelopes"`
		Over      bool       `json:"over"`
	}
	poll := func(session string, wait int, es ...envelope) (a answer) {
		t.Helper()
		q, _ := json.Marshal(map[string]any{"session": session, "wait_milli": wait, "envelopes": es})
		resp, err := (&http.Client{Transport: tr}).Post("http://"+r.Addr(region.Web).String()+"/poll", "application/json", bytes.NewReader(q))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := poll("", 0, b.hello())
	session := a.Session
	if session == "" || len(a.Envelopes) != 1 {
		t.Fatalf("%+v", a)
	}
	if a = poll(session, 0, b.proof(a.Envelopes[0])); len(a.Envelopes) != 1 || a.Envelopes[0].Method != "Reauth" || a.Envelopes[0].Error != nil {
		t.Fatalf("%+v", a)
	}
	// A poll that waits is answered by what happens meanwhile.
	waiting := make(chan answer, 1)
	go func() { waiting <- poll(session, 20_000) }()
	a = poll(session, 0, b.text(3))
	if a.Session != session {
		t.Errorf("%+v", a)
	}
	seen := map[string]bool{}
	for _, e := range a.Envelopes { // it may have overtaken the poll that waits
		seen[e.Method] = true
	}
	deadline := time.After(10 * time.Second)
	for !seen["Notice"] || !seen["Send"] {
		select {
		case a := <-waiting:
			for _, e := range a.Envelopes {
				seen[e.Method] = true
			}
			if !seen["Notice"] || !seen["Send"] {
				go func() { waiting <- poll(session, 20_000) }()
			}
		case <-deadline:
			t.Fatalf("seen %v", seen)
		}
	}
	if a := poll("nobody's", 0); !a.Over {
		t.Errorf("an unknown session: %+v", a)
	}
	// Garbage ends the session, with a reason.
	if a := poll(session, 1000, envelope{Method: "Send", Response: true}); len(a.Envelopes) != 1 || a.Envelopes[0].Method != "GoAway" {
		t.Errorf("%+v", a)
	}
	if a := poll(session, 0); !a.Over {
		t.Errorf("after the end: %+v", a)
	}
	if u, _ := r.Online(); u != 0 {
		t.Errorf("%d users are online", u)
	}
}
