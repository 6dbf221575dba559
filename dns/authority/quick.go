package authority

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/answer"
)

// HTTPDNS answers its common form from memory, too: JSON of which all but the
// head, host and client, is the same for a class of clients in a network.

// desk is one of the places where questions over HTTPDNS are answered. Each has
// its own blocks of addresses, so that they seldom wait for each other.
type desk struct {
	mu      sync.Mutex
	m       *memory
	plan    *plan // that replies are of
	replies map[class]*replies
	kept    int // replies
}

// savedReply is what /d answers behind host and client.
type savedReply struct {
	network netip.Prefix // of clients that it holds for
	tally   *tally
	members int
	tail    []byte   // of the body
	caching []string // the header of that name
}

// maxReplies are kept by a desk; then it begins anew. One takes some 500 bytes.
const maxReplies = 16384

func newDesks(s *Server, n int) []*desk {
	desks := make([]*desk, n)
	for i := range desks {
		desks[i] = &desk{m: newMemory(s)}
		desks[i].m.total = s.metrics.answeredHTTP
	}
	return desks
}

// webAsk is a question of the common form.
type webAsk struct {
	host     string
	platform string
	uin, ver string
	client   netip.Prefix
	families uint16 // 0: both in one list; else bits 1 and 2 for IPv4 and IPv6
}

// jsonType is shared by all answers; net/http only reads it.
var jsonType = []string{"application/json; charset=utf-8"}

// quick answers GET /d in its common form, and returns false for all that needs
// a closer look, right or wrong. What it answers has the bytes that direct gives.
func (s *Server) quick(w http.ResponseWriter, r *http.Request) bool {
	var q webAsk
	if s.o.SignedOnly || !q.read(r, s.o.Sign != nil) {
		return false
	}
	body := s.bodies.Get().(*[]byte)
	defer s.bodies.Put(body)
	d := s.desks[blockOf(q.client.Addr())%uint64(len(s.desks))]
	out, caching, ok := d.answer((*body)[:0], &q)
	if !ok {
		return false
	}
	*body = out
	h := w.Header()
	h["Cache-Control"], h["Content-Type"] = caching, jsonType
	if _, err := w.Write(out); err != nil {
		s.log.Debug("HTTPDNS client left", "err", err)
	}
	return true
}

// read takes the parameters of the common form: none twice, nothing escaped.
func (q *webAsk) read(r *http.Request, signs bool) bool {
	query := r.URL.RawQuery
	if strings.ContainsAny(query, "%+;") {
		return false
	}
	var ip, wanted string
	var seen [6]bool
	for query != "" {
		var part string
		part, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(part, "=")
		at, into := 0, (*string)(nil)
		switch key {
		case "host":
			at, into = 0, &q.host
		case "ip":
			at, into = 1, &ip
		case "uin":
			at, into = 2, &q.uin
		case "ver":
			at, into = 3, &q.ver
		case "platform":
			at, into = 4, &q.platform
		case "query":
			at, into = 5, &wanted
			if value == "" {
				return false // it is there, and wrong
			}
		case "dn":
			return false // another form
		case answer.Nonce:
			if signs {
				return false
			}
			continue
		default:
			continue
		}
		if seen[at] {
			return false
		}
		seen[at], *into = true, value
	}
	switch wanted {
	case "":
	case "4":
		q.families = 1
	case "6":
		q.families = 2
	case "4,6", "6,4":
		q.families = 3
	default:
		return false
	}
	return q.readClient(ip, r.RemoteAddr)
}

func (q *webAsk) readClient(ip, peer string) bool {
	if strings.IndexByte(ip, '/') >= 0 {
		p, err := netip.ParsePrefix(ip)
		q.client = p.Masked()
		return err == nil && !p.Addr().Is4In6()
	}
	addr, err := netip.ParseAddr(ip)
	if ip == "" {
		var from netip.AddrPort
		from, err = netip.ParseAddrPort(peer)
		addr = from.Addr()
	}
	if err != nil {
		return false
	}
	q.client = whole(addr)
	return true
}

