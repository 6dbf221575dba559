package health

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/homing-im/homing/region"
)

// Target is a member to check, as the world describes it.
type Target struct {
	POP    region.POPID   // empty for a region
	Region region.ID      // empty for a POP
	Listen netip.AddrPort // the listener to try; see listenerOf
	Admin  string         // host:port of the admin listener; may be empty
	Check  region.Check   // how; the zero value is as [Default] says
}

// String names the target for people.
func (t Target) String() string {
	if t.POP != "" {
		return "pop " + string(t.POP)
	}
	return "region " + string(t.Region)
}

// CheckFunc tries a target once; nil is success. It must return soon after ctx
// ends, and may run concurrently for different targets.
type CheckFunc func(ctx context.Context, t Target) error

// Default returns the usual check: a TCP connect to the target's listener, then
// a TLS handshake when a config is given, then, for a region, its admin
// listener's /readyz when there is a client for admin listeners, which should keep
// no connections. The config needs whatever lets the handshake succeed; its
// ServerName defaults to the target's IP address.
func Default(config *tls.Config, admin *http.Client) CheckFunc {
	// A connection per check: a kept one would prove only that it once worked.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context, t Target) error {
		if t.Check.Via != "" {
			return probe(ctx, client, config, t)
		}
		if err := connect(ctx, t.Listen, config); err != nil {
			return err
		}
		if admin != nil && t.Region != "" && t.Admin != "" {
			return isReady(ctx, admin, t.Admin)
		}
		return nil
	}
}

func connect(ctx context.Context, to netip.AddrPort, config *tls.Config) error {
	conn, err := dial(ctx, to, config)
	if err != nil {
		return err
	}
	return conn.Close()
}

// dial connects, with TLS when there is a config.
func dial(ctx context.Context, to netip.AddrPort, config *tls.Config) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // no TIME_WAIT: checks would fill the port range
	}
	if config == nil {
		return conn, nil
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = to.Addr().String()
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

func isReady(ctx context.Context, client *http.Client, admin string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, region.AdminURL(admin)+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s/readyz answers %s", admin, resp.Status)
	}
	return nil
}

// targets lists what a world has to check, POPs first.
func targets(w *region.World) []Target {
	out := make([]Target, 0, len(w.POPs)+len(w.Regions))
	for _, p := range w.POPs {
		if listen, ok := listenerOf(p.Serves); ok {
			out = append(out, Target{POP: p.ID, Listen: listen, Admin: p.Admin, Check: p.Check})
		}
	}
	for _, r := range w.Regions {
		if listen, ok := listenerOf(r.Serves); ok {
			out = append(out, Target{Region: r.ID, Listen: listen, Admin: r.Admin})
		}
	}
	return out
}

// listenerOf is the long listener, or the first other that is offered, or where
// the first name of a stand-alone DNS server's POP leads.
func listenerOf(e region.Endpoints) (netip.AddrPort, bool) {
	for _, s := range []region.Service{region.Long, region.Short, region.Web} {
		if a, ok := e.Of(s); ok {
			return a, true
		}
	}
	if len(e.Named) > 0 {
		return e.Named[0].Address, true
	}
	return netip.AddrPort{}, false
}
