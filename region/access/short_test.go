package access_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/client"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

func (r *rig) url() string { return "http://" + r.Addr(region.Short).String() }

// h2c is an HTTP client that speaks HTTP/2 without TLS.
func h2c() *http.Transport {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: p}
}

// Every encoding of the short connection does the same.
func TestShort(t *testing.T) {
	r := newRig(t, nil)
	key, ticket := r.users.Add(1_000_001)
	id := func() client.Identity { return client.Identity{UIN: 1_000_001, Key: key, Ticket: ticket} }
	for _, tt := range []struct {
		name      string
		transport *http.Transport
		options   []connect.ClientOption
	}{
		{"connect", &http.Transport{}, nil},
		{"json", &http.Transport{}, []connect.ClientOption{connect.WithProtoJSON()}},
		{"grpc", h2c(), []connect.ClientOption{connect.WithGRPC()}},
		{"grpc-web", &http.Transport{}, []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer tt.transport.CloseIdleConnections()
			im := v1.NewIMClient(&http.Client{Transport: client.Signed(id, tt.transport)}, r.url(), tt.options...)
			s, err := im.Send(t.Context(), connect.NewRequest(text(1_000_001, tt.name)))
			if err != nil || s.Msg.Sequence == 0 {
				t.Fatalf("%v, %v", s, err)
			}
			y, err := im.Sync(t.Context(), connect.NewRequest(&v1.SyncRequest{}))
			if err != nil || len(y.Msg.Messages) != int(s.Msg.Sequence) {
				t.Fatalf("%v, %v", y, err)
			}
			_, err = im.Resolve(t.Context(), connect.NewRequest(&v1.ResolveRequest{Handle: "nobody"}))
			if err = wire.FromConnect(err); region.KindOf(err) != region.NotFound {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A newcomer registers with curl.
func TestRegisterWithPlainJSON(t *testing.T) {
	r := newRig(t, nil)
	pub, _, _ := ed25519.GenerateKey(nil)
	q, _ := json.Marshal(map[string]any{"nickname": "Carol", "deviceKey": []byte(pub), "idempotencyKey": "k", "platform": "curl"})
	resp, err := http.Post(r.url()+"/homing.v1.IM/Register", "application/json", bytes.NewReader(q))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var a struct{ Uin, Ticket, Region string }
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || a.Uin != "1000001" || a.Ticket == "" || a.Region != "sh" {
		t.Errorf("%s: %+v, %v", resp.Status, a, err)
	}
	if h := resp.Header.Get(wire.WorldHeader); h != "5" {
		t.Errorf("world header %q", h)
	}
}

func TestShortRefused(t *testing.T) {
	r := newRig(t, nil)
	defer http.DefaultClient.CloseIdleConnections()
	key, ticket := r.users.Add(1_000_001)
	_, other := r.users.Add(1_000_002)
	const procedure = "/homing.v1.IM/Sync"
	send := []byte(`{}`)
	for _, tt := range []struct {
		name   string
		path   string
		body   []byte
		change func(http.Header)
		status int
		kind   string
	}{
		{"good", procedure, send, func(http.Header) {}, 200, ""},
		{"no ticket", procedure, send, func(h http.Header) { h.Del("Authorization") }, 401, "unauthenticated"},
		{"bearer", procedure, send, func(h http.Header) { h.Set("Authorization", "Bearer x") }, 401, "unauthenticated"},
		{"forged ticket", procedure, send, func(h http.Header) { h.Set("Authorization", "Homing x") }, 401, "unauthenticated"},
		{"another user's ticket", procedure, send, func(h http.Header) { h.Set("Authorization", "Homing "+other) }, 401, "unauthenticated"},
		{"no proof", procedure, send, func(h http.Header) { h.Del(wire.ProofHeader) }, 401, "unauthenticated"},
		{"proof of another body", procedure, send, func(h http.Header) {
			h.Set(wire.ProofHeader, wire.FormatProof(key, procedure, time.Now(), 1_000_001, []byte("{ }")))
		}, 401, "unauthenticated"},
		{"old proof", procedure, send, func(h http.Header) {
			h.Set(wire.ProofHeader, wire.FormatProof(key, procedure, time.Now().Add(-6*time.Minute), 1_000_001, send))
		}, 401, "unauthenticated"},
		{"no such method", "/homing.v1.IM/Nothing", send, func(http.Header) {}, 501, "unsupported"},
		{"not JSON", procedure, []byte(`{"`), func(http.Header) {}, 400, ""},
		{"too large", procedure, bytes.Repeat([]byte{' '}, wire.MaxBody+6), func(http.Header) {}, 429, "too-large"},
		{"too large, from anybody", "/homing.v1.IM/Register", bytes.Repeat([]byte{' '}, wire.MaxBody+6), func(h http.Header) { h.Del("Authorization") }, 429, "too-large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, _ := http.NewRequest(http.MethodPost, r.url()+tt.path, bytes.NewReader(tt.body))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Homing "+ticket)
			req.Header.Set(wire.ProofHeader, wire.FormatProof(key, tt.path, time.Now(), 1_000_001, tt.body))
			tt.change(req.Header)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status {
				t.Errorf("%s %s, want %d", resp.Status, b, tt.status)
			}
			if tt.kind != "" && !strings.Contains(string(b), `"name":"`+tt.kind+`"`) && !strings.Contains(string(b), `"name": "`+tt.kind+`"`) {
				t.Errorf("answer %s names no %s", b, tt.kind)
			}
		})
	}
}

// A short request in the wrong region is answered with the redirect, in the
// detail and in a header.
func TestShortWrongRegion(t *testing.T) {
	r := newRig(t, nil)
	key, ticket := r.users.Add(2_000_001)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	id := func() client.Identity { return client.Identity{UIN: 2_000_001, Key: key, Ticket: ticket} }
	im := v1.NewIMClient(&http.Client{Transport: client.Signed(id, tr)}, r.url())
	_, err := im.Send(t.Context(), connect.NewRequest(text(1, "m")))
	check := func(what string, err error) {
		t.Helper()
		var c *connect.Error
		if err == nil {
			t.Fatalf("%s was answered", what)
		}
		rd := wire.RedirectOf(wire.FromConnect(err))
		if region.KindOf(wire.FromConnect(err)) != region.WrongRegion || rd.GetActing() != "hk" || len(rd.Endpoints) != 1 || rd.Endpoints[0] != "127.2.0.1:7102" {
			t.Errorf("%s: %v with %v", what, err, rd)
		}
		if c = err.(*connect.Error); c.Meta().Get(wire.RedirectHeader) != "127.2.0.1:7102" {
			t.Errorf("%s: header %q", what, c.Meta().Get(wire.RedirectHeader))
		}
	}
	check("Send", err)
	_, err = im.Challenge(t.Context(), connect.NewRequest(&v1.ChallengeRequest{Uin: 2_000_001}))
	check("Challenge", err)
	if len(r.users.Inbox(2_000_001)) != 0 {
		t.Error("the message was stored in the wrong region")
	}
	if n := r.count("homing_access_redirects_total", "short"); n != 2 {
		t.Errorf("%v redirects counted", n)
	}
}

// The body is limited before anything is held of it: also without a
// Content-Length, and for those who need no ticket.
func TestShortBodyIsLimited(t *testing.T) {
	r := newRig(t, nil)
	defer http.DefaultClient.CloseIdleConnections()
	endless := io.LimitReader(zeros{}, 64<<20)
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, r.url()+"/homing.v1.IM/Register", endless)
	req.Header.Set("Content-Type", "application/proto")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // the server closed while we were still sending: refused
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		t.Error("64 MiB were taken")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestShortOverTLS(t *testing.T) {
	serverTLS, pool := authority()
	r := newRig(t, func(o *access.Options) { o.WebTLS = serverTLS })
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", r.Addr(region.Short).String())
		}}
	defer tr.CloseIdleConnections()
	id, err := client.Register(t.Context(), &http.Client{Transport: tr}, "https://short.demo.test", "Alice", "test")
	if err != nil || id.UIN != 1_000_001 || id.Region != "sh" {
		t.Errorf("%+v, %v", id, err)
	}
}

