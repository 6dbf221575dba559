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
// preference; both empty means "as the built-in rule would". Unhealthy members
// are left out; when none is left the next rule is tried, and the built-in rule
// is the last.
type Act struct {
	POPs    []POPID `json:"pops,omitempty"`
	Regions []ID    `json:"regions,omitempty"`
	Nearest bool    `json:"nearest,omitempty"` // order the pool by distance instead of as written
	TTL     uint32  `json:"ttl,omitempty"`     // seconds; 0 is the world's default
}
