package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// httpClient makes a client that dials as the options say. With an address
// every connection goes there, whatever the URL's host is.
func (c *Client) httpClient(to *netip.AddrPort) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			ForceAttemptHTTP2: true,
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: c.o.RootCAs},
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if to != nil {
					addr = to.String()
				}
				return c.o.Dial(ctx, network, addr)
			},
		},
		Timeout: c.o.ConnectTimeout,
	}
}

// asker makes one call; on the long connection or on the short one.
type asker func(m wire.Method, req, resp proto.Message) error

// renew exchanges a signed challenge for a new ticket.
func (c *Client) renew(ask asker) error {
	id := c.Identity()
	keyID := wire.KeyID(id.Key.Public().(ed25519.PublicKey))
	ch := new(v1.ChallengeResponse)
	if err := ask(wire.Challenge, &v1.ChallengeRequest{Uin: uint64(id.UIN), DeviceKeyId: keyID[:]}, ch); err != nil {
		return err
	}
	lr := new(v1.LoginResponse)
	err := ask(wire.Login, &v1.LoginRequest{
		Uin: uint64(id.UIN), DeviceKeyId: keyID[:], Nonce: ch.Nonce,
		Signature: ed25519.Sign(id.Key, wire.LoginProof(ch.Region, id.UIN, ch.Nonce)),
	}, lr)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.identity.Ticket, c.identity.Expires = lr.Ticket, time.Unix(lr.TicketExpiresUnix, 0)
	id = c.identity
	c.mu.Unlock()
	c.emit(Event{Kind: Renewed})
	if c.o.OnIdentity != nil {
		c.o.OnIdentity(id)
	}
	return nil
}

// Renew gets a new ticket over the short connection, following redirects.
func (c *Client) Renew(ctx context.Context) error { return c.renewShort(ctx) }

func (c *Client) renewShort(ctx context.Context) error {
	to, err := c.shortTargets(ctx)
	if err != nil {
		return err
	}
	var last error
	for hops := 0; len(to) > 0 && hops <= maxRedirects+len(to); hops++ {
		t := to[0]
		to = to[1:]
		last = c.renewAt(ctx, t)
		if last == nil {
			return nil
		}
		if r := wire.RedirectOf(last); r != nil {
			c.heardOf(r.WorldVersion)
			to = nil
			for _, a := range parseEndpoints(r.Endpoints) {
				to = append(to, target{base: c.shortBase(a), addr: &a})
			}
			continue
		}
		if region.KindOf(last) == region.Unauthenticated {
			return last
		}
	}
	return last
}

func (c *Client) renewAt(ctx context.Context, t target) error {
	h := c.httpClient(t.addr)
	defer h.CloseIdleConnections()
	im := v1.NewIMClient(h, t.base)
	h.Transport = routed{c.o.Identity.UIN, h.Transport}
	return c.renew(func(m wire.Method, req, resp proto.Message) error {
		var err error
		switch q := req.(type) {
		case *v1.ChallengeRequest:
			var r *connect.Response[v1.ChallengeResponse]
			if r, err = im.Challenge(ctx, connect.NewRequest(q)); err == nil {
				proto.Merge(resp, r.Msg)
			}
		case *v1.LoginRequest:
			var r *connect.Response[v1.LoginResponse]
			if r, err = im.Login(ctx, connect.NewRequest(q)); err == nil {
				proto.Merge(resp, r.Msg)
			}
		default:
			err = fmt.Errorf("client: %s is not part of a login", m)
		}
		return wire.FromConnect(err)
	})
}

// routed tells a POP whose request it is.
type routed struct {
	uin  region.UIN
	base http.RoundTripper
}

func (t routed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(wire.UINHeader, t.uin.String())
	return t.base.RoundTrip(r)
}

// CloseIdleConnections lets http.Client close what is below.
func (t routed) CloseIdleConnections() {
	(&http.Client{Transport: t.base}).CloseIdleConnections()
}

// target is a base URL and, when it is not to be resolved, where to dial.
type target struct {
	base string
	addr *netip.AddrPort
}

func (c *Client) shortBase(a netip.AddrPort) string {
	if c.o.Plain || strings.HasPrefix(c.o.Short, "http:") {
		return "http://" + a.String()
	}
	return "https://" + string(region.Short) + "." + c.o.Zone
}

func (c *Client) shortTargets(ctx context.Context) ([]target, error) {
	if c.o.Short != "" {
		return []target{{base: c.o.Short}}, nil
	}
	ends, _, err := c.Resolve(ctx, region.Short)
	if err != nil {
		return nil, err
	}
	var ts []target
	for _, a := range ends {
		ts = append(ts, target{base: c.shortBase(a), addr: &a})
	}
	return ts, nil
}

// Register makes a user in the region behind a short URL, with a fresh device
// key. It tries again under the same idempotency key until it is answered or
// ctx ends, so that a lost answer makes no second user. h may be nil.
func Register(ctx context.Context, h *http.Client, shortURL, nickname, platform string) (Identity, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, err
	}
	if h == nil {
		h = http.DefaultClient
	}
	im := v1.NewIMClient(h, shortURL)
	req := &v1.RegisterRequest{Nickname: nickname, DeviceKey: pub, Platform: platform, IdempotencyKey: NewKey()}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		r, err := im.Register(ctx, connect.NewRequest(req))
		if err == nil {
			return Identity{
				UIN: region.UIN(r.Msg.Uin), Key: key, Ticket: r.Msg.Ticket,
				Expires: time.Unix(r.Msg.TicketExpiresUnix, 0), Region: region.ID(r.Msg.Region),
			}, nil
		}
		err = wire.FromConnect(err)
		if !region.KindOf(err).Retryable() {
			return Identity{}, err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return Identity{}, errors.Join(err, ctx.Err())
		}
	}
}

// Signed is a transport that adds ticket and proof to every request of the
// short connection. It reads bodies whole. Base may be nil.
func Signed(id func() Identity, base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return signing{id, base}
}

type signing struct {
	id   func() Identity
	base http.RoundTripper
}

func (s signing) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	id := s.id()
	out := r.Clone(r.Context())
	out.Body = io.NopCloser(bytes.NewReader(body))
	out.ContentLength = int64(len(body))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Header.Set(wire.UINHeader, id.UIN.String())
	out.Header.Set("Authorization", wire.AuthorizationScheme+" "+id.Ticket)
	out.Header.Set(wire.ProofHeader, wire.FormatProof(id.Key, r.URL.Path, time.Now(), id.UIN, body))
	return s.base.RoundTrip(out)
}
