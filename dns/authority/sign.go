package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// signer signs answers when they are asked for (DNSSEC, RFC 4034 and 4035),
// with ECDSA P-256 (RFC 6605). That a name or type does not exist is proved
// without naming any other (RFC 9824).
type signer struct {
	keys []*ecdsa.PrivateKey // the first signs, all sign the keys themselves
	kept int                 // of keys, that the parent is to have; the others retire
	now  func() time.Time

	mu sync.Mutex
	// made holds signatures by what they are of: a hot answer is signed once an hour.
	made map[string]*dns.RRSIG
}

// Times of signatures.
const (
	signEvery  = time.Hour      // they are made anew
	signBefore = time.Hour      // they begin: clocks of validators are late
	signFor    = 48 * time.Hour // they hold
	keyTTL     = 3600           // seconds
)

// maxMade is the number of signatures kept; then all are forgotten.
const maxMade = 1 << 14

// typeNXNAME says in the bitmap of an NSEC that the name does not exist.
const typeNXNAME = 128

func newSigner(keys, retiring []*ecdsa.PrivateKey, now func() time.Time) (*signer, error) {
	kept := len(keys)
	keys = slices.Concat(keys, retiring)
	for _, k := range keys {
		if k == nil || k.Curve != elliptic.P256() {
			return nil, region.Errorf(region.BadInput, "a key of the zone is not ECDSA P-256").
				WithHint("make one with: openssl ecparam -name prime256v1 -genkey -noout")
		}
	}
	if kept == 0 {
		return nil, nil
	}
	return &signer{keys: keys, kept: kept, now: now, made: make(map[string]*dns.RRSIG)}, nil
}

// SetKeys changes the keys of a signed zone while it is served, as
// [Options.Keys] and [Options.Retiring]. Errors are of kind region.BadInput, and
// leave the keys as they were.
func (s *Server) SetKeys(keys, retiring []*ecdsa.PrivateKey) error {
	if (len(keys) == 0) != (s.signer.Load() == nil) {
		return region.Errorf(region.BadInput, "a zone does not begin or end to be signed while it is served").
			WithHint("start the node anew; before a zone goes unsigned, its DS has to leave the parent")
	}
	return s.setKeys(keys, retiring)
}

func (s *Server) setKeys(keys, retiring []*ecdsa.PrivateKey) error {
	made, err := newSigner(keys, retiring, func() time.Time { return s.now() })
	if err != nil {
		return err
	}
	s.signer.Store(made)
	return nil
}

// DNSKEY is the record of a key that signs a zone alone.
func DNSKEY(zone string, key *ecdsa.PublicKey) (*dns.DNSKEY, error) {
	raw, err := key.Bytes() // 4, X, Y
	if err != nil {
		return nil, region.Errorf(region.BadInput, "a key of the zone is unusable").WithCause(err)
	}
	return &dns.DNSKEY{
		Hdr: header(dns.Fqdn(zone), dns.TypeDNSKEY, keyTTL), Flags: dns.ZONE | dns.SEP, Protocol: 3,
		Algorithm: dns.ECDSAP256SHA256, PublicKey: base64.StdEncoding.EncodeToString(raw[1:]),
	}, nil
}

// DS is what the parent zone has to say about a key, in presentation form.
func DS(zone string, key *ecdsa.PublicKey) (string, error) {
	k, err := DNSKEY(zone, key)
	if err != nil {
		return "", err
	}
	return k.ToDS(dns.SHA256).String(), nil
}

// dnskeys are the records of all keys.
func (s *signer) dnskeys(zone string) []*dns.DNSKEY {
	var out []*dns.DNSKEY
	for _, k := range s.keys {
		if record, err := DNSKEY(zone, &k.PublicKey); err == nil { // newSigner has seen that the keys are good
			out = append(out, record)
		}
	}
	return out
}

