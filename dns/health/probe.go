package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// probe checks a target as its own check says. base has the roots that TLS
// trusts, nil for those of the system.
func probe(ctx context.Context, client *http.Client, base *tls.Config, t Target) error {
	k := t.Check
	to := netip.AddrPortFrom(t.Listen.Addr(), portOf(t))
	switch k.Via {
	case region.ViaNone:
		return nil
	case region.ViaTCP:
		return connect(ctx, to, nil)
	case region.ViaTLS:
		return connect(ctx, to, trusting(base, k.Host))
	case region.ViaHTTP, region.ViaHTTPS:
		return fetch(ctx, client, trusting(base, k.Host), to, k)
	case region.ViaHello:
		config := base // plain where the world's own listeners are
		if config != nil && k.Host != "" {
			config = trusting(base, k.Host)
		}
		return hello(ctx, to, config)
	}
	return fmt.Errorf("there is no check via %q", k.Via)
}

// portOf is the one that the check states, else the listener's, else the
// protocol's own.
func portOf(t Target) uint16 {
	switch {
	case t.Check.Port != 0:
		return t.Check.Port
	case t.Listen.Port() != 0:
		return t.Listen.Port()
	case t.Check.Via == region.ViaHTTP:
		return 80
	}
	return 443
}

func trusting(base *tls.Config, host string) *tls.Config {
	c := &tls.Config{}
	if base != nil {
		c = base.Clone()
	}
	c.ServerName = host
	return c
}

// fetch wants an answer that is neither a failure nor a refusal.
func fetch(ctx context.Context, client *http.Client, config *tls.Config, to netip.AddrPort, k region.Check) error {
	path := k.Path
	if path == "" {
		path = "/"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(k.Via)+"://"+to.String()+path, nil)
	if err != nil {
		return err
	}
	if k.Host != "" {
		req.Host = k.Host
	}
	if k.Via == region.ViaHTTPS {
		client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
	}
	alone := *client
	alone.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := alone.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("%s%s answers %s", to, path, resp.Status)
	}
	return nil
}

// hello opens a long connection with an empty HELLO, which any server of one
// answers: with what it wants, or where to go.
func hello(ctx context.Context, to netip.AddrPort, config *tls.Config) error {
	conn, err := dial(ctx, to, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	return greet(conn)
}

func greet(conn net.Conn) error {
	if _, err := conn.Write(wire.Header{Method: wire.Hello, Sequence: 1}.Append(nil)); err != nil {
		return err
	}
	var head [wire.HeaderSize]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return fmt.Errorf("no answer to a HELLO: %w", err)
	}
	h, err := wire.ParseHeader(head[:])
	if err != nil {
		return fmt.Errorf("what answers is no long connection: %w", err)
	}
	if h.Flags&(wire.FlagResponse|wire.FlagPush) == 0 {
		return errors.New("what answers a HELLO sends requests")
	}
	return nil
}
