package authority

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/answer"
)

// Reply is the answer of /d, and of /resolve for each host or client.
type Reply struct {
	Host      string           `json:"host"`
	ClientIP  string           `json:"client_ip"`       // the address or network that was answered for
	IPs       []netip.Addr     `json:"ips"`             // different addresses, in order of preference; IPv4 ones where the question has "query"
	IPv6      []netip.Addr     `json:"ipsv6,omitempty"` // IPv6 ones, where the question has "query"
	OriginTTL uint32           `json:"origin_ttl"`      // seconds, the same as TTL: nothing here is cached
	Hints     []Hint           `json:"hints,omitempty"` // where to connect, as SVCB records say it
	Endpoints []netip.AddrPort `json:"endpoints"`       // in order of preference
	POPs      []region.POPID   `json:"pops"`            // those of the endpoints that are POPs
	Home      region.ID        `json:"home"`
	Acting    region.ID        `json:"acting"`
	TTL       uint32           `json:"ttl"`   // seconds
	Scope     string           `json:"scope"` // network the answer holds for; empty when no address was known
	Rule      string           `json:"rule"`
	World     uint64           `json:"world"` // version
}

// Hint is an endpoint in the terms of an SVCB record (RFC 9460): the priority
// keeps the order of preference, the addresses are those of the target.
type Hint struct {
	Priority uint16       `json:"priority"`
	Target   string       `json:"target"`
	Port     uint16       `json:"port"`
	IPv4     []netip.Addr `json:"ipv4hint,omitempty"`
	IPv6     []netip.Addr `json:"ipv6hint,omitempty"`
}

// Explanation is the answer of /explain.
type Explanation struct {
	World  uint64       `json:"world"`
	Client Asked        `json:"client"`
	Answer steer.Answer `json:"answer"`
	Scope  string       `json:"scope"`
	Text   string       `json:"text"`
}

// Asked is the client of an [Explanation].
type Asked struct {
	Service  region.Service `json:"service"`
	UIN      region.UIN     `json:"uin,omitempty"`
	Version  uint32         `json:"ver,omitempty"`
	Platform string         `json:"platform,omitempty"`
	Prefix   netip.Prefix   `json:"prefix"`
	Network  netip.Prefix   `json:"network"` // that the facts are about
	Known    bool           `json:"known"`
	Place    region.Place   `json:"place"`
	ASN      uint32         `json:"asn,omitempty"`
}

// Handler serves HTTPDNS and DoH, for mounting it elsewhere.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /d", s.direct)
	mux.HandleFunc("GET /resolve", s.resolve)
	mux.HandleFunc("GET /explain", s.explain)
	mux.HandleFunc("GET /dns-query", s.doh)
	mux.HandleFunc("POST /dns-query", s.doh)
	s.handleProviders(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/d" || r.Method != http.MethodGet || !s.quick(w, r) {
			mux.ServeHTTP(w, r)
		}
	})
}

// direct serves /d.
func (s *Server) direct(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("dn") {
		s.plainText(w, r)
		return
	}
	if s.o.SignedOnly {
		s.fail(w, unsigned())
		return
	}
	v := s.o.View()
	if v == nil {
		s.fail(w, noWorld())
		return
	}
	ask, err := s.asked(v, r)
	if err != nil {
		s.fail(w, err)
		return
	}
	reply := s.steerReply(v, ask)
	w.Header().Set("Cache-Control", caching(reply.TTL))
	s.writeSigned(w, r, reply.Acting, reply)
}

// steerReply answers for a steered name.
func (s *Server) steerReply(v *region.View, ask ask) Reply {
	s.note(target{service: ask.client.Service, uin: ask.client.UIN, version: ask.client.Version}, ask.client.Prefix)
	a := steer.Decide(v, s.o.Health(), ask.client)
	s.countSteered(a)
	s.observeHTTP(ask, a)
	return replyOf(v, ask.host, ask.client.Prefix, ask.families, &a)
}

