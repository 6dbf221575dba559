package authority

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/authority/static"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// TransferKey is a shared secret that transfers and notifications are signed
// with (TSIG, RFC 8945): HMAC-SHA-256.
type TransferKey struct {
	Name   string // a domain name, known to both sides
	Secret []byte
}

const (
	tsigAlgorithm = dns.HmacSHA256
	tsigFudge     = 300 // seconds that clocks may differ (RFC 8945 section 10)

	// transferSize is the size that messages of a transfer are filled to, in
	// bytes; compression works within the first 16 KiB of a message only.
	transferSize = 16 << 10
)

// transfers says whether a message asks for a zone transfer, which only
// connections carry.
func transfers(packet []byte) bool {
	q, verdict, _, _ := parse(packet)
	return verdict == serve && q.asked && (q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR)
}

// transfer answers one request for a zone transfer (AXFR, RFC 5936; IXFR,
// RFC 1995, with the whole zone or, for who has it already, its SOA alone). Who
// asks has to sign with one of the keys. The error is that of the connection.
func (s *Server) transfer(conn net.Conn, packet []byte, via transport) error {
	req := new(dns.Msg)
	if err := req.Unpack(packet); err != nil {
		return err
	}
	reply := new(dns.Msg)
	reply.SetReply(req)
	reply.RecursionDesired = false
	refuse := func(rcode int, ede uint16) error {
		reply.Rcode = rcode
		if req.IsEdns0() != nil {
			reply.SetEdns0(maxUDP, false)
			reply.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: ede}}
		}
		s.metrics.responses.WithLabelValues(string(via), rcodeName(rcode)).Inc()
		return writeMessage(conn, reply, nil)
	}
	t := req.IsTsig()
	if t == nil {
		return refuse(dns.RcodeRefused, dns.ExtendedErrorCodeProhibited)
	}
	key := s.transferKey(t.Hdr.Name)
	if key == nil || dns.CanonicalName(t.Algorithm) != tsigAlgorithm || dns.TsigVerify(packet, key.secret(), "", false) != nil {
		return refuse(dns.RcodeNotAuth, dns.ExtendedErrorCodeProhibited)
	}
	name := req.Question[0].Name
	records, err := s.wholeZone(name)
	if err != nil {
		s.log.Error("a zone cannot be transferred", "zone", name, "err", err)
		return refuse(dns.RcodeServerFailure, dns.ExtendedErrorCodeOther)
	}
	if req.Question[0].Qclass != dns.ClassINET || len(records) == 0 {
		return refuse(dns.RcodeNotAuth, dns.ExtendedErrorCodeNotAuthoritative)
	}
	s.metrics.responses.WithLabelValues(string(via), rcodeName(dns.RcodeSuccess)).Inc()
	if current := records[0].(*dns.SOA).Serial; req.Question[0].Qtype == dns.TypeIXFR && !older(serialOf(req), current) {
		records = records[:1]
	} else {
		records = append(records, records[0])
	}
	signing := &signature{key: key, mac: t.MAC}
	for len(records) > 0 {
		m := new(dns.Msg)
		m.SetReply(req)
		m.RecursionDesired = false
		m.Authoritative, m.Compress = true, true
		size := 0
		for size < transferSize && len(m.Answer) < len(records) {
			size += dns.Len(records[len(m.Answer)])
			m.Answer = records[:len(m.Answer)+1]
		}
		records = records[len(m.Answer):]
		if err := conn.SetDeadline(time.Now().Add(idleTimeout)); err != nil {
			return err
		}
		if err := writeMessage(conn, m, signing); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) transferKey(name string) *TransferKey {
	i := slices.IndexFunc(s.o.TransferKeys, func(k TransferKey) bool { return dns.CanonicalName(k.Name) == dns.CanonicalName(name) })
	if i < 0 {
		return nil
	}
	return &s.o.TransferKeys[i]
}

func (k *TransferKey) secret() string { return base64.StdEncoding.EncodeToString(k.Secret) }

// signature signs a sequence of messages, each with the one before in it.
type signature struct {
	key  *TransferKey
	mac  string // of the request, then of the message before
	more bool
}