// A region never redirects to itself, whatever steering knows at that moment.
func TestRedirectNeverToItself(t *testing.T) {
	own := addr("127.1.0.1:7102")
	r := newRig(t, func(o *access.Options) {
		o.Redirect = func(region.Service, core.Caller) []netip.AddrPort { return []netip.AddrPort{own} }
	})
	r.world.Set(accesstest.View(6, accesstest.Place{ID: "sh", Long: addr("127.1.0.1:7101"), Short: own, Web: addr("127.1.0.1:7103")},
		accesstest.Place{ID: "hk", Long: addr("127.2.0.1:7101"), Short: addr("127.2.0.1:7102"), Web: addr("127.2.0.1:7103")}))
	key, ticket := r.users.Add(2_000_001)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	id := func() client.Identity { return client.Identity{UIN: 2_000_001, Key: key, Ticket: ticket} }
	_, err := v1.NewIMClient(&http.Client{Transport: client.Signed(id, tr)}, r.url()).Send(t.Context(), connect.NewRequest(text(1, "m")))
	if rd := wire.RedirectOf(wire.FromConnect(err)); len(rd.GetEndpoints()) != 1 || rd.Endpoints[0] != "127.2.0.1:7102" {
		t.Errorf("%v with %v, want hk's own listener, 127.2.0.1:7102", err, rd)
	}
}
