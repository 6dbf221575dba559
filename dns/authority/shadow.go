package authority

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// Difference is a question that the present server and this one answer
// differently.
type Difference struct {
	At     time.Time  `json:"at"`
	Peer   netip.Addr `json:"peer"`
	Client string     `json:"client,omitempty"` // the network that the question stated
	Name   string     `json:"name"`
	Type   string     `json:"type"`
	What   string     `json:"what"` // rcode, answer, ttl or scope: the first that differs
	Theirs Said       `json:"theirs"`
	Ours   Said       `json:"ours"`
	Rule   string     `json:"rule,omitempty"` // that steered ours
}

// Said is an answer, for comparing.
type Said struct {
	Rcode   string   `json:"rcode"`
	Records []string `json:"records"` // type and data, sorted
	TTL     uint32   `json:"ttl"`     // the smallest
	Scope   int      `json:"scope"`   // -1 when none was said
}

const (
	shadowTimeout = 2 * time.Second // for the present server's answer
	maxShadowed   = 512             // questions under way; the next ones are dropped, as a full socket would
	maxDifferent  = 200             // are remembered
)

// shadow answers as another server does and remembers where this one would have
// said something else.
type shadow struct {
	upstream netip.AddrPort
	slots    chan struct{}

	mu        sync.Mutex
	different []Difference
	next      int
}

func newShadow(upstream string) (*shadow, error) {
	if upstream == "" {
		return nil, nil
	}
	at, err := netip.ParseAddrPort(upstream)
	if err != nil {
		return nil, region.Errorf(region.BadInput, "the present server %q", upstream).WithCause(err).WithHint("write IP:port, such as 192.0.2.53:53")
	}
	return &shadow{upstream: at, slots: make(chan struct{}, maxShadowed)}, nil
}

// serveShadow is the worker on a socket while there is a present server: each
// packet waits for it by itself.
func (s *Server) serveShadow(conn *net.UDPConn) {
	var control []byte
	if isWildcard(conn) {
		control = make([]byte, controlLen)
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		in := make([]byte, udpRead)
		n, controls, _, peer, err := conn.ReadMsgUDPAddrPort(in, control)
		if err != nil {
			select {
			case <-s.stop:
				return
			default:
			}
			s.metrics.socketErrors.Inc()
			continue
		}
		var source []byte
		if controls > 0 {
			source = slices.Clone(sourceFor(control[:controls]))
		}
		select {
		case s.shadow.slots <- struct{}{}:
		default:
			s.metrics.shadow.WithLabelValues("dropped").Inc()
			continue
		}
		asking.Go(func() {
			defer func() { <-s.shadow.slots }()
			out := s.shadowed(in[:n], peer.Addr(), overUDP, told{})
			if len(out) == 0 {
				return
			}
			if _, _, err := conn.WriteMsgUDPAddrPort(out, source, peer); err != nil {
				s.metrics.socketErrors.Inc()
			}
		})
	}
}

// shadowed answers a packet with what the present server says. What this server
// would refuse as malformed, it refuses itself.
func (s *Server) shadowed(packet []byte, peer netip.Addr, via transport, told told) []byte {
	ours, _, rule := s.reply(packet, peer, via, told)
	q, verdict, _, _ := parse(packet)
	if verdict != serve || !q.asked {
		return ours
	}
	var ask dns.Msg
	if ask.Unpack(packet) != nil {
		return ours
	}
	theirs, err := s.shadow.ask(&ask, &q, peer, via)
	if err != nil {
		s.metrics.shadow.WithLabelValues("unanswered").Inc()
		m := q.reply()
		m.Rcode = dns.RcodeServerFailure
		q.ede = int(dns.ExtendedErrorCodeNoReachableAuthority)
		return q.pack(m, s.options(&q, 0, false, peer, s.unix()), via)
	}
	s.compare(theirs, ours, &q, peer, rule)
	out, err := theirs.Pack()
	if err != nil {
		return nil
	}
	return out
}

