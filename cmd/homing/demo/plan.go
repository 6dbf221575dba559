package demo

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/homing-im/homing/region"
)

// DefaultPortBase is where the demo's ports begin. It stays clear of mDNS
// (5353), of common development servers, and of the ephemeral range.
const DefaultPortBase = 7400

// Offsets from the port base. On Linux every region and POP has an address of
// its own and listens on the same ports; elsewhere everything is on 127.0.0.1
// and each region or POP gets ten ports of its own, from portStride on.
const (
	portLong   = 0
	portShort  = 1
	portWeb    = 2
	portAdmin  = 3
	portQueue  = 4
	portGossip = 5

	portDNS        = 53
	portDoT        = 54 // and DNS over QUIC, which is UDP
	portDoH        = 55
	portHTTPDNS    = 80
	portDNSAdmin   = 81
	portDNSGossip  = 82
	portIDs        = 90
	portIDsAdmin   = 91
	portIDsGossip  = 92
	portConsole    = 99
	portStride     = 100 // of the first member when addresses are shared
	portsPerMember = 10
	portsInAll     = 300
)

// site is what the demo knows of a region it can play.
type site struct {
	id      region.ID
	title   string
	place   region.Place
	backups []region.ID // preference; those not in the world are left out
	pops    [2]popSite
}

type popSite struct {
	title string
	place region.Place
}

var sites = []site{
	{"sh", "Shanghai", region.Place{City: "Shanghai", Country: "CN", Continent: "AS", Latitude: 31.23, Longitude: 121.47}, []region.ID{"hk", "ca"}, [2]popSite{
		{"Hangzhou", region.Place{City: "Hangzhou", Country: "CN", Continent: "AS", Latitude: 30.27, Longitude: 120.16}},
		{"Beijing", region.Place{City: "Beijing", Country: "CN", Continent: "AS", Latitude: 39.90, Longitude: 116.41}}}},
	{"hk", "Hong Kong", region.Place{City: "Hong Kong", Country: "HK", Continent: "AS", Latitude: 22.32, Longitude: 114.17}, []region.ID{"sh", "ca"}, [2]popSite{
		{"Guangzhou", region.Place{City: "Guangzhou", Country: "CN", Continent: "AS", Latitude: 23.13, Longitude: 113.26}},
		{"Singapore", region.Place{City: "Singapore", Country: "SG", Continent: "AS", Latitude: 1.35, Longitude: 103.82}}}},
	{"ca", "Toronto", region.Place{City: "Toronto", Country: "CA", Continent: "NA", Latitude: 43.65, Longitude: -79.38}, []region.ID{"hk", "sh"}, [2]popSite{
		{"Vancouver", region.Place{City: "Vancouver", Country: "CA", Continent: "NA", Latitude: 49.28, Longitude: -123.12}},
		{"New York", region.Place{City: "New York", Country: "US", Continent: "NA", Latitude: 40.71, Longitude: -74.01}}}},
	{"eu", "Frankfurt", region.Place{City: "Frankfurt", Country: "DE", Continent: "EU", Latitude: 50.11, Longitude: 8.68}, []region.ID{"ca", "hk", "sh"}, [2]popSite{
		{"London", region.Place{City: "London", Country: "GB", Continent: "EU", Latitude: 51.51, Longitude: -0.13}},
		{"Milan", region.Place{City: "Milan", Country: "IT", Continent: "EU", Latitude: 45.46, Longitude: 9.19}}}},
}

// member is one region, POP or service of the demo, and where it listens.
type member struct {
	kind   string // region, pop, dns, ids
	id     string
	title  string
	place  region.Place
	near   region.ID // of a POP
	long   netip.AddrPort
	short  netip.AddrPort
	web    netip.AddrPort
	admin  netip.AddrPort
	queue  netip.AddrPort
	gossip netip.AddrPort
	// address and http are those of a DNS or ids node.
	address netip.AddrPort
	// dot and doh are those of DNS over TLS (and QUIC) and HTTPS.
	dot, doh netip.AddrPort
	http     netip.AddrPort
}

// plan is the demo's world before it is written down.
type plan struct {
	zone    string
	regions []member
	backups map[region.ID][]region.ID
	pops    []member
	dns     member
	ids     member
	console netip.AddrPort
	split   bool // every member has its own address

	postgres map[string]string // DSN of a region's store; none is embedded
}