// apex answers for the types that a signed zone has besides. CDS and CDNSKEY
// ask the parent for a DS of every key that does not retire (RFC 7344).
func (s *signer) apex(m *dns.Msg, z *zone, qtype uint16) {
	for i, k := range s.dnskeys(z.name) {
		if i >= s.kept && qtype != dns.TypeDNSKEY {
			break
		}
		switch qtype {
		case dns.TypeDNSKEY:
			m.Answer = append(m.Answer, k)
		case dns.TypeCDNSKEY:
			c := &dns.CDNSKEY{DNSKEY: *k}
			c.Hdr.Rrtype = dns.TypeCDNSKEY
			m.Answer = append(m.Answer, c)
		case dns.TypeCDS:
			c := &dns.CDS{DS: *k.ToDS(dns.SHA256)}
			c.Hdr.Rrtype = dns.TypeCDS
			m.Answer = append(m.Answer, c)
		}
	}
}

// finish makes a signed answer of an answer. Additional records are left out:
// they are optional, and would need signatures, too.
func (s *signer) finish(m *dns.Msg, q *query, t target, z *zone) {
	if !m.Authoritative || len(m.Answer) == 0 && len(m.Ns) > 0 && m.Ns[0].Header().Rrtype == dns.TypeNS {
		s.refer(m, z)
		return
	}
	m.Extra = nil
	denied := len(m.Answer) == 0 || q.qtype == dns.TypeNSEC || q.qtype == dns.TypeRRSIG
	if denied {
		nsec, ok := denial(q, t, z)
		if !ok {
			m.Rcode, m.Answer, m.Ns = dns.RcodeServerFailure, nil, nil
			return
		}
		m.Rcode = dns.RcodeSuccess // a name that does not exist is one without types (RFC 9824 section 2)
		switch {
		case q.qtype == dns.TypeNSEC && t.kind != missing:
			m.Answer, m.Ns = []dns.RR{nsec}, nil
		case q.qtype == dns.TypeRRSIG && t.kind != missing:
			m.Answer, m.Ns = nil, nil // one of the signatures is enough (RFC 8482 section 7)
			if sig := s.sign([]dns.RR{nsec}, z.name, 0); sig != nil {
				m.Answer = []dns.RR{sig}
			}
			return
		default:
			m.Ns = append(m.Ns, nsec)
		}
	}
	m.Answer, m.Ns = s.signAll(m.Answer, z.name), s.signAll(m.Ns, z.name)
	if m.Answer == nil && m.Ns == nil {
		m.Rcode = dns.RcodeServerFailure
	}
}

// refer signs a referral: the DS records of the delegation, or that there are
// none (RFC 4035 section 3.1.4). Its NS records and glue are the child's, and
// not signed here.
func (s *signer) refer(m *dns.Msg, z *zone) {
	at := slices.IndexFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeDS })
	servers, proof := m.Ns, []dns.RR(nil)
	if at >= 0 {
		servers, proof = m.Ns[:at], m.Ns[at:]
	} else {
		name := m.Ns[0].Header().Name
		proof = []dns.RR{&dns.NSEC{
			Hdr: header(name, dns.TypeNSEC, z.soa().Hdr.Ttl), NextDomain: `\000.` + strings.ToLower(name), TypeBitMap: []uint16{dns.TypeNS, dns.TypeRRSIG, dns.TypeNSEC},
		}}
	}
	m.Ns = append(slices.Clone(servers), s.signAll(proof, z.name)...)
}

// denial is the NSEC that covers one name alone.
func denial(q *query, t target, z *zone) (*dns.NSEC, bool) {
	next := `\000.` + strings.ToLower(q.name) // whose case is signed, unlike that of the owner (RFC 6840 section 5.1)
	var room [maxName]byte
	if _, err := dns.PackDomainName(next, room[:], 0, nil, false); err != nil {
		return nil, false // the name is so long that there is none right behind it
	}
	types := []uint16{dns.TypeRRSIG, dns.TypeNSEC}
	for _, have := range typesOf(t, z.world) {
		if have != q.qtype {
			types = append(types, have)
		}
	}
	slices.Sort(types)
	types = slices.Compact(types)
	return &dns.NSEC{Hdr: header(q.name, dns.TypeNSEC, z.soa().Hdr.Ttl), NextDomain: next, TypeBitMap: types}, true
}