// ask asks the present server in the client's name: by the client's address,
// where the question states no other network, and makes the answer fit.
func (h *shadow) ask(m *dns.Msg, q *query, peer netip.Addr, via transport) (*dns.Msg, error) {
	asked := m.Copy()
	opt := asked.IsEdns0()
	if opt == nil {
		asked.SetEdns0(maxUDP, false)
		opt = asked.IsEdns0()
	}
	opt.SetUDPSize(maxUDP)
	if q.subnet == nil {
		client := whole(peer)
		sub := subnet{family: familyIPv4, source: uint8(client.Bits()), prefix: client}
		if client.Addr().Is6() {
			sub.family = familyIPv6
		}
		opt.Option = append(opt.Option, sub.option(0))
	}
	c := &dns.Client{Net: "udp", Timeout: shadowTimeout, UDPSize: maxUDP}
	got, _, err := c.Exchange(asked, h.upstream.String())
	if err == nil && got.Truncated {
		c.Net = "tcp"
		got, _, err = c.Exchange(asked, h.upstream.String())
	}
	if err != nil {
		return nil, err
	}
	if theirs := got.IsEdns0(); theirs != nil {
		switch {
		case !q.opt:
			got.Extra = slices.DeleteFunc(got.Extra, func(rr dns.RR) bool { return rr == dns.RR(theirs) })
		case q.subnet == nil:
			theirs.Option = slices.DeleteFunc(theirs.Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0SUBNET })
		}
	}
	got.Compress = true
	limit := maxMessage
	if via == overUDP {
		limit = minUDP
		if q.opt {
			limit = min(max(int(q.size), minUDP), maxUDP)
		}
	}
	got.Truncate(limit)
	return got, nil
}

// compare counts what differs, and remembers it.
func (s *Server) compare(theirs *dns.Msg, ours []byte, q *query, peer netip.Addr, rule string) {
	var m dns.Msg
	if m.Unpack(ours) != nil {
		s.metrics.shadow.WithLabelValues("rcode").Inc()
		return
	}
	d := Difference{
		At: s.now(), Peer: peer.Unmap(), Name: dns.CanonicalName(q.name), Type: dns.Type(q.qtype).String(),
		Theirs: said(theirs), Ours: said(&m), Rule: rule,
	}
	if q.subnet != nil && q.subnet.prefix.IsValid() {
		d.Client = q.subnet.prefix.String()
	}
	switch {
	case d.Theirs.Rcode != d.Ours.Rcode:
		d.What = "rcode"
	case !slices.Equal(d.Theirs.Records, d.Ours.Records):
		d.What = "answer"
	case d.Theirs.TTL != d.Ours.TTL:
		d.What = "ttl"
	case d.Theirs.Scope != d.Ours.Scope && q.subnet != nil:
		d.What = "scope"
	default:
		s.metrics.shadow.WithLabelValues("same").Inc()
		return
	}
	s.metrics.shadow.WithLabelValues(d.What).Inc()
	h := s.shadow
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.different) < maxDifferent {
		h.different = append(h.different, d)
		return
	}
	h.different[h.next] = d
	h.next = (h.next + 1) % maxDifferent
}

func said(m *dns.Msg) Said {
	out := Said{Rcode: rcodeName(m.Rcode), Records: []string{}, Scope: -1}
	for i, rr := range m.Answer {
		h := rr.Header()
		if i == 0 || h.Ttl < out.TTL {
			out.TTL = h.Ttl
		}
		if h.Rrtype == dns.TypeRRSIG {
			continue // each server has its own key and time
		}
		out.Records = append(out.Records, dns.Type(h.Rrtype).String()+" "+strings.ToLower(strings.TrimPrefix(rr.String(), h.String())))
	}
	slices.Sort(out.Records)
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_SUBNET); ok {
				out.Scope = int(e.SourceScope)
			}
		}
	}
	return out
}

// Differences are the last questions that the present server answered
// differently, the oldest first; nil without one.
func (s *Server) Differences() []Difference {
	h := s.shadow
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Concat(h.different[h.next:], h.different[:h.next])
}
