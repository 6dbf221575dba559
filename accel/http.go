package accel

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// Headers between client, POP and region.
const (
	HeaderUIN = "Homing-Uin" // from the client: decimal UIN, for routing only
	HeaderPOP = "Homing-Pop" // to the region: the POP's ID
)

// route is where a request goes; it travels in the request's context from the
// handler to the proxy.
type route struct {
	service region.Service
	region  region.ID
	url     *url.URL
}

type routeKey struct{}

// serveHTTP starts the server of the short or the web listener, if it is open.
func (p *POP) serveHTTP(s region.Service) {
	l := p.listeners[s]
	if l == nil {
		return
	}
	transport := p.newTransport(s)
	p.transports = append(p.transports, transport)
	proxy := &httputil.ReverseProxy{
		Rewrite:       p.rewrite,
		Transport:     transport,
		FlushInterval: -1, // long polls and streams wait for nobody
		ErrorHandler:  p.proxyFailed,
		ErrorLog:      slog.NewLogLogger(p.o.Logger.Handler(), slog.LevelDebug),
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	srv := &http.Server{
		Handler:           p.routed(s, proxy),
		TLSConfig:         p.o.WebTLS.Clone(), // nil stays nil; the server writes into it
		Protocols:         &protocols,
		ReadHeaderTimeout: p.o.Handshake,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		// A request ends with the POP; a WebSocket, too, which the server itself
		// forgets once it is hijacked.
		BaseContext: func(net.Listener) context.Context { return p.ctx },
		ErrorLog:    slog.NewLogLogger(p.o.Logger.Handler(), slog.LevelDebug),
	}
	p.servers = append(p.servers, srv)
	in := &limited{Listener: l, p: p, service: s}
	p.wg.Go(func() {
		var err error
		if p.o.WebTLS != nil {
			err = srv.ServeTLS(in, "", "")
		} else {
			err = srv.Serve(in)
		}
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			p.o.Logger.Error("listener failed", "listener", s, "error", err)
		}
	})
}

// newTransport makes the way to the regions' listeners of a service. Each has its
// own, because the TLS server name differs.
func (p *POP) newTransport(s region.Service) *http.Transport {
	return &http.Transport{
		DialContext: p.dialer.DialContext,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			v := p.o.World.View()
			if v == nil {
				return nil, unavailable("the POP has no world yet")
			}
			d := tls.Dialer{NetDialer: &p.dialer, Config: p.named(s, v.World.Zone)}
			return d.DialContext(ctx, network, addr)
		},
		ForceAttemptHTTP2:   s == region.Short,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true, // bodies pass as they are
	}
}

// routed finds the region of a request and hands it to the proxy.
func (p *POP) routed(s region.Service, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.begin() {
			p.refuseHTTP(w, r, unavailable("the POP is closing"))
			return
		}
		defer p.wg.Done()
		if r.ContentLength > MaxRequest {
			p.refuseHTTP(w, r, region.Errorf(region.TooLarge, "the body has %d bytes, at most %d are allowed", r.ContentLength, MaxRequest))
			return
		}
		to, err := p.routeOf(r)
		if err != nil {
			p.refuseHTTP(w, r, err)
			return
		}
		addr, _, err := p.addressOf(to, s)
		if err != nil {
			p.refuseHTTP(w, r, err)
			return
		}
		u := &url.URL{Scheme: "http", Host: addr.String()}
		if p.regionTLS[s] != nil {
			u.Scheme = "https"
		}
		p.m.requests.WithLabelValues(string(s), string(to)).Inc()
		if r.ContentLength != 0 {
			r.Body = newBody(w, r.Body, p.o.Handshake)
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), routeKey{}, route{s, to, u})))
	})
}

// routeOf returns the region a request is for. What it reads is not verified:
// a wrong UIN leads to a region that refuses or redirects.
func (p *POP) routeOf(r *http.Request) (region.ID, error) {
	text := cmp.Or(r.Header.Get(HeaderUIN), r.URL.Query().Get("uin"))
	if text == "" {
		text = subjectOf(r.Header.Get("Authorization"))
	}
	if text == "" {
		return p.nearest()
	}
	u, err := region.ParseUIN(text)
	if err != nil {
		return "", region.Errorf(region.BadInput, "%v", err).WithHint("set %s to the UIN the request is for", HeaderUIN)
	}
	return p.Choose(u)
}

// subjectOf returns the sub claim of a PASETO v4.public ticket without looking
// at its signature; "" when there is none.
func subjectOf(authorization string) string {
	const maxTicket = 1024
	token, ok := strings.CutPrefix(authorization, wire.AuthorizationScheme+" ")
	if !ok || len(token) > maxTicket {
		return ""
	}
	token, ok = strings.CutPrefix(strings.TrimSpace(token), "v4.public.")
	if !ok {
		return ""
	}
	body, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(body)
	const signature = 64
	if err != nil || len(b) < signature {
		return ""
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(b[:len(b)-signature], &claims) != nil {
		return ""
	}
	return claims.Subject
}

// body is a request's body, limited in size and in time. The server's own
// ReadTimeout would go on after the body and cut off long polls.
type body struct {
	io.ReadCloser
	done func()
}

func newBody(w http.ResponseWriter, b io.ReadCloser, limit time.Duration) *body {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(limit)) // every connection of net/http can
	return &body{
		ReadCloser: http.MaxBytesReader(w, b, MaxRequest),
		done:       sync.OnceFunc(func() { _ = c.SetReadDeadline(time.Time{}) }),
	}
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.done()
	}
	return n, err
}

func (p *POP) rewrite(r *httputil.ProxyRequest) {
	to, _ := r.In.Context().Value(routeKey{}).(route)
	r.SetURL(to.url)
	r.Out.Host = r.In.Host
	r.SetXForwarded() // Rewrite has dropped what the client said about itself
	r.Out.Header.Set(HeaderPOP, string(p.o.ID))
}

func (p *POP) proxyFailed(w http.ResponseWriter, r *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		p.refuseHTTP(w, r, region.Errorf(region.TooLarge, "the body is over %d bytes", MaxRequest))
		return
	}
	if r.Context().Err() == nil {
		to, _ := r.Context().Value(routeKey{}).(route)
		p.m.upstreamFailed.WithLabelValues(string(to.region)).Inc()
		p.o.Logger.Warn("request did not reach its region", "region", to.region, "error", err)
	}
	p.refuseHTTP(w, r, unavailable("the region that serves the request cannot be reached"))
}

// refuseHTTP answers with an error as a region would.
func (p *POP) refuseHTTP(w http.ResponseWriter, r *http.Request, err error) {
	p.m.rejected.WithLabelValues("http-" + region.KindOf(err).String()).Inc()
	var version uint64
	if v := p.o.World.View(); v != nil {
		version = v.World.Version
	}
	wire.Refuse(w, r, err, version)
}