// typesOf are the types that a name may have, for some client.
func typesOf(t target, w *region.World) []uint16 {
	switch t.kind {
	case missing:
		return []uint16{typeNXNAME}
	case steered:
		return steeredTypes(t.service)
	case host:
		var out []uint16
		if slices.ContainsFunc(t.addrs, netip.Addr.Is4) {
			out = append(out, dns.TypeA)
		}
		if slices.ContainsFunc(t.addrs, netip.Addr.Is6) {
			out = append(out, dns.TypeAAAA)
		}
		return out
	case apex:
		out := []uint16{dns.TypeSOA, dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY}
		if len(w.DNS) > 0 {
			out = append(out, dns.TypeNS)
		}
		return append(out, t.types...)
	case listed:
		return t.types
	}
	return nil
}

// signAll puts behind each set of records its signatures. The sets are already
// together.
func (s *signer) signAll(records []dns.RR, zone string) []dns.RR {
	var out []dns.RR
	for len(records) > 0 {
		n, first := 1, records[0].Header()
		for n < len(records) && records[n].Header().Rrtype == first.Rrtype && records[n].Header().Name == first.Name {
			n++
		}
		out = append(out, records[:n]...)
		for i := range s.signing(first.Rrtype) {
			sig := s.sign(records[:n], zone, i)
			if sig == nil {
				return nil
			}
			out = append(out, sig)
		}
		records = records[n:]
	}
	return out
}

// signing is how many of the keys sign the sets of a type.
func (s *signer) signing(rtype uint16) int {
	if rtype == dns.TypeDNSKEY {
		return len(s.keys)
	}
	return 1
}

// sign signs one set with one key, or finds the signature that it made before.
func (s *signer) sign(set []dns.RR, zone string, key int) *dns.RRSIG {
	at := s.now().Truncate(signEvery)
	var what strings.Builder
	what.WriteByte(byte('0' + key))
	what.WriteString(at.UTC().Format(time.RFC3339))
	for _, rr := range set {
		what.WriteString(asSigned(rr))
		what.WriteByte('\n')
	}
	id := what.String()
	s.mu.Lock()
	sig := s.made[id]
	s.mu.Unlock()
	if sig == nil {
		var err error
		if sig, err = s.make(set, zone, key); err != nil {
			return nil
		}
		s.mu.Lock()
		if len(s.made) >= maxMade {
			clear(s.made)
		}
		s.made[id] = sig
		s.mu.Unlock()
	}
	own := *sig // its owner has the case of the question
	own.Hdr.Name = set[0].Header().Name
	return &own
}

// asSigned spells a record so that those which are signed alike are the same: names
// are in lower case where RFC 4034 section 6.2 has them so, and nowhere else.
func asSigned(rr dns.RR) string {
	text := rr.String()
	switch rr.Header().Rrtype {
	case dns.TypeSOA, dns.TypeNS, dns.TypeCNAME, dns.TypeMX, dns.TypePTR, dns.TypeSRV, dns.TypeDNAME:
		return strings.ToLower(text)
	}
	owner, rest, _ := strings.Cut(text, "\t")
	return strings.ToLower(owner) + "\t" + rest
}

// make signs one set with one key.
func (s *signer) make(set []dns.RR, zone string, key int) (*dns.RRSIG, error) {
	public, err := DNSKEY(zone, &s.keys[key].PublicKey)
	if err != nil {
		return nil, err
	}
	at := s.now().Truncate(signEvery)
	sig := &dns.RRSIG{
		Hdr: dns.RR_Header{Ttl: set[0].Header().Ttl}, Algorithm: public.Algorithm, KeyTag: public.KeyTag(), SignerName: strings.ToLower(zone),
		Inception: uint32(at.Add(-signBefore).Unix()), Expiration: uint32(at.Add(signFor).Unix()),
	}
	return sig, sig.Sign(steady{s.keys[key]}, set)
}

// steady signs the same with the same signature (RFC 6979): nodes that share a key
// then answer, and transfer, with the same bytes.
type steady struct{ *ecdsa.PrivateKey }

func (k steady) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}
