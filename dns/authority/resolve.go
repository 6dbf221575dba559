package authority

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// resolved is the JSON that public DNS-over-HTTPS resolvers answer /resolve with.
type resolved struct {
	Status    int
	TC        bool
	RD        bool
	RA        bool
	AD        bool
	CD        bool
	Question  []jsonQuestion
	Answer    []jsonRecord `json:",omitempty"`
	Authority []jsonRecord `json:",omitempty"`
	Subnet    string       `json:"edns_client_subnet,omitempty"` // network/scope
}

type jsonQuestion struct {
	Name string `json:"name"`
	Type uint16 `json:"type"`
}

type jsonRecord struct {
	Name string `json:"name"`
	Type uint16 `json:"type"`
	TTL  uint32
	Data string `json:"data"`
}

// resolve serves /resolve: the question becomes a packet and takes the same way
// as every other packet.
func (s *Server) resolve(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("name")
	if name == "" && r.URL.Query().Has("host") {
		s.many(w, r)
		return
	}
	if s.o.SignedOnly {
		s.fail(w, unsigned())
		return
	}
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		s.fail(w, badParameter("name", name, "a domain name"))
		return
	}
	qtype, ok := recordType(r.FormValue("type"))
	if !ok {
		s.fail(w, badParameter("type", r.FormValue("type"), "a record type such as A, AAAA, SRV or a number"))
		return
	}
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	peer, err := netip.ParseAddr(host)
	if err != nil {
		s.fail(w, region.Errorf(region.Internal, "the peer's address %q is none", host))
		return
	}
	if text := r.FormValue("edns_client_subnet"); text != "" {
		prefix, err := clientNetwork(text, "")
		if err != nil {
			s.fail(w, badParameter("edns_client_subnet", text, "an address or a network"))
			return
		}
		sub := subnet{family: familyIPv4, source: uint8(prefix.Bits()), prefix: prefix}
		if prefix.Addr().Is6() {
			sub.family = familyIPv6
		}
		m.SetEdns0(maxUDP, false)
		m.IsEdns0().Option = []dns.EDNS0{sub.option(0)}
	}
	packet, err := m.Pack()
	if err != nil {
		s.fail(w, badParameter("name", name, "a domain name"))
		return
	}
	var answer dns.Msg
	told, err := toldBy(r.Form)
	if err != nil {
		s.fail(w, err)
		return
	}
	if err := answer.Unpack(s.respondTold(packet, peer, overHTTP, told)); err != nil {
		s.fail(w, region.Errorf(region.Internal, "the answer cannot be read").WithCause(err))
		return
	}
	out := resolved{
		Status: answer.Rcode, TC: answer.Truncated, RD: answer.RecursionDesired, CD: answer.CheckingDisabled,
		Question: []jsonQuestion{{Name: m.Question[0].Name, Type: qtype}},
		Answer:   jsonRecords(answer.Answer), Authority: jsonRecords(answer.Ns),
	}
	if opt := answer.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_SUBNET); ok {
				out.Subnet = e.String()
			}
		}
	}
	s.writeJSON(w, http.StatusOK, out)
}

// recordType reads a type by name or number; nothing is A.
func recordType(text string) (uint16, bool) {
	if text == "" {
		return dns.TypeA, true
	}
	if t, ok := dns.StringToType[strings.ToUpper(text)]; ok {
		return t, true
	}
	n, ok := number(text, 16)
	return uint16(n), ok
}

func jsonRecords(records []dns.RR) []jsonRecord {
	var out []jsonRecord
	for _, rr := range records {
		h := rr.Header()
		out = append(out, jsonRecord{Name: h.Name, Type: h.Rrtype, TTL: h.Ttl, Data: strings.TrimPrefix(rr.String(), h.String())})
	}
	return out
}
