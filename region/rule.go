package region

import "net/netip"

// Rule is one of the operator's steering rules: the first whose Match holds
// gives the answer. The rules are data here and are evaluated by dns/steer, so
// that a world can be checked and signed without the code that steers.
//
// Scope: a rule that looks at the client's address was consulted even when it
// did not match, and narrows the ECS scope of the answer.
type Rule struct {
	Name  string `json:"name"`
	Match Match  `json:"match"`
	Act   Act    `json:"act"`
}

// Match holds when every field that is set holds; an empty Match always holds.
type Match struct {
	All []Match `json:"all,omitempty"`
	Any []Match `json:"any,omitempty"`
	Not *Match  `json:"not,omitempty"`

	Services   []Service      `json:"services,omitempty"`
	UINs       []UINRange     `json:"uins,omitempty"`
	Percent    *Percent       `json:"percent,omitempty"`
	Versions   []VersionRange `json:"versions,omitempty"`
	Platforms  []string       `json:"platforms,omitempty"`
	Prefixes   []netip.Prefix `json:"prefixes,omitempty"`
	Countries  []string       `json:"countries,omitempty"`
	Continents []string       `json:"continents,omitempty"`
	ASNs       []uint32       `json:"asns,omitempty"`
	Carriers   []string       `json:"carriers,omitempty"` // names of World.Carriers
	Homes      []ID           `json:"homes,omitempty"`    // home region of the UIN
	Acting     []ID           `json:"acting,omitempty"`   // region that acts for that home

	Cities       []string `json:"cities,omitempty"`       // as the geo database names them in English
	Subdivisions []string `json:"subdivisions,omitempty"` // ISO 3166-2, such as CN-SH

	HealthyPOPs    []POPID `json:"healthyPops,omitempty"`    // one of them at least is healthy
	HealthyRegions []ID    `json:"healthyRegions,omitempty"` // likewise
}

// UINRange is First to Last, both included.
type UINRange struct {
	First UIN `json:"first"`
	Last  UIN `json:"last"`
}

// Percent selects a stable share of the UINs: FNV-1a 64 of Salt and the UIN,
// modulo 10,000, below Below. Raising Below keeps everybody already selected.
type Percent struct {
	Salt  string `json:"salt"`
	Below uint32 `json:"below"` // hundredths of a percent, 0 to 10,000
}

// VersionRange is From to To, both included; To 0 is no upper bound.
type VersionRange struct {
	From uint32 `json:"from"`
	To   uint32 `json:"to"`
}

// Act is the answer of a rule. POPs and Regions name the pool in order of
// preference, or Pool does when more than the order is to be said; without any
// of them the pool is the built-in rule's: all POPs, then the acting region,
// then its backups. Members that cannot take the client are left out; when none
// is left AllDown says what happens.
type Act struct {
	POPs    []POPID      `json:"pops,omitempty"`
	Regions []ID         `json:"regions,omitempty"`
	Pool    []PoolMember `json:"pool,omitempty"`    // instead of the two
	Nearest bool         `json:"nearest,omitempty"` // the same as OrderNearest
	TTL     uint32       `json:"ttl,omitempty"`     // seconds; 0 is the world's default

	Order Order `json:"order,omitempty"` // inside a tier
	// Band makes members that are at most so much farther than the nearest equally
	// far: kilometres, or milliseconds when the order is OrderMeasured. They share the
	// clients by weight.
	Band   uint32 `json:"band,omitempty"`
	Sticky Sticky `json:"sticky,omitempty"`
	// Spill is the load, in hundredths of a percent of a member's capacity (Users),
	// from which on it gets fewer clients; at its capacity it gets only those whom
	// nobody else takes. 0 is no limit.
	Spill   uint32  `json:"spill,omitempty"`
	AllDown AllDown `json:"allDown,omitempty"` // when health leaves nobody of the pool
}

// PoolMember is a POP or a region in a pool.
type PoolMember struct {
	POP    POPID  `json:"pop,omitempty"`    // either this
	Region ID     `json:"region,omitempty"` // or this
	Tier   uint32 `json:"tier,omitempty"`   // lower ones first, whatever the order
	Weight uint32 `json:"weight,omitempty"` // its part of the clients among equals; 0 is 1
	Drain  uint32 `json:"drain,omitempty"`  // hundredths of a percent of its clients that it does not get
}

// MaxWeight of a pool's member.
const MaxWeight = 1000

// Order is how the members of a pool are ordered inside a tier.
type Order string

// The orders. Empty is OrderWritten, or for the built-in pool
// OrderNearest.
const (
	OrderWritten  Order = "written"  // as the rule has them
	OrderNearest  Order = "nearest"  // by distance on the map from the client
	OrderMeasured Order = "measured" // by the estimated round trip through the member to the acting region, from network coordinates
	OrderWeighted Order = "weighted" // each client its own order, by weight
)

// Sticky is what decides which of several equal members a client gets, always
// the same one: weights, drain and spill go by it.
type Sticky string

// Values of Sticky.
const (
	StickyUIN    Sticky = "uin"    // the UIN, else the network; also the meaning of the empty string
	StickyPrefix Sticky = "prefix" // the client's network: IPv4 /24, IPv6 /56
)

// AllDown is what a rule answers when health leaves nobody of its pool.
type AllDown string

// The policies.
const (
	Next          AllDown = "next"            // goes on with the next rule; also the meaning of the empty string
	LastKnownGood AllDown = "last-known-good" // who was healthy last, else as Next
	Everything    AllDown = "everything"      // all as if they were healthy
	Nothing       AllDown = "nothing"         // no endpoints, and no further rule
)
