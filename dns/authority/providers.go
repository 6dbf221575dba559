package authority

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// The forms of HTTPDNS that the common providers have made usual, so that their
// clients work when they are pointed here. Any name of any zone can be asked
// for; what is steered carries the fields of [Reply] as well.

const (
	maxBatch = 5 // hosts, or client addresses, in one question of the providers' first form
	maxNames = 16
)

// handleProviders adds the providers' paths. An account stands in front of the
// path in the first form, and in a parameter in the second.
func (s *Server) handleProviders(mux *http.ServeMux) {
	for path, h := range map[string]func(http.ResponseWriter, *http.Request, string){
		"d": s.one, "sign_d": s.one, "resolve": s.batch, "sign_resolve": s.batch,
	} {
		signed := strings.HasPrefix(path, "sign_")
		serve := func(w http.ResponseWriter, r *http.Request) {
			p, account := r.URL.Query(), r.PathValue("account")
			if e := s.admitted(p, account, signed); e != nil {
				s.failCode(w, e)
				return
			}
			h(w, r, account)
		}
		mux.HandleFunc("GET /{account}/"+path, serve)
		if signed {
			mux.HandleFunc("GET /"+path, serve)
		}
	}
	mux.HandleFunc("GET /{account}/ss", s.serviceAddrs)
	mux.HandleFunc("GET /v2/d", s.second)
}

// families are the kinds of address that a question wants.
type families struct{ v4, v6 bool }

// parseFamilies reads "4", "6" or "4,6".
func parseFamilies(text string) (*families, error) {
	f := new(families)
	for _, part := range strings.Split(text, ",") {
		switch strings.TrimSpace(part) {
		case "4":
			f.v4 = true
		case "6":
			f.v6 = true
		default:
			return nil, badParameter("query", text, "4, 6 or 4,6")
		}
	}
	return f, nil
}

// split keeps the addresses of the families that are wanted.
func (f *families) split(all []netip.Addr) (v4, v6 []netip.Addr) {
	v4 = []netip.Addr{}
	for _, a := range all {
		switch {
		case a.Is4() && f.v4:
			v4 = append(v4, a)
		case a.Is6() && f.v6:
			v6 = append(v6, a)
		}
	}
	return v4, v6
}

func (f *families) types() []uint16 {
	var out []uint16
	if f.v4 {
		out = append(out, dns.TypeA)
	}
	if f.v6 {
		out = append(out, dns.TypeAAAA)
	}
	return out
}

// one serves a question about one host.
func (s *Server) one(w http.ResponseWriter, r *http.Request, _ string) {
	p := r.URL.Query()
	if strings.Contains(p.Get("host"), ",") {
		s.failCode(w, &refusal{http.StatusBadRequest, "TooManyHosts", "several hosts in one question", "ask /resolve"})
		return
	}
	reply, e := s.lookup(r, p, p.Get("host"), p.Get("ip"))
	if e != nil {
		s.failCode(w, e)
		return
	}
	s.writeSigned(w, r, reply.Acting, reply)
}

// batch serves a question about several hosts, or for several client addresses.
func (s *Server) batch(w http.ResponseWriter, r *http.Request, _ string) {
	p := r.URL.Query()
	hosts, ips := strings.Split(p.Get("host"), ","), strings.Split(p.Get("ip"), ",")
	if len(hosts) > maxBatch || len(ips) > maxBatch || len(hosts) > 1 && len(ips) > 1 {
		s.failCode(w, &refusal{http.StatusBadRequest, "TooManyHosts", "too many hosts or addresses in one question",
			"ask for " + strconv.Itoa(maxBatch) + " hosts, or for one host and " + strconv.Itoa(maxBatch) + " addresses"})
		return
	}
	var out struct {
		DNS []Reply `json:"dns"`
	}
	acting := region.ID("")
	for _, host := range hosts {
		for _, ip := range ips {
			reply, e := s.lookup(r, p, host, ip)
			if e != nil {
				s.failCode(w, e)
				return
			}
			if acting == "" {
				acting = reply.Acting
			}
			out.DNS = append(out.DNS, *reply)
		}
	}
	s.writeSigned(w, r, acting, out)
}

// many serves /resolve?host=, the batch form without an account.
func (s *Server) many(w http.ResponseWriter, r *http.Request) {
	if s.o.SignedOnly {
		s.fail(w, unsigned())
		return
	}
	s.batch(w, r, "")
}

// lookup answers about one host for one client address.
func (s *Server) lookup(r *http.Request, p url.Values, host, ip string) (*Reply, *refusal) {
	host = strings.TrimSpace(host)
	if host == "" {
		return nil, &refusal{http.StatusBadRequest, "MissingArgument", "no host", "ask with ?host=NAME"}
	}
	if _, ok := dns.IsDomainName(host); !ok {
		return nil, &refusal{http.StatusBadRequest, "InvalidHost", strconv.Quote(shorten(host)) + " is no domain name", "ask with ?host=NAME"}
	}
	want := &families{v4: true}
	if p.Has("query") {
		var err error
		if want, err = parseFamilies(p.Get("query")); err != nil {
			return nil, invalid(err)
		}
	}
	prefix, err := clientNetwork(strings.TrimSpace(ip), r.RemoteAddr)
	if err != nil {
		return nil, invalid(err)
	}
	v := s.o.View()
	if v != nil {
		t := find(v.World, strings.Split(strings.ToLower(strings.TrimSuffix(host, ".")), "."))
		if t.kind == steered {
			uin, version := uint64(t.uin), uint64(t.version)
			if err := mergeNumber(p, parameter(p, "uin"), 64, &uin); err != nil {
				return nil, invalid(err)
			}
			if err := mergeNumber(p, parameter(p, "ver"), 32, &version); err != nil {
				return nil, invalid(err)
			}
			t.uin, t.version = region.UIN(uin), uint32(version)
			reply := s.steerReply(v, ask{host: host, client: s.client(t, prefix, p.Get(parameter(p, "platform"))), families: want})
			return &reply, nil
		}
	}
	return s.lookupPlain(host, prefix, r.RemoteAddr, want)
}

