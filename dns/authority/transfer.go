package authority

import (
	"bytes"
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

// transferred says what a transfer consisted of, for metrics.
type transferred string

const (
	transferredNothing transferred = "nothing" // but the SOA: who asked has the newest version
	transferredChanges transferred = "changes"
	transferredZone    transferred = "zone"
)

// transfers says whether a message asks for a zone transfer, which only
// connections carry; but see [Server.transferUDP].
func transfers(packet []byte) bool {
	q, verdict, _, _ := parse(packet)
	return verdict == serve && q.asked && (q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR)
}

// grant is a transfer that may take place.
type grant struct {
	req     *dns.Msg
	signing *signature
	records []dns.RR
	what    transferred
}

// grant looks at a request for a transfer (AXFR, RFC 5936; IXFR, RFC 1995). Who
// asks has to sign with one of the keys; else there is a rcode and an extended error.
func (s *Server) grant(req *dns.Msg, packet []byte) (g grant, rcode int, ede uint16) {
	t := req.IsTsig()
	if t == nil {
		return g, dns.RcodeRefused, dns.ExtendedErrorCodeProhibited
	}
	key := s.transferKey(t.Hdr.Name)
	if key == nil || dns.CanonicalName(t.Algorithm) != tsigAlgorithm ||
		dns.TsigVerify(bytes.Clone(packet), key.secret(), "", false) != nil { // which changes the packet
		return g, dns.RcodeNotAuth, dns.ExtendedErrorCodeProhibited
	}
	name := req.Question[0].Name
	h, err := s.history(name)
	if err != nil {
		s.log.Error("a zone cannot be transferred", "zone", name, "err", err)
		return g, dns.RcodeServerFailure, dns.ExtendedErrorCodeOther
	}
	if req.Question[0].Qclass != dns.ClassINET || h.newest == nil {
		return g, dns.RcodeNotAuth, dns.ExtendedErrorCodeNotAuthoritative
	}
	g = grant{req: req, signing: &signature{key: key, mac: t.MAC}}
	if req.Question[0].Qtype == dns.TypeIXFR {
		g.records, g.what = h.since(serialOf(req))
	} else {
		g.records, g.what = h.whole(), transferredZone
	}
	return g, dns.RcodeSuccess, 0
}

// message is one of a transfer, with some of its records.
func (g *grant) message(records []dns.RR) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(g.req)
	m.RecursionDesired = false
	m.Authoritative, m.Compress = true, true
	m.Answer = records
	return m
}

// transfer answers one request for a zone transfer on a connection. The error is
// that of the connection.
func (s *Server) transfer(conn net.Conn, packet []byte, via transport) error {
	req := new(dns.Msg)
	if err := req.Unpack(packet); err != nil {
		return err
	}
	g, rcode, ede := s.grant(req, packet)
	s.metrics.responses.WithLabelValues(string(via), rcodeName(rcode)).Inc()
	if rcode != dns.RcodeSuccess {
		reply := new(dns.Msg)
		reply.SetRcode(req, rcode)
		reply.RecursionDesired = false
		if req.IsEdns0() != nil {
			reply.SetEdns0(maxUDP, false)
			reply.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: ede}}
		}
		return writeMessage(conn, reply, nil)
	}
	s.metrics.transfers.WithLabelValues(string(g.what)).Inc()
	for records := g.records; len(records) > 0; {
		n, size := 0, 0
		for size < transferSize && n < len(records) {
			size += dns.Len(records[n])
			n++
		}
		m := g.message(records[:n])
		records = records[n:]
		if err := conn.SetDeadline(time.Now().Add(idleTimeout)); err != nil {
			return err
		}
		if err := writeMessage(conn, m, g.signing); err != nil {
			return err
		}
	}
	return nil
}