// writeMessage sends a message with its length; a nil signature sends it unsigned.
func writeMessage(conn net.Conn, m *dns.Msg, s *signature) error {
	var packed []byte
	var err error
	if s == nil {
		packed, err = m.Pack()
	} else {
		m.SetTsig(dns.CanonicalName(s.key.Name), tsigAlgorithm, tsigFudge, time.Now().Unix())
		packed, s.mac, err = dns.TsigGenerate(m, s.key.secret(), s.mac, s.more)
		s.more = true
	}
	if err != nil {
		return err
	}
	if len(packed) > maxMessage {
		return errors.New("a message of a transfer is too long")
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(packed)), uint16(len(packed))), packed...))
	return err
}

// serialOf is the serial that who asks for an IXFR has, 0 when it does not say.
func serialOf(m *dns.Msg) uint32 {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa.Serial
		}
	}
	return 0
}

// older compares serials (RFC 1982).
func older(a, b uint32) bool { return a != b && b-a < 1<<31 }

// wholeZone lists the records of a zone, the SOA first; none when it is not
// ours. Steered names are given with what a client is told of whom nothing is
// known; those with UIN and version are a wildcard below the service's.
func (s *Server) wholeZone(name string) ([]dns.RR, error) {
	var file *static.Zone
	if s.o.Static != nil {
		file = s.o.Static().Find(name, dns.TypeSOA)
	}
	if file != nil && file.Origin != dns.CanonicalName(name) {
		file = nil
	}
	v := s.o.View()
	if v == nil || dns.CanonicalName(v.World.Zone) != dns.CanonicalName(name) {
		if file == nil {
			return nil, nil
		}
		return file.Records(), nil
	}
	z := zone{world: v.World, name: dns.CanonicalName(name), serial: s.serial(v.World)}
	m := new(dns.Msg)
	z.apex(m, &query{name: z.name, qtype: dns.TypeNS})
	out := append([]dns.RR{z.soa()}, m.Answer...)
	for i, node := range v.World.DNS {
		out = append(out, bothFamilies(z.ns(i), zoneTTL, nodeAddrs(node))...)
	}
	for i := range v.World.POPs {
		p := &v.World.POPs[i]
		out = append(out, bothFamilies(string(p.ID)+".pop."+z.name, z.ttl(), hostAddrs(p.Serves))...)
	}
	for i := range v.World.Regions {
		r := &v.World.Regions[i]
		out = append(out, bothFamilies(string(r.ID)+".region."+z.name, z.ttl(), hostAddrs(r.Serves))...)
	}
	for _, service := range v.World.Services() {
		a := steer.Decide(v, s.o.Health(), steer.Client{Service: service})
		names := []string{string(service) + "." + z.name}
		if len(v.World.Names) == 0 { // a stand-alone server knows nobody's UIN
			names = append(names, "*."+names[0])
		}
		for _, name := range names {
			out = append(out, bothFamilies(name, a.TTL, addrsOf(a.Endpoints))...)
			m := new(dns.Msg)
			z.services(m, name, a)
			for _, qtype := range steeredTypes(service) {
				if qtype == dns.TypeSVCB || qtype == dns.TypeHTTPS {
					z.bindings(m, name, qtype, a)
				}
			}
			out = append(out, m.Answer...)
		}
	}
	out = append(out, s.fromFileBesides(file, v.World)...)
	if signer := s.signer.Load(); signer != nil {
		return signer.signZone(out, &z)
	}
	return out, nil
}

// fromFileBesides are the records of the zone's file that answers are made of.
func (s *Server) fromFileBesides(file *static.Zone, w *region.World) []dns.RR {
	if file == nil {
		return nil
	}
	var out []dns.RR
	for _, rr := range file.Records() {
		switch t := find(w, labelsOf(rr.Header().Name)); t.kind {
		case apex:
			if inFile(rr.Header().Rrtype, s.signer.Load() != nil) {
				out = append(out, rr)
			}
		case missing, empty:
			out = append(out, rr)
		}
	}
	return out
}

// serials are the serials of all zones, by name.
func (s *Server) serials() map[string]uint32 {
	out := map[string]uint32{}
	if s.o.Static != nil {
		for _, z := range s.o.Static().All() {
			out[z.Origin] = z.Serial()
		}
	}
	if v := s.o.View(); v != nil {
		out[dns.CanonicalName(v.World.Zone)] = s.serial(v.World)
	}
	return out
}

// addrPorts reads the addresses of secondaries.
func addrPorts(list []string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, text := range list {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, region.Errorf(region.BadInput, "secondary %q", text).WithCause(err).WithHint("write IP:port, such as 192.0.2.53:53")
		}
		out = append(out, a)
	}
	return out, nil
}
