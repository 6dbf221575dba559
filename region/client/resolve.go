package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/answer"
)

// How long one way of asking may take before the next one is tried: less for
// somebody who has addresses to try in the meantime, at first.
const (
	lookupTimeout  = 2 * time.Second
	lookupPatience = 500 * time.Millisecond
)

// candidates returns where to connect, best first, and how each was found: by
// HTTPDNS or DNS, then what was known, then what is built in. All are returned,
// because an answer may be wrong in a network that lies about names. The first
// try after a loss asks nobody.
func (c *Client) candidates(failures int, settled bool) ([]netip.AddrPort, map[netip.AddrPort]string) {
	c.mu.Lock()
	known := slices.Clone(c.known)
	c.mu.Unlock()
	from := map[netip.AddrPort]string{}
	var all []netip.AddrPort
	add := func(ends []netip.AddrPort, source string) {
		for _, e := range ends {
			if _, there := from[e]; !there {
				from[e] = source
				all = append(all, e)
			}
		}
	}
	if failures == 0 && settled && len(known) > 0 {
		add(known, "cached")
		return all, from
	}
	patience := lookupTimeout
	if failures == 0 && len(known)+len(c.o.Fallback) > 0 {
		patience = lookupPatience
	}
	ends, source, err := c.resolve(c.ctx, region.Long, patience)
	switch {
	case err == nil:
		c.emit(Event{Kind: Resolved, Source: source, Endpoints: len(ends)})
		add(ends, source)
	case c.ctx.Err() == nil && (c.o.HTTPDNS != "" || c.o.DNS != ""):
		c.o.Logger.Warn("no endpoint by HTTPDNS or DNS; trying what is known and built in", "error", err)
	}
	add(known, "cached")
	c.mu.Lock()
	c.known = slices.Clone(all[:min(len(all), maxKnown)])
	c.mu.Unlock()
	add(c.o.Fallback, "fallback")
	return all, from
}

// Resolve asks HTTPDNS, then DNS, where a service is for this user. It returns
// the endpoints, best first, and which of the two answered.
func (c *Client) Resolve(ctx context.Context, s region.Service) ([]netip.AddrPort, string, error) {
	return c.resolve(ctx, s, lookupTimeout)
}

func (c *Client) resolve(ctx context.Context, s region.Service, each time.Duration) ([]netip.AddrPort, string, error) {
	var firstErr error = region.Errorf(region.Unavailable, "neither HTTPDNS nor DNS is configured")
	if c.o.HTTPDNS != "" {
		ask, cancel := context.WithTimeout(ctx, each)
		a, err := c.httpDNS(ask, s)
		cancel()
		if err == nil {
			return a.addrPorts, "httpdns", nil
		}
		firstErr = err
	}
	if c.o.DNS != "" {
		ask, cancel := context.WithTimeout(ctx, each)
		ends, err := c.dns(ask, s)
		cancel()
		if err == nil {
			return ends, "dns", nil
		}
		if c.o.HTTPDNS == "" {
			firstErr = err
		}
	}
	return nil, "", firstErr
}

// found is what HTTPDNS says.
type found struct {
	Host      string   `json:"host"`
	Endpoints []string `json:"endpoints"`
	TTL       uint32   `json:"ttl"`
	World     uint64   `json:"world"`

	addrPorts []netip.AddrPort
}

func (c *Client) httpDNS(ctx context.Context, s region.Service) (*found, error) {
	q := url.Values{
		"host": {string(s) + "." + c.o.Zone}, "uin": {c.o.Identity.UIN.String()},
		"ver": {strconv.FormatUint(uint64(c.o.ClientVersion), 10)}, "platform": {c.o.Platform},
	}
	if c.o.PretendIP.IsValid() {
		q.Set("ip", c.o.PretendIP.String())
	}
	if c.o.AnswerKeys != nil {
		q.Set(answer.Nonce, rand.Text())
	}
	u := strings.TrimRight(c.o.HTTPDNS, "/") + "/d?" + q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	h := c.httpClient(nil)
	defer h.CloseIdleConnections()
	resp, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTPDNS answered %s: %.200s", resp.Status, b)
	}
	if c.o.AnswerKeys != nil {
		if err := answer.Verify(c.o.AnswerKeys, resp.Header.Get(answer.Header), req.URL.RequestURI(), b, time.Now()); err != nil {
			return nil, fmt.Errorf("HTTPDNS at %s: %w", c.o.HTTPDNS, err)
		}
	}
	a := new(found)
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("HTTPDNS answered no JSON: %w", err)
	}
	c.heardOf(a.World)
	if a.addrPorts = parseEndpoints(a.Endpoints); len(a.addrPorts) == 0 {
		return nil, fmt.Errorf("HTTPDNS knows no endpoint of %s", a.Host)
	}
	return a, nil
}

func (c *Client) dns(ctx context.Context, s region.Service) ([]netip.AddrPort, error) {
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return c.o.Dial(ctx, network, c.o.DNS)
	}}
	name := fmt.Sprintf("u-%d.v-%d.%s.%s.", c.o.Identity.UIN, c.o.ClientVersion, s, c.o.Zone)
	var ends []netip.AddrPort
	if _, srv, err := r.LookupSRV(ctx, "", "", name); err == nil {
		for _, t := range srv {
			ips, err := r.LookupNetIP(ctx, "ip", t.Target)
			if err != nil {
				continue
			}
			for _, ip := range ips {
				ends = append(ends, netip.AddrPortFrom(ip.Unmap(), t.Port))
			}
		}
	}
	if len(ends) > 0 {
		return ends, nil
	}
	ips, err := r.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		ends = append(ends, netip.AddrPortFrom(ip.Unmap(), c.o.Port))
	}
	return ends, nil
}

func parseEndpoints(texts []string) []netip.AddrPort {
	var ends []netip.AddrPort
	for _, t := range texts {
		if a, err := netip.ParseAddrPort(t); err == nil && !slices.Contains(ends, a) {
			ends = append(ends, a)
		}
	}
	return ends
}