// transferUDP answers a request for what has changed since a serial that came over
// UDP: where that does not fit one packet, with the newest SOA record, so that who
// asks comes by TCP (RFC 1995 section 2). It returns nil for a request that nobody
// has signed, which is refused like any other.
func (s *Server) transferUDP(packet []byte) []byte {
	req := new(dns.Msg)
	if req.Unpack(packet) != nil || req.IsTsig() == nil {
		return nil
	}
	g, rcode, _ := s.grant(req, packet)
	if rcode != dns.RcodeSuccess {
		return nil
	}
	limit := minUDP
	opt := req.IsEdns0()
	if opt != nil {
		limit = min(max(int(opt.UDPSize()), minUDP), maxUDP)
	}
	for _, records := range [][]dns.RR{g.records, g.records[:1]} {
		m, signing := g.message(records), *g.signing
		if opt != nil {
			m.SetEdns0(maxUDP, false)
		}
		if m.Len() > limit {
			continue
		}
		if out, err := signing.pack(m); err == nil && len(out) <= limit {
			if len(records) < len(g.records) {
				g.what = transferredNothing
			}
			s.metrics.transfers.WithLabelValues(string(g.what)).Inc()
			return out
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

// pack signs the next message of the sequence.
func (s *signature) pack(m *dns.Msg) (packed []byte, err error) {
	m.SetTsig(dns.CanonicalName(s.key.Name), tsigAlgorithm, tsigFudge, time.Now().Unix())
	packed, s.mac, err = dns.TsigGenerate(m, s.key.secret(), s.mac, s.more)
	s.more = true
	return packed, err
}

// writeMessage sends a message with its length; a nil signature sends it unsigned.
func writeMessage(conn net.Conn, m *dns.Msg, s *signature) error {
	var packed []byte
	var err error
	if s == nil {
		packed, err = m.Pack()
	} else {
		packed, err = s.pack(m)
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

// source is what a zone is made of now, and for the world's zone the view; false
// for a zone that is not ours.
func (s *Server) source(name string) (source, *region.View, bool) {
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
			return source{}, nil, false
		}
		return source{file: file, serial: file.Serial()}, nil, true
	}
	return source{world: v.World, file: file, signer: s.signer.Load(), serial: s.serial(v.World)}, v, true
}

// wholeZone lists the records of a zone, the SOA first. Steered names are given with
// what a client is told of whom nothing is known while everything works: what
// secondaries have under one serial has to be the same wherever they had it from, and
// would otherwise be without who happened to be down that minute until the next world.
// Names with UIN and version are a wildcard below the service's.
func (s *Server) wholeZone(name string, of source, v *region.View) ([]dns.RR, error) {
	if v == nil {
		return of.file.Records(), nil
	}
	z := zone{world: v.World, name: name, serial: of.serial}
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
		a := steer.Decide(v, steer.AllUp, steer.Client{Service: service})
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
	out = append(out, fromFileBesides(of, v.World)...)
	if of.signer != nil {
		return of.signer.signZone(out, &z)
	}
	return out, nil
}

// fromFileBesides are the records of the zone's file that answers are made of.
func fromFileBesides(of source, w *region.World) []dns.RR {
	if of.file == nil {
		return nil
	}
	var out []dns.RR
	for _, rr := range of.file.Records() {
		switch t := find(w, labelsOf(rr.Header().Name)); t.kind {
		case apex:
			if inFile(rr.Header().Rrtype, of.signer != nil) {
				out = append(out, rr)
			}
		case missing, empty:
			out = append(out, rr)
		}
	}
	return out
}

// keepHistories notes each version of the zones as it comes, also when no secondary
// asks in time, until the server is closed.
func (s *Server) keepHistories() {
	known := map[string]uint32{}
	look := time.NewTicker(notifyLook)
	defer look.Stop()
	for {
		serials := s.serials()
		for zone, serial := range serials {
			if was, ok := known[zone]; ok && was == serial {
				continue
			}
			if _, err := s.history(zone); err != nil {
				s.log.Error("a zone could not be transferred", "zone", zone, "err", err)
			}
		}
		s.archive.forget(serials)
		known = serials
		select {
		case <-look.C:
		case <-s.stop:
			return
		}
	}
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
