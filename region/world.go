package region

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// World is the compiled topology: what the payload of a [Signed] holds, as
// JSON. The operator never edits it; region/worldfile compiles it from YAML.
//
// A World is immutable once decoded and may be shared between goroutines.
type World struct {
	Version    uint64 `json:"version"`    // equals the envelope's
	Name       string `json:"name"`       // never changes along a chain
	Zone       string `json:"zone"`       // DNS zone of the service, without a trailing dot
	Partitions int    `json:"partitions"` // of every region's store; never changes along a chain

	Operators []PublicKey `json:"operators"` // keys of which Threshold sign the next world
	Threshold int         `json:"threshold"`
	Root      PublicKey   `json:"root"` // offline key, pinned at install; outranks the operators

	Regions  []Region  `json:"regions"`
	POPs     []POP     `json:"pops"`
	DNS      []Node    `json:"dns"`
	IDs      []Node    `json:"ids"`
	Segments []Segment `json:"segments"` // sorted by First, disjoint
	Retired  []ID      `json:"retired"`  // region IDs that may never come back

	Carriers []Carrier `json:"carriers"`
	Places   []Prefix  `json:"places"` // configured places of prefixes, before any database (loopback, labs)
	Rules    []Rule    `json:"rules"`  // the operator's steering rules, in order
	Steering Steering  `json:"steering"`

	// Names are the steered names of a stand-alone DNS server, which has them in
	// place of the services, sorted. A world of regions has none.
	Names []Service `json:"names,omitempty"`
}

// Services are the names below the zone that are steered.
func (w *World) Services() []Service {
	if len(w.Names) > 0 {
		return w.Names
	}
	return services[:]
}

var services = [...]Service{Long, Short, Web}

// Region is one autonomous region.
type Region struct {
	ID      ID        `json:"id"`
	Title   string    `json:"title"` // for people: "Shanghai"
	Place   Place     `json:"place"`
	Zones   []string  `json:"zones"`   // availability zones
	Backups []ID      `json:"backups"` // in order of preference; never itself
	Acting  Acting    `json:"acting"`  // who serves this home's owners now
	Key     PublicKey `json:"key"`     // signs tickets, votes, flips, calls between regions
	Serves  Endpoints `json:"serves"`
	Admin   string    `json:"admin"` // host:port of the admin listener
	Queue   string    `json:"queue"` // of the sync queue: see QueueGroups
	Users   uint64    `json:"users"` // capacity, concurrent connections; 0 is unstated

	// NewBackup keeps the home's second copy while another region acts for it, in
	// the stead of the home itself, which is gone. Empty: the home does.
	NewBackup ID `json:"newBackup,omitempty"`
	// Away is the operator's word that nobody waits for the region, which acts for
	// no home: journals are trimmed without it, and what it alone has counts as
	// lost. Once it is back it begins anew from the others' stores.
	Away bool `json:"away,omitempty"`
}

// Backup returns the region that keeps the second copy of the home's records now:
// the first of its backups, and while one of them acts, the new backup that the
// world names, or else the home itself, which has them but for what was written
// since. False for a home without backups.
func (r *Region) Backup() (ID, bool) {
	if c := r.Copies(); len(c) > 0 {
		return c[0], true
	}
	return "", false
}

// Copies returns every region that follows what is written for the home now:
// [Region.Backup], and while another region acts the home itself, which wants to
// come back.
func (r *Region) Copies() []ID {
	switch {
	case r.Acting.Region == r.ID:
		return r.Backups[:min(1, len(r.Backups))]
	case r.NewBackup != "" && r.NewBackup != r.Acting.Region:
		return []ID{r.NewBackup, r.ID}
	}
	return []ID{r.ID}
}

// QueueGroups returns the region's queue groups, the preferred one first: the
// bootstrap brokers of each, host:port, several separated by commas. In Queue a
// semicolon stands between groups.
func (r *Region) QueueGroups() []string {
	if r.Queue == "" {
		return nil
	}
	groups := strings.Split(r.Queue, ";")
	for i, g := range groups {
		groups[i] = strings.ReplaceAll(g, " ", "")
	}
	return groups
}

// Acting says who serves a home's owners. Raised is empty when this very world
// raised the counter: a world cannot contain its own hash. [World.TermOf]
// fills it in.
type Acting struct {
	Region  ID     `json:"region"`
	Counter uint64 `json:"counter"`
	Raised  *Hash  `json:"raised,omitempty"`
}

// POP is a point of presence.
type POP struct {
	ID      POPID     `json:"id"`
	Title   string    `json:"title"`
	Place   Place     `json:"place"`
	Serves  Endpoints `json:"serves"`
	Admin   string    `json:"admin"`
	Key     PublicKey `json:"key"`
	Witness bool      `json:"witness"` // votes on worlds
	Drain   bool      `json:"drain"`   // takes no new clients
	// DrainShare is the part of its clients that the POP no longer gets, in
	// hundredths of a percent: raised step by step it drains slowly.
	DrainShare uint32 `json:"drainShare,omitempty"`
	Users      uint64 `json:"users"` // capacity, concurrent connections; 0 is unstated
	Check      Check  `json:"check,omitzero"`
}

// Check says how to find out whether a member can take clients. The zero value
// is what its kind of member usually gets.
type Check struct {
	Via  Via    `json:"via,omitempty"`
	Port uint16 `json:"port,omitempty"` // 0 is the listener's own
	Path string `json:"path,omitempty"` // of HTTP; empty is /
	Host string `json:"host,omitempty"` // asked for by TLS and HTTP; empty is the address
}

// Via is the protocol of a check.
type Via string