// glance reads the name, and what the parameters add to it.
func (q *webAsk) glance(g *glance, at *plan) bool {
	var name [headerLen + maxName + 1]byte
	end, host := headerLen, strings.TrimSuffix(q.host, ".")
	if host == "" || len(host) > maxName-2 || len(at.zone) == 0 {
		return false
	}
	label := end
	for i := range len(host) {
		c := host[i]
		end++
		switch {
		case c == '.':
			name[label] = byte(end - 1 - label)
			label = end
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z', c == '-', c == '_': // as they are in JSON
			name[end] = c
		default:
			return false
		}
	}
	name[label] = byte(end - label)
	name[end+1] = 0
	*g = glance{}
	if !g.readName(name[:end+2], at.zone, at.services) || g.end != end+2 {
		return false
	}
	uin, ok := merged(uint64(g.uin), q.uin)
	version, ok2 := merged(uint64(g.version), q.ver)
	if !ok || !ok2 || version > 1<<32-1 {
		return false
	}
	g.uin, g.version = region.UIN(uin), uint32(version)
	if q.client.Bits() < q.client.Addr().BitLen() {
		g.source = q.client
	}
	return true
}

// merged is the number that a parameter states, where the name may have stated
// the same.
func merged(named uint64, text string) (uint64, bool) {
	if text == "" {
		return named, true
	}
	n, ok := number(text, 64)
	return n, ok && (named == 0 || named == n)
}

// answer appends the body, and returns the header for caches. It blocks while
// another question is answered at this desk.
func (d *desk) answer(out []byte, q *webAsk) (_ []byte, caching []string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.m
	m.begin()
	if m.plan == nil || !q.glance(&m.g, m.plan) {
		return out, nil, false
	}
	c, ok := m.plan.classOf(&m.g)
	if !ok {
		return out, nil, false
	}
	c.qtype, c.platform = q.families, m.plan.platformOf(q.platform)
	addr := q.client.Addr()
	if d.plan != m.plan || d.kept >= maxReplies {
		d.plan, d.replies, d.kept = m.plan, make(map[class]*replies), 0
	}
	of := d.replies[c]
	if of == nil {
		of = new(replies)
		d.replies[c] = of
	}
	found := of.find(addr)
	if found == nil {
		if found = d.recall(c, q); found == nil {
			return out, nil, false
		}
		d.kept += of.put(found)
	}
	m.count(found.tally)
	m.end()
	if m.budget.allows(m.now) {
		m.note(addr)
	}
	if weight, log := m.sampler.due(m.now); weight > 0 || log {
		m.s.observeReply(q.host, q.client, found.tally.rule, found.members, weight, log)
	}
	return append(q.appendHead(out), found.tail...), found.caching, true
}

// recall asks steer, and keeps what the library makes of it.
func (d *desk) recall(c class, q *webAsk) *savedReply {
	m := d.m
	addr := q.client.Addr()
	a, ok := m.decide(c, addr, q.platform)
	if !ok {
		return nil
	}
	var want *families
	if q.families != 0 {
		want = &families{v4: q.families&1 != 0, v6: q.families&2 != 0}
	}
	raw, err := json.Marshal(replyOf(m.plan.view, q.host, q.client, want, &a))
	head := q.appendHead(nil)
	if err != nil || !strings.HasPrefix(string(raw), string(head)) {
		return nil
	}
	network, err := addr.Prefix(int(a.Scope))
	if err != nil {
		return nil
	}
	return &savedReply{
		network: network, tally: m.tallyOf(&a), members: len(a.Endpoints),
		tail: append(raw[len(head):], '\n'), caching: []string{caching(a.TTL)},
	}
}

// caching says that an answer is for who asked, and for how many seconds.
func caching(ttl uint32) string { return "private, max-age=" + strconv.FormatUint(uint64(ttl), 10) }

// appendHead appends what the bodies of a class differ in. Of the host's
// characters none is written in another way in JSON.
func (q *webAsk) appendHead(out []byte) []byte {
	out = append(out, `{"host":"`...)
	out = append(out, q.host...)
	out = append(out, `","client_ip":"`...)
	if q.client.IsSingleIP() {
		out = q.client.Addr().AppendTo(out)
	} else {
		out = q.client.AppendTo(out)
	}
	return append(out, '"')
}
