package accel

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/homing-im/homing/accel/relay"
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// client is where a connection came from and at which address of ours.
type client struct {
	from, to netip.AddrPort
}

// upstream is a connection to a region that has answered HELLO.
type upstream struct {
	conn    *relay.Conn
	region  region.ID
	reply   []byte // the first frame, to be passed on
	refused bool   // it is an error
}

// connect takes a HELLO to the region that acts for its UIN and returns with the
// region's reply. It tries again while the region cannot be reached or the
// regions do not agree, since another may act by then.
//
// Errors: region.NotFound for a UIN in nobody's segment, region.Unavailable.
func (p *POP) connect(ctx context.Context, h *hello, c client) (*upstream, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Connect)
	defer cancel()
	for n := 1; ; n++ {
		changed := p.o.World.Changed()
		up, err := p.attempt(ctx, h, c)
		if err == nil || region.KindOf(err) == region.NotFound {
			return up, err
		}
		if n == attempts || !pause(ctx, changed, time.Duration(n)*300*time.Millisecond) {
			return nil, unavailable("the region that acts for the UIN cannot be reached").WithCause(err)
		}
	}
}

// attempt goes to the region this POP would choose, and on to the one that
// region redirects to when this POP's world was stale. A second redirect is not
// followed, so nobody goes round in circles.
func (p *POP) attempt(ctx context.Context, h *hello, c client) (*upstream, error) {
	to, err := p.Choose(h.uin())
	if err != nil {
		return nil, err
	}
	up, r, err := p.greet(ctx, to, h, c)
	if err != nil || r == nil {
		return up, err
	}
	next, err := p.follow(ctx, to, r)
	if err != nil {
		return nil, err
	}
	up, r, err = p.greet(ctx, next, h, c)
	if r != nil {
		return nil, unavailable("regions %s and %s do not agree who acts for the UIN", to, next)
	}
	return up, err
}

func unavailable(format string, args ...any) *region.Error {
	return region.Errorf(region.Unavailable, format, args...).WithHint("try again; the POP keeps looking for the acting region")
}

// pause waits until the world changed or d is over; false when ctx ended.
func pause(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
		return true
	case <-t.C:
		return true
	}
}

// follow returns the region a redirect names, once the world knows it. The
// endpoints in the redirect are not looked at: the address of a region comes
// from the verified world, so a region that lies can send a client to another
// region at worst, which refuses it.
func (p *POP) follow(ctx context.Context, from region.ID, r *v1.Redirect) (region.ID, error) {
	p.m.redirects.Inc()
	to := region.ID(r.Acting)
	for {
		changed := p.o.World.Changed()
		v := p.o.World.View()
		if v == nil {
			return "", unavailable("the POP has no world yet")
		}
		if r.WorldVersion > v.World.Version {
			p.o.World.Hint(r.WorldVersion)
		}
		if _, ok := v.World.Region(to); ok && to != from {
			return to, nil
		}
		if r.WorldVersion <= v.World.Version {
			return "", unavailable("region %s redirects to %q, which world %d does not have", from, r.Acting, v.World.Version)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", unavailable("world %d did not arrive", r.WorldVersion)
		}
	}
}

// greet dials a region, sends HELLO and reads the reply. A redirect is returned
// instead of a connection.
func (p *POP) greet(ctx context.Context, to region.ID, h *hello, c client) (*upstream, *v1.Redirect, error) {
	conn, err := p.dial(ctx, to, c)
	if err != nil {
		p.m.upstreamFailed.WithLabelValues(string(to)).Inc()
		return nil, nil, err
	}
	header, reply, err := exchange(ctx, conn, h)
	var r *v1.Redirect
	if err == nil {
		r = redirectOf(header, reply)
	}
	if err != nil || r != nil {
		_ = conn.Abort()
		if err != nil {
			p.m.upstreamFailed.WithLabelValues(string(to)).Inc()
		}
		return nil, r, err
	}
	return &upstream{conn: conn, region: to, reply: reply, refused: header.Flags&wire.FlagError != 0}, nil, nil
}

func exchange(ctx context.Context, conn *relay.Conn, h *hello) (wire.Header, []byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(h.bytes); err != nil {
		return wire.Header{}, nil, err
	}
	header, b, err := readFrame(conn, wire.MaxBody)
	if err == nil && !stop() {
		err = ctx.Err() // the deadline may be spoilt
	}
	return header, b, err
}

// dial opens a long connection to a region: TCP, PROXY header, TLS.
func (p *POP) dial(ctx context.Context, to region.ID, c client) (*relay.Conn, error) {
	addr, zone, err := p.addressOf(to, region.Long)
	if err != nil {
		return nil, err
	}
	dctx, cancel := context.WithTimeout(ctx, p.o.Connect/attempts)
	defer cancel()
	raw, err := p.dialer.DialContext(dctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	tcp, ok := raw.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(errors.New("accel: not a TCP connection"), raw.Close())
	}
	header, err := proxyHeader(p.o.ID, c)
	if err == nil {
		_, err = tcp.Write(header)
	}
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	if p.regionTLS[region.Long] == nil {
		return relay.Plain(tcp), nil
	}
	conn := relay.Client(tcp, p.named(region.Long, zone))
	if err := conn.Handshake(dctx); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return conn, nil
}

// addressOf returns where the verified world says a region serves.
func (p *POP) addressOf(id region.ID, s region.Service) (netip.AddrPort, string, error) {
	v := p.o.World.View()
	if v == nil {
		return netip.AddrPort{}, "", unavailable("the POP has no world yet")
	}
	r, ok := v.World.Region(id)
	if !ok {
		return netip.AddrPort{}, "", unavailable("world %d has no region %s", v.World.Version, id)
	}
	addr, ok := r.Serves.Of(s)
	if !ok {
		return netip.AddrPort{}, "", unavailable("region %s does not serve %s", id, s)
	}
	if p.regionTLS[s] == nil && !addr.Addr().IsLoopback() {
		return netip.AddrPort{}, "", region.Errorf(region.Internal, "the POP has no TLS towards region %s, and plain text is for loopback only", id).WithHint("configure TLS")
	}
	return addr, v.World.Zone, nil
}

// named returns the TLS configuration with a service's server name. Every
// connection keeps its configuration, so they share one per name.
func (p *POP) named(s region.Service, zone string) *tls.Config {
	name := string(s) + "." + zone
	if c, ok := p.names.Load(name); ok {
		return c.(*tls.Config)
	}
	c := p.regionTLS[s].Clone()
	c.ServerName = name
	had, _ := p.names.LoadOrStore(name, c)
	return had.(*tls.Config)
}

// proxyHeader spells the PROXY protocol v2 header: the client's address, and the
// POP's ID as a TLV.
func proxyHeader(id region.POPID, c client) ([]byte, error) {
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(c.from), net.TCPAddrFromAddrPort(c.to))
	if err := h.SetTLVs([]proxyproto.TLV{{Type: TLV, Value: []byte(id)}}); err != nil {
		return nil, err
	}
	return h.Format()
}

// probeHeader is the header of a connection that carries no client: a health
// check, as the standard has it.
func probeHeader() ([]byte, error) {
	return (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
}