// The protocols of checks. Of HTTP the answer has to have a status of 200 to
// 399, of hello it has to be one to the first frame of a long connection.
const (
	ViaTCP   Via = "tcp"
	ViaTLS   Via = "tls"
	ViaHTTP  Via = "http"
	ViaHTTPS Via = "https"
	ViaHello Via = "hello"
	ViaNone  Via = "none" // always taken to be healthy
)

// Node is a DNS or ids node.
type Node struct {
	Name    string    `json:"name"`
	Address string    `json:"address"` // DNS: host:port of port 53's twin; ids: host:port
	HTTP    string    `json:"http"`    // DNS: host:port of HTTPDNS
	Admin   string    `json:"admin"`
	Key     PublicKey `json:"key"`
}

// Endpoints are the client-facing listeners, each an IP address and port; an
// invalid AddrPort means the service is not offered.
type Endpoints struct {
	Long  netip.AddrPort `json:"long"`
	Short netip.AddrPort `json:"short"`
	Web   netip.AddrPort `json:"web"`
	// Named are those of a stand-alone DNS server's names.
	Named []Listener `json:"named,omitempty"`
}

// Listener is where a name leads: one address, or one of each family. A port of
// 0 is unstated: DNS answers do without.
type Listener struct {
	Name    Service        `json:"name"`
	Address netip.AddrPort `json:"address"`
	Other   netip.AddrPort `json:"other,omitzero"` // of the other family; invalid for none
}

// Equal says whether two members listen alike.
func (e Endpoints) Equal(o Endpoints) bool {
	return e.Long == o.Long && e.Short == o.Short && e.Web == o.Web && slices.Equal(e.Named, o.Named)
}

// Other returns the address of the other family that a name leads to, if any.
func (e Endpoints) Other(s Service) netip.AddrPort {
	for i := range e.Named {
		if e.Named[i].Name == s {
			return e.Named[i].Other
		}
	}
	return netip.AddrPort{}
}

// Service names one of the client-facing services. It is also the label in
// front of the zone: long.demo.test.
type Service string

// The services.
const (
	Long  Service = "long"
	Short Service = "short"
	Web   Service = "web"
)

// Of returns the address of a service and whether it is offered.
func (e Endpoints) Of(s Service) (netip.AddrPort, bool) {
	var a netip.AddrPort
	switch s {
	case Long:
		a = e.Long
	case Short:
		a = e.Short
	case Web:
		a = e.Web
	default:
		for i := range e.Named {
			if e.Named[i].Name == s {
				a = e.Named[i].Address
			}
		}
	}
	return a, a.IsValid()
}

// Place is where something is. Latitude and Longitude are degrees, WGS 84.
type Place struct {
	City      string `json:"city,omitempty"`
	Country   string `json:"country,omitempty"`   // ISO 3166-1 alpha-2, upper case
	Continent string `json:"continent,omitempty"` // AF AN AS EU NA OC SA
	// Subdivision of the country, ISO 3166-2: CN-SH.
	Subdivision string  `json:"subdivision,omitempty"`
	Latitude    float64 `json:"lat"`
	Longitude   float64 `json:"lon"`
}

// Prefix gives the place and carrier of a range of addresses.
type Prefix struct {
	Prefix netip.Prefix `json:"prefix"`
	Place  Place        `json:"place"`
	ASN    uint32       `json:"asn,omitempty"`
}

// Carrier groups autonomous systems under one name, such as "cmcc".
type Carrier struct {
	Name string   `json:"name"`
	ASNs []uint32 `json:"asns"`
}

// Steering holds the defaults of every answer.
type Steering struct {
	TTL     uint32  `json:"ttl"`     // seconds, of steered answers
	Answers int     `json:"answers"` // endpoints in one answer
	AllDown AllDown `json:"allDown"` // what the built-in rule answers when health leaves nobody; never Next
}

// PublicKey is an ed25519 public key, base64 (standard, padded) in text.
type PublicKey []byte

// MarshalText writes base64.
func (k PublicKey) MarshalText() ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString(k)), nil
}

// UnmarshalText reads base64 of 32 bytes; the empty text is no key.
func (k *PublicKey) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*k = nil
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(string(b))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return fmt.Errorf("public key %q: want base64 of %d bytes", b, ed25519.PublicKeySize)
	}
	*k = raw
	return nil
}

func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k) }

// Region returns the region of that ID.
func (w *World) Region(id ID) (*Region, bool) {
	for i := range w.Regions {
		if w.Regions[i].ID == id {
			return &w.Regions[i], true
		}
	}
	return nil, false
}

// POP returns the POP of that ID.
func (w *World) POP(id POPID) (*POP, bool) {
	for i := range w.POPs {
		if w.POPs[i].ID == id {
			return &w.POPs[i], true
		}
	}
	return nil, false
}

// SegmentOf returns the segment that holds the owner.
func (w *World) SegmentOf(u UIN) (Segment, bool) {
	lo, hi := 0, len(w.Segments)
	for lo < hi {
		m := (lo + hi) / 2
		if w.Segments[m].Last < u {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo < len(w.Segments) && w.Segments[lo].Contains(u) {
		return w.Segments[lo], true
	}
	return Segment{}, false
}

// TermOf returns the term of a home; self is this world's own hash.
func (w *World) TermOf(home ID, self Hash) (Term, bool) {
	r, ok := w.Region(home)
	if !ok {
		return Term{}, false
	}
	raised := self
	if r.Acting.Raised != nil {
		raised = *r.Acting.Raised
	}
	return Term{Counter: r.Acting.Counter, Raised: raised.Short()}, true
}