// parameter is the spelling of a parameter of ours that the question has: the
// providers' clients put "sdns-" in front of what they do not know.
func parameter(p url.Values, name string) string {
	if !p.Has(name) && p.Has("sdns-"+name) {
		return "sdns-" + name
	}
	return name
}

// lookupPlain answers from what is not steered, as a DNS question would be.
func (s *Server) lookupPlain(host string, prefix netip.Prefix, peer string, want *families) (*Reply, *refusal) {
	reply := &Reply{Host: host, ClientIP: clientText(prefix), IPs: []netip.Addr{}, Endpoints: []netip.AddrPort{}, POPs: []region.POPID{}, Scope: network(prefix, 0)}
	from, _, _ := net.SplitHostPort(peer)
	addr, err := netip.ParseAddr(from)
	if err != nil {
		addr = prefix.Addr()
	}
	for _, qtype := range want.types() {
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(host), qtype)
		sub := subnet{family: familyIPv4, source: uint8(prefix.Bits()), prefix: prefix}
		if prefix.Addr().Is6() {
			sub.family = familyIPv6
		}
		m.SetEdns0(maxUDP, false)
		m.IsEdns0().Option = []dns.EDNS0{sub.option(0)}
		packet, err := m.Pack()
		if err != nil {
			return nil, &refusal{http.StatusBadRequest, "InvalidHost", strconv.Quote(shorten(host)) + " is no domain name", "ask with ?host=NAME"}
		}
		var got dns.Msg
		if err := got.Unpack(s.respond(packet, addr, within)); err != nil {
			return nil, &refusal{http.StatusInternalServerError, "InternalError", "the answer cannot be read", ""}
		}
		switch got.Rcode {
		case dns.RcodeRefused:
			return nil, &refusal{http.StatusForbidden, "InvalidHost", strconv.Quote(shorten(host)) + " is in no zone of this server", "ask for names of its zones"}
		case dns.RcodeServerFailure:
			return nil, &refusal{http.StatusServiceUnavailable, "ServiceUnavailable", "this DNS node cannot answer now", "ask another node, or again soon"}
		}
		for i, rr := range got.Answer {
			if ttl := rr.Header().Ttl; i == 0 && reply.TTL == 0 || ttl < reply.TTL {
				reply.TTL, reply.OriginTTL = ttl, ttl
			}
			switch rr := rr.(type) {
			case *dns.A:
				if a, ok := netip.AddrFromSlice(rr.A.To4()); ok {
					reply.IPs = append(reply.IPs, a)
				}
			case *dns.AAAA:
				if a, ok := netip.AddrFromSlice(rr.AAAA); ok {
					reply.IPv6 = append(reply.IPv6, a)
				}
			}
		}
	}
	if v := s.o.View(); v != nil {
		reply.World = v.World.Version
	}
	return reply, nil
}

// serviceAddrs serves /{account}/ss, by which clients learn of the other nodes.
func (s *Server) serviceAddrs(w http.ResponseWriter, _ *http.Request) {
	out := struct {
		V4 []string `json:"service_ip"`
		V6 []string `json:"service_ipv6"`
	}{[]string{}, []string{}}
	if s.o.ServiceAddrs != nil {
		for _, a := range s.o.ServiceAddrs() {
			if strings.Count(a, ":") > 1 {
				out.V6 = append(out.V6, a)
			} else {
				out.V4 = append(out.V4, a)
			}
		}
	}
	s.write(w, http.StatusOK, out)
}

// plainText serves /d?dn=: addresses with semicolons between them, and behind a
// comma the TTL when it is asked for. Who has none gets an empty answer.
func (s *Server) plainText(w http.ResponseWriter, r *http.Request) {
	if s.o.SignedOnly {
		s.fail(w, unsigned())
		return
	}
	p := r.URL.Query()
	reply, e := s.lookup(r, p, p.Get("dn"), p.Get("ip"))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if e != nil {
		s.metrics.badRequests.Inc()
		w.WriteHeader(http.StatusOK) // the form knows no errors
		return
	}
	s.metrics.responses.WithLabelValues(string(overHTTP), rcodeName(dns.RcodeSuccess)).Inc()
	var texts []string
	for _, a := range slices.Concat(reply.IPs, reply.IPv6) {
		texts = append(texts, a.String())
	}
	text := strings.Join(texts, ";")
	if p.Get("ttl") == "1" && text != "" {
		text += "," + strconv.FormatUint(uint64(reply.TTL), 10)
	}
	_, _ = w.Write([]byte(text))
}

// clientText is an address, or a network where the question gave one.
func clientText(p netip.Prefix) string {
	if p.IsValid() && p.Bits() == p.Addr().BitLen() {
		return p.Addr().String()
	}
	return p.String()
}