// replyOf says what was decided for a client; want is nil for addresses of both
// families in one list.
func replyOf(v *region.View, host string, client netip.Prefix, want *families, a *steer.Answer) Reply {
	reply := Reply{
		Host: host, ClientIP: clientText(client), IPs: addrsOf(a.Endpoints), Endpoints: []netip.AddrPort{}, POPs: []region.POPID{},
		Home: a.Home, Acting: a.Acting, TTL: a.TTL, OriginTTL: a.TTL, Scope: network(client, a.Scope), Rule: a.Rule, World: v.World.Version,
	}
	if want != nil {
		reply.IPs, reply.IPv6 = want.split(reply.IPs)
	}
	for i, e := range a.Endpoints {
		if e.Address.Port() != 0 { // a name of a stand-alone server need not say one
			reply.Endpoints = append(reply.Endpoints, e.Address)
		}
		if e.POP != "" {
			reply.POPs = append(reply.POPs, e.POP)
		}
		hint := Hint{Priority: uint16(i + 1), Target: hostOf(e, dns.Fqdn(v.World.Zone)), Port: e.Address.Port()}
		for _, addr := range addrsOf(a.Endpoints[i : i+1]) {
			if addr.Is4() {
				hint.IPv4 = append(hint.IPv4, addr)
			} else {
				hint.IPv6 = append(hint.IPv6, addr)
			}
		}
		reply.Hints = append(reply.Hints, hint)
	}
	return reply
}

// explain serves /explain.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	v := s.o.View()
	if v == nil {
		s.fail(w, noWorld())
		return
	}
	ask, err := s.asked(v, r)
	if err != nil {
		s.fail(w, err)
		return
	}
	c := ask.client
	a := steer.Steer(v, s.o.Health(), c)
	switch r.FormValue("format") {
	case "text":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(a.Text()))
	case "", "json":
		s.write(w, http.StatusOK, Explanation{
			World: v.World.Version,
			Client: Asked{
				Service: c.Service, UIN: c.UIN, Version: c.Version, Platform: c.Platform, Prefix: c.Prefix,
				Network: c.Facts.Prefix, Known: c.Facts.Known, Place: c.Facts.Place, ASN: c.Facts.ASN,
			},
			Answer: a, Scope: network(c.Prefix, a.Scope), Text: a.Text(),
		})
	default:
		s.fail(w, badParameter("format", r.FormValue("format"), "json or text"))
	}
}

type ask struct {
	host     string
	client   steer.Client
	families *families // nil: both, in one list
}

// asked reads the parameters of /d and /explain.
func (s *Server) asked(v *region.View, r *http.Request) (ask, error) {
	p, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return ask{}, region.Errorf(region.BadInput, "the query string is malformed").WithHint("escape the parameters' values")
	}
	host := p.Get("host")
	if host == "" {
		service := p.Get("service")
		if service == "" {
			if r.URL.Path != "/explain" {
				return ask{}, badParameter("host", "", "such as "+string(v.World.Services()[0])+"."+v.World.Zone)
			}
			service = string(v.World.Services()[0])
		}
		host = service + "." + v.World.Zone
	}
	t := find(v.World, strings.Split(strings.ToLower(strings.TrimSuffix(host, ".")), "."))
	if t.kind != steered {
		return ask{}, badParameter("host", host, steeredNames(v.World)+" in zone "+v.World.Zone)
	}
	if err := mergeNumber(p, "uin", 64, (*uint64)(&t.uin)); err != nil {
		return ask{}, err
	}
	version := uint64(t.version)
	if err := mergeNumber(p, "ver", 32, &version); err != nil {
		return ask{}, err
	}
	t.version = uint32(version)
	prefix, err := clientNetwork(p.Get("ip"), r.RemoteAddr)
	if err != nil {
		return ask{}, err
	}
	out := ask{host: host, client: s.client(t, prefix, p.Get("platform"))}
	if p.Has("query") {
		if out.families, err = parseFamilies(p.Get("query")); err != nil {
			return ask{}, err
		}
	}
	return out, nil
}

