package authority

import (
	"bytes"
	"encoding/binary"
	"net/url"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// Sizes of the DNS message format, in bytes.
const (
	headerLen  = 12
	maxUDP     = 1232  // what fits any path unfragmented (DNS flag day 2020)
	minUDP     = 512   // without EDNS (RFC 1035 section 4.2.1)
	maxMessage = 65535 // over TCP
	maxName    = 255
	maxRecords = 16 // in a query; real ones have an OPT and perhaps a TSIG
)

// query is a parsed request. Only what parse has verified is set.
type query struct {
	id      uint16
	opcode  int
	rd, cd  bool
	asked   bool   // there is exactly one question, below
	name    string // presentation form, in the case it was asked in
	labels  []string
	qtype   uint16
	qclass  uint16
	opt     bool
	version uint8  // of EDNS
	size    uint16 // UDP payload the client takes
	do      bool
	subnet  *subnet // nil when there is no option
	cookie  []byte  // well formed; nil when there is no option
	nsid    bool    // the client asks which node answers (RFC 5001)
	padded  bool    // the client wants its size hidden (RFC 7830)
	told    told    // by the request that the packet came in
	rule    string  // that steered the answer; empty when none did
	ede     int     // extended error of the answer (RFC 8914); -1 for none
}

// told is what an HTTP request says of the client besides its question. What the
// name says goes before it.
type told struct {
	uin      region.UIN
	version  uint32
	platform string
}

// toldBy reads the parameters uin, ver and platform.
func toldBy(p url.Values) (t told, err error) {
	version := uint64(0)
	if err = mergeNumber(p, "uin", 64, (*uint64)(&t.uin)); err == nil {
		err = mergeNumber(p, "ver", 32, &version)
	}
	t.version, t.platform = uint32(version), p.Get("platform")
	return t, err
}

// verdict says what becomes of a packet after parsing.
type verdict int

const (
	drop   verdict = iota // no answer: too short, or itself a response
	reject                // answer with the rcode that came along
	serve
)

// parse reads a packet. It looks at every byte itself, because the library
// accepts what the RFCs do not: octets of the client subnet option, trailing
// bytes, a second OPT. With reject the query holds what could be read, and the
// text says what is wrong, from a fixed set.
func parse(p []byte) (q query, v verdict, rcode int, why string) {
	q.ede = -1
	if len(p) < headerLen {
		return q, drop, 0, "short"
	}
	flags := binary.BigEndian.Uint16(p[2:])
	if flags&(1<<15) != 0 {
		return q, drop, 0, "response"
	}
	q.id = binary.BigEndian.Uint16(p)
	q.opcode = int(flags>>11) & 0xf
	q.rd, q.cd = flags&(1<<8) != 0, flags&(1<<4) != 0
	if q.opcode != dns.OpcodeQuery {
		return q, reject, dns.RcodeNotImplemented, "opcode" // the rest may have any form
	}
	questions := int(binary.BigEndian.Uint16(p[4:]))
	answers := int(binary.BigEndian.Uint16(p[6:]))
	authorities := int(binary.BigEndian.Uint16(p[8:]))
	additional := int(binary.BigEndian.Uint16(p[10:]))
	if questions > 1 { // RFC 9619
		return q, reject, dns.RcodeFormatError, "questions"
	}
	if answers+authorities+additional > maxRecords {
		return q, reject, dns.RcodeFormatError, "records"
	}
	off := headerLen
	if questions == 1 {
		if off = q.question(p, off); off < 0 {
			return q, reject, dns.RcodeFormatError, "question"
		}
	}
	for i := range answers + authorities + additional {
		if off, why = q.record(p, off, i >= answers+authorities); why != "" {
			return q, reject, dns.RcodeFormatError, why
		}
	}
	switch {
	case off != len(p):
		return q, reject, dns.RcodeFormatError, "trailing"
	case q.opt && q.version != 0: // before anything else about EDNS (RFC 6891 section 6.1.3)
		return q, reject, dns.RcodeBadVers, "edns-version"
	case questions == 0 && q.cookie == nil: // else it asks for a cookie alone (RFC 7873 section 5.4)
		return q, reject, dns.RcodeFormatError, "questions"
	}
	return q, serve, dns.RcodeSuccess, ""
}

// question reads the question at off and returns the offset behind it, or -1.
func (q *query) question(p []byte, off int) int {
	end := off
	for {
		if end >= len(p) || end-off >= maxName {
			return -1
		}
		n := int(p[end])
		if n == 0 {
			end++
			break
		}
		if n > 63 || end+1+n > len(p) { // nothing to point at before the first name
			return -1
		}
		q.labels = append(q.labels, lower(p[end+1:end+1+n]))
		end += 1 + n
	}
	if end+4 > len(p) || end-off > maxName {
		return -1
	}
	name, _, err := dns.UnpackDomainName(p, off)
	if err != nil {
		return -1
	}
	q.name, q.asked = name, true
	q.qtype, q.qclass = binary.BigEndian.Uint16(p[end:]), binary.BigEndian.Uint16(p[end+2:])
	return end + 4
}

// lower folds ASCII letters only, as DNS does (RFC 4343).
func lower(label []byte) string {
	for _, c := range label {
		if 'A' <= c && c <= 'Z' {
			b := bytes.Clone(label)
			for i := range b {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return string(label)
}

// record skips the record at off, reading it when it is the OPT, and returns
// the offset behind it, or what is wrong.
func (q *query) record(p []byte, off int, additional bool) (int, string) {
	root := off < len(p) && p[off] == 0
	off = skipName(p, off)
	if off < 0 || off+10 > len(p) {
		return 0, "record"
	}
	rtype := binary.BigEndian.Uint16(p[off:])
	class := binary.BigEndian.Uint16(p[off+2:])
	ttl := binary.BigEndian.Uint32(p[off+4:])
	length := int(binary.BigEndian.Uint16(p[off+8:]))
	off += 10
	if off+length > len(p) {
		return 0, "record"
	}
	data := p[off : off+length]
	off += length
	if rtype != dns.TypeOPT {
		return off, ""
	}
	if !root || !additional || q.opt { // RFC 6891 sections 6.1.1 and 6.1.2
		return 0, "opt"
	}
	q.opt, q.size = true, class
	q.version, q.do = uint8(ttl>>16), ttl&(1<<15) != 0
	if q.version != 0 {
		return off, "" // options of later versions may mean anything
	}
	return off, q.options(data)
}

// options reads the options of the OPT record.
func (q *query) options(data []byte) string {
	for len(data) > 0 {
		if len(data) < 4 {
			return "option"
		}
		code, length := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		if 4+length > len(data) {
			return "option"
		}
		value := data[4 : 4+length]
		switch code {
		case dns.EDNS0SUBNET:
			s, ok := parseSubnet(value)
			if !ok || q.subnet != nil {
				return "subnet"
			}
			q.subnet = &s
		case dns.EDNS0COOKIE:
			if !wellFormedCookie(value) {
				return "cookie"
			}
			if q.cookie == nil { // of several the first counts (RFC 7873 section 5.2)
				q.cookie = value
			}
		case dns.EDNS0PADDING:
			q.padded = true
		case dns.EDNS0NSID:
			q.nsid = true
		}
		data = data[4+length:]
	}
	return ""
}

// skipName returns the offset behind the name at off, or -1. Pointers end a
// name and are not followed: nobody reads these names.
func skipName(p []byte, off int) int {
	for start := off; off < len(p) && off-start < maxName; {
		switch n := int(p[off]); {
		case n == 0:
			return off + 1
		case n >= 0xc0:
			if off+2 > len(p) {
				return -1
			}
			return off + 2
		case n > 63:
			return -1
		default:
			off += 1 + n
		}
	}
	return -1
}