// newPlan lays a world out over loopback addresses.
func newPlan(ids []string, base int, split bool) (*plan, error) {
	if base < 1024 || base+portsInAll > 65535 {
		return nil, fmt.Errorf("--port-base %d: want 1024 to %d, since %d ports from it on are used", base, 65535-portsInAll, portsInAll)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("--regions is empty: want some of %s", known())
	}
	p := &plan{zone: "demo.test", backups: map[region.ID][]region.ID{}, split: split}
	at := func(ip netip.Addr, port int) netip.AddrPort { return netip.AddrPortFrom(ip, uint16(port)) }
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	slot := 0
	place := func(m member, second, third byte) member {
		ip, port := local, base
		if split {
			ip = netip.AddrFrom4([4]byte{127, second, third, 1})
		} else {
			port = base + portStride + portsPerMember*slot
		}
		slot++
		m.long, m.short, m.web = at(ip, port+portLong), at(ip, port+portShort), at(ip, port+portWeb)
		m.admin, m.queue, m.gossip = at(ip, port+portAdmin), at(ip, port+portQueue), at(ip, port+portGossip)
		return m
	}
	for i, id := range ids {
		s := slices.IndexFunc(sites, func(s site) bool { return string(s.id) == id })
		if s < 0 {
			return nil, fmt.Errorf("--regions: %q is not a region the demo knows: want some of %s", id, known())
		}
		if slices.Index(ids, id) != i {
			return nil, fmt.Errorf("--regions: %q is there twice", id)
		}
		st := sites[s]
		p.regions = append(p.regions, place(member{kind: "region", id: id, title: st.title, place: st.place}, 10, byte(i+1)))
		for _, b := range st.backups {
			if slices.Contains(ids, string(b)) {
				p.backups[st.id] = append(p.backups[st.id], b)
			}
		}
		for j, ps := range st.pops {
			n := 2*i + j + 1
			p.pops = append(p.pops, place(member{kind: "pop", id: fmt.Sprintf("pop-%d", n), title: ps.title, place: ps.place, near: st.id}, 20, byte(n)))
		}
	}
	p.dns = member{kind: "dns", id: "dns-1", title: "smart DNS", address: at(local, base+portDNS), http: at(local, base+portHTTPDNS),
		dot: at(local, base+portDoT), doh: at(local, base+portDoH), admin: at(local, base+portDNSAdmin), gossip: at(local, base+portDNSGossip)}
	p.ids = member{kind: "ids", id: "ids-1", title: "account IDs", address: at(local, base+portIDs), admin: at(local, base+portIDsAdmin), gossip: at(local, base+portIDsGossip)}
	p.console = at(local, base+portConsole)
	return p, nil
}

func known() string {
	var s []string
	for _, k := range sites {
		s = append(s, string(k.id))
	}
	return strings.Join(s, ",")
}

// ownAddresses says whether members can have a loopback address each: Linux
// routes all of 127/8 to the loopback interface, others need aliases.
func ownAddresses() bool { return runtime.GOOS == "linux" }

// all returns every member.
func (p *plan) all() []member {
	out := slices.Concat(p.regions, p.pops)
	return append(out, p.dns, p.ids)
}

// listeners returns every TCP address the demo will listen on, by what for.
func (p *plan) listeners() map[string]netip.AddrPort {
	out := map[string]netip.AddrPort{"the web page": p.console}
	for _, m := range p.all() {
		for what, a := range map[string]netip.AddrPort{"long": m.long, "short": m.short, "web": m.web, "admin": m.admin, "gossip": m.gossip, "service": m.address, "HTTP": m.http, "DoT": m.dot, "DoH": m.doh} {
			if a.IsValid() {
				out[m.id+" "+what] = a
			}
		}
		if m.kind == "region" {
			out[m.id+" queue"] = m.queue
		}
	}
	return out
}

// checkFree reports the first listener that is taken. It is for the message
// only: the real listeners report their own errors.
func (p *plan) checkFree() error {
	all := p.listeners()
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		l, err := net.Listen("tcp", all[n].String())
		if err != nil {
			return fmt.Errorf("%s cannot listen on %s (%w): stop what uses it, or say another --port-base", n, all[n], rootCause(err))
		}
		_ = l.Close()
	}
	return nil
}

func rootCause(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || u.Unwrap() == nil {
			return err
		}
		err = u.Unwrap()
	}
}
