package steer

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/homing-im/homing/region"
)

// Names of the answers that no rule of the operator gave.
const (
	BuiltIn = "built-in" // the last rule
	AllDown = "all-down" // the all-down policy: health left nobody
)

// Policies for when health leaves nobody. For the built-in rule the empty string
// means Everything.
const (
	LastKnownGood = region.LastKnownGood // who was healthy last
	Everything    = region.Everything    // answer as if all were healthy
	Nothing       = region.Nothing       // answer without endpoints
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
	Other   netip.AddrPort `json:"other,omitzero"` // of the other family, where a name of a stand-alone server has one
	KM      float64        `json:"km"`             // whole kilometres from the client, or from the acting region when its place is unknown; -1 when distance had no say
	Millis  uint32         `json:"ms,omitempty"`   // estimated round trip to the acting region through it, when the order is by that
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
	// Fallback is the policy by which the rule answered although health left nobody;
	// empty otherwise.
	Fallback region.AllDown `json:"fallback,omitempty"`
	Trace    []Step         `json:"trace,omitempty"`
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

	measures Measures // nil when the health measures nothing

	pool   []Candidate // memory for the next pool
	chosen []Endpoint  // and for the answer's endpoints

	placed bool // the UIN has a home
	answer Answer
}

func decide(v *region.View, h Health, c Client, trace bool) Answer {
	d := &decision{trace: trace}
	return d.decide(v, h, c, nil)
}

// Decider is [Decide] for who asks often: it keeps its memory from one call to
// the next, so that it allocates none, and what it knows of the newest world's
// rules. It is not safe for concurrent use. The zero value is ready.
type Decider struct {
	d     decision
	of    *region.World
	rules []glimpse // of the world's rules
}

// Decide is [Decide], but for that the answer's endpoints are overwritten by the
// next call.
func (x *Decider) Decide(v *region.View, h Health, c Client) Answer {
	if x.of != v.World {
		x.of = v.World
		x.rules = glimpses(v.World.Rules)
	}
	return x.d.decide(v, h, c, x.rules)
}

// decide answers. The glimpses may be nil.
func (d *decision) decide(v *region.View, h Health, c Client, rules []glimpse) Answer {
	d.view, d.health, d.client, d.placed, d.answer, d.addr = v, h, c, false, Answer{}, netip.Addr{}
	d.measures, _ = h.(Measures)
	if c.Prefix.IsValid() {
		d.addr = c.Prefix.Masked().Addr().Unmap()
	}
	d.locate()
	for i := range v.World.Rules {
		if rules != nil && rules[i].misses(d) {
			continue
		}
		if d.try(&v.World.Rules[i]) {
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
	held := ""
	if d.trace {
		held = d.describeHit(&r.Match)
	}
	pool := d.poolOf(&r.Act)
	policy := region.AllDown("")
	if r.Act.AllDown != region.Next && allDown(pool) {
		policy = r.Act.AllDown
	}
	if policy == LastKnownGood {
		d.lastKnownGood(pool)
	}
	return d.answerFrom(r.Name, held, pool, r.Act.TTL, policy)
}

// allDown says whether some could take the client but for their health, which
// nobody has.
func allDown(pool []Candidate) bool {
	some := false
	for i := range pool {
		if c := &pool[i]; c.Skipped == "" {
			if c.Healthy {
				return false
			}
			some = true
		}
	}
	return some
}

// builtIn answers by the last rule, or else by the all-down policy.
func (d *decision) builtIn() {
	pool := d.poolOf(&builtInAct)
	if d.answerFrom(BuiltIn, "", pool, 0, "") {
		return
	}
	for i := range pool {
		if pool[i].Skipped == skipUnhealthy {
			pool[i].Skipped = ""
		}
	}
	d.answer.Rule, d.answer.TTL = AllDown, d.ttl(0) // also when there is truly nobody
	policy := cmp.Or(d.view.World.Steering.AllDown, Everything)
	if policy == LastKnownGood {
		good := slices.Clone(pool)
		if d.lastKnownGood(good) {
			pool = good
		} else {
			policy = Everything // there is no further rule
		}
	}
	if !d.answerFrom(AllDown, "", pool, 0, policy) {
		d.answer.Fallback = policy
	}
}

// answerFrom answers with the pool's usable members, by a policy when health
// leaves nobody, and says whether that is the answer.
func (d *decision) answerFrom(rule, held string, pool []Candidate, ttl uint32, policy region.AllDown) bool {
	limit := d.view.World.Steering.Answers
	if limit <= 0 {
		limit = DefaultAnswers
	}
	anyway := policy == LastKnownGood || policy == Everything
	chosen := d.chosen[:0]
	for i := range pool {
		c := &pool[i]
		if c.Skipped == "" && !c.Healthy && !anyway {
			c.Skipped = skipUnhealthy
		}
		if c.Skipped != "" {
			continue
		}
		if len(chosen) == limit {
			c.Skipped = skipFull
			continue
		}
		if cap(chosen) == 0 {
			chosen = make([]Endpoint, 0, min(limit, len(pool)))
		}
		chosen = append(chosen, c.Endpoint)
	}
	answered := len(chosen) > 0 || policy == Nothing
	if d.trace {
		d.step(Step{Rule: rule, Matched: true, Answered: answered, Why: describePool(held, policy, len(chosen), len(pool)), Candidates: slices.Clone(pool)})
	}
	if !answered {
		return false
	}
	d.answer.Rule, d.answer.TTL, d.answer.Fallback = rule, d.ttl(ttl), policy
	if len(chosen) > 0 {
		d.chosen, d.answer.Endpoints = chosen, chosen
	}
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
