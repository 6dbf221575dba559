package steer

import (
	"net/netip"
	"slices"

	"github.com/homing-im/homing/region"
)

// Names of the answers that no rule of the operator gave.
const (
	BuiltIn = "built-in" // the last rule
	AllDown = "all-down" // the all-down policy: health left nobody
)

// Values of a world's Steering.AllDown.
const (
	Everything = "everything" // answer as if all were healthy; also the meaning of the empty string
	Nothing    = "nothing"    // answer without endpoints
)

// What a world that states none gets.
const (
	DefaultTTL     = 10 // seconds; a dead POP leaves caches that long after it left the answers
	DefaultAnswers = 4  // endpoints; A records of them fit any UDP answer
)

// Client is all that is known about who asks. The zero value of a field is "not
// stated", and conditions on what is not stated do not hold.
type Client struct {
	Service  region.Service
	UIN      region.UIN
	Version  uint32
	Platform string
	// Prefix is the client's network: its address with all bits, or as much of it
	// as a resolver told (RFC 7871). The client is steered as its first address.
	Prefix netip.Prefix
	Facts  Facts
}

// Facts is what a geo database knows about an address.
type Facts struct {
	Prefix netip.Prefix // around the address; all of it has these very facts
	Known  bool         // the coordinates of Place are known
	Place  region.Place // names in it are empty when unknown
	ASN    uint32       // 0 when unknown
}

// Endpoint is one place to connect to: a POP, or a region's own listener.
type Endpoint struct {
	POP     region.POPID   `json:"pop,omitempty"`    // empty for a region's listener
	Region  region.ID      `json:"region,omitempty"` // empty for a POP
	Address netip.AddrPort `json:"address"`
	KM      float64        `json:"km"` // whole kilometres from the client, or from the acting region when its place is unknown; -1 when distance had no say
}

// Name is the ID of the POP or region.
func (e Endpoint) Name() string {
	if e.POP != "" {
		return string(e.POP)
	}
	return string(e.Region)
}

// Answer says where to connect, in order of preference.
type Answer struct {
	Home      region.ID  `json:"home"`   // of the UIN; for a newcomer the region to register in
	Acting    region.ID  `json:"acting"` // for that home
	Endpoints []Endpoint `json:"endpoints"`
	TTL       uint32     `json:"ttl"`   // seconds
	Scope     uint8      `json:"scope"` // leading bits of the client's address that the answer holds for (RFC 7871)
	Rule      string     `json:"rule"`  // name of the rule that answered, [BuiltIn] or [AllDown]
	Trace     []Step     `json:"trace,omitempty"`
}

// Steer answers where the client shall connect, with the trace of how it was
// found. It never fails: a world without anything to offer gives an answer
// without endpoints. It is safe for concurrent use and keeps nothing.
func Steer(v *region.View, h Health, c Client) Answer { return decide(v, h, c, true) }

// Decide is [Steer] without the trace, for the serving path.
func Decide(v *region.View, h Health, c Client) Answer { return decide(v, h, c, false) }

// decision is the state of one call.
type decision struct {
	view   *region.View
	health Health
	client Client
	addr   netip.Addr // the client as one address; invalid when not stated
	trace  bool

	placed bool // the UIN has a home
	answer Answer
}

func decide(v *region.View, h Health, c Client, trace bool) Answer {
	d := &decision{view: v, health: h, client: c, trace: trace}
	if c.Prefix.IsValid() {
		d.addr = c.Prefix.Masked().Addr().Unmap()
	}
	d.locate()
	rules := v.World.Rules
	for i := range rules {
		if d.try(&rules[i]) {
			return d.answer
		}
	}
	d.builtIn()
	return d.answer
}

// locate finds home and acting region of the client.
func (d *decision) locate() {
	if p, ok := d.view.Placement(d.client.UIN); ok && d.client.UIN != 0 {
		d.placed = true
		d.answer.Home, d.answer.Acting = p.Home, p.Acting
	} else if d.answer.Home = d.newcomersHome(); d.answer.Home != "" {
		d.answer.Acting, _, _ = d.view.Acting(d.answer.Home)
	}
	if d.trace {
		d.step(Step{Rule: "home", Matched: d.placed, Why: d.describeHome()})
	}
}

// newcomersHome is the nearest region whose acting region is healthy; when
// none is, the nearest.
func (d *decision) newcomersHome() region.ID {
	d.consultFacts()
	var best region.ID
	bestHealthy, bestKM := false, 0.0
	regions := d.view.World.Regions
	for i := range regions {
		r := &regions[i]
		acting, _, _ := d.view.Acting(r.ID)
		healthy, km := d.health.Region(acting), 0.0
		if d.client.Facts.Known {
			km = KM(d.client.Facts.Place, r.Place)
		}
		nearer := km < bestKM || (km == bestKM && d.client.Facts.Known && r.ID < best)
		if best == "" || (healthy && !bestHealthy) || (healthy == bestHealthy && nearer) {
			best, bestHealthy, bestKM = r.ID, healthy, km
		}
	}
	return best
}

// try answers by the rule and says whether it could.
func (d *decision) try(r *region.Rule) bool {
	if why, at := d.match(&r.Match); why != hit {
		if d.trace {
			d.step(Step{Rule: r.Name, Why: d.describe(why, at)})
		}
		return false
	}
	pool := d.poolOf(&r.Act)
	return d.answerFrom(r.Name, pool, r.Act.TTL, false)
}

// builtIn answers by the last rule, or else by the all-down policy.
func (d *decision) builtIn() {
	pool := d.builtInPool()
	if d.answerFrom(BuiltIn, pool, 0, false) {
		return
	}
	if d.view.World.Steering.AllDown == Nothing {
		d.answer.Rule, d.answer.TTL = AllDown, d.ttl(0)
		if d.trace {
			d.step(Step{Rule: AllDown, Matched: true, Answered: true, Why: "health leaves nobody, and the world's policy says nothing"})
		}
		return
	}
	d.answer.Rule, d.answer.TTL = AllDown, d.ttl(0) // also when there is truly nobody
	d.answerFrom(AllDown, pool, 0, true)
}

// answerFrom answers with the pool's usable members, the unhealthy ones
// included when anyway is set, and says whether there were any.
func (d *decision) answerFrom(rule string, pool []Candidate, ttl uint32, anyway bool) bool {
	limit := d.view.World.Steering.Answers
	if limit <= 0 {
		limit = DefaultAnswers
	}
	var chosen []Endpoint
	for i := range pool {
		c := &pool[i]
		if c.Skipped == "" && !c.Healthy && !anyway {
			c.Skipped = skipUnhealthy
		} else if anyway && c.Skipped == skipUnhealthy {
			c.Skipped = ""
		}
		if c.Skipped != "" {
			continue
		}
		if len(chosen) == limit {
			c.Skipped = skipFull
			continue
		}
		if chosen == nil {
			chosen = make([]Endpoint, 0, min(limit, len(pool)))
		}
		chosen = append(chosen, c.Endpoint)
	}
	if d.trace {
		d.step(Step{Rule: rule, Matched: true, Answered: len(chosen) > 0, Why: describePool(rule, len(chosen), len(pool)), Candidates: slices.Clone(pool)})
	}
	if len(chosen) == 0 {
		return false
	}
	d.answer.Rule, d.answer.Endpoints, d.answer.TTL = rule, chosen, d.ttl(ttl)
	return true
}

func (d *decision) ttl(ofRule uint32) uint32 {
	switch {
	case ofRule != 0:
		return ofRule
	case d.view.World.Steering.TTL != 0:
		return d.view.World.Steering.TTL
	}
	return DefaultTTL
}