// steeredNames lists the labels of steered names, for people.
func steeredNames(w *region.World) string {
	all := w.Services()
	names := make([]string, min(len(all), 8))
	for i := range names {
		names[i] = string(all[i])
	}
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// mergeNumber reads a parameter into n, where the host name may have put a
// number already.
func mergeNumber(p url.Values, name string, bits int, n *uint64) error {
	text := p.Get(name)
	if text == "" {
		return nil
	}
	value, ok := number(text, bits)
	if !ok {
		return badParameter(name, text, "a decimal number from 1, without leading zeros")
	}
	if *n != 0 && *n != value {
		return badParameter(name, text, "what the host name says, "+strconv.FormatUint(*n, 10))
	}
	*n = value
	return nil
}

// clientNetwork reads an address or network; the peer's address is the default.
func clientNetwork(text, peer string) (netip.Prefix, error) {
	if text == "" {
		host, _, _ := net.SplitHostPort(peer)
		text = host
	}
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked(), nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, badParameter("ip", text, "an address such as 223.5.5.5, or a network such as 223.5.5.0/24")
	}
	return whole(addr), nil
}

// network is the part of a client's address that an answer holds for.
func network(client netip.Prefix, scope uint8) string {
	if !client.IsValid() {
		return ""
	}
	p, err := client.Addr().Unmap().Prefix(int(scope))
	if err != nil {
		return ""
	}
	return p.String()
}

func badParameter(name, value, want string) error {
	return region.Errorf(region.BadInput, "parameter %s=%q", name, shorten(value)).WithHint("want %s", want)
}

func noWorld() error {
	return region.Errorf(region.Unavailable, "this DNS node has no world yet").WithHint("ask another node, or again soon")
}

// shorten keeps an error from echoing megabytes.
func shorten(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

// problem is the JSON of an error.
type problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint"`
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	status := http.StatusServiceUnavailable
	switch region.KindOf(err) {
	case region.BadInput:
		status = http.StatusBadRequest
		s.metrics.badRequests.Inc()
	case region.Forbidden, region.Unauthenticated:
		status = http.StatusForbidden
		s.metrics.badRequests.Inc()
	}
	p := problem{Error: err.Error()}
	if e, ok := err.(*region.Error); ok {
		p = problem{Error: e.Message, Hint: e.Hint}
	}
	s.write(w, status, p)
}

// write answers and counts it; /resolve counts in respond.
func (s *Server) write(w http.ResponseWriter, status int, body any) {
	rcode := dns.RcodeSuccess
	switch status {
	case http.StatusBadRequest:
		rcode = dns.RcodeFormatError
	case http.StatusForbidden:
		rcode = dns.RcodeRefused
	case http.StatusServiceUnavailable:
		rcode = dns.RcodeServerFailure
	}
	s.metrics.responses.WithLabelValues(string(overHTTP), rcodeName(rcode)).Inc()
	s.writeJSON(w, status, body)
}

// writeSigned answers like write, with a signature for who asks for one: by the
// region that acts for the client, when the node has its grant.
func (s *Server) writeSigned(w http.ResponseWriter, r *http.Request, acting region.ID, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		s.fail(w, region.Errorf(region.Internal, "the answer cannot be written").WithCause(err))
		return
	}
	raw = append(raw, '\n')
	if s.o.Sign != nil && r.URL.Query().Has(answer.Nonce) {
		if value := s.o.Sign(acting, r.RequestURI, raw); value != "" {
			w.Header().Set(answer.Header, value)
		}
	}
	s.metrics.responses.WithLabelValues(string(overHTTP), rcodeName(dns.RcodeSuccess)).Inc()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if _, err := w.Write(raw); err != nil {
		s.log.Debug("HTTPDNS client left", "err", err)
	}
}

func (s *Server) writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.log.Debug("HTTPDNS client left", "err", err)
	}
}
