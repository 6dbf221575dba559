package steer

import (
	"cmp"
	"slices"

	"github.com/homing-im/homing/region"
)

// Candidate is a member of a rule's pool, with what became of it.
type Candidate struct {
	Endpoint
	Tier    uint32 `json:"tier,omitempty"`
	Healthy bool   `json:"healthy"`
	Load    uint32 `json:"load,omitempty"`    // hundredths of a percent of its capacity, when that had a say
	Spilled bool   `json:"spilled,omitempty"` // moved behind the others for its load
	Skipped string `json:"skipped,omitempty"` // why it is not in the answer; empty when it is

	at     *region.Place // nil for one that is not in this world
	drain  uint32        // share of the clients it does not get
	weight uint32
	far    uint32 // what the order goes by
	luck   uint64 // among equals
}

func (c *Candidate) site() Site { return Site{POP: c.POP, Region: c.Region} }

// Reasons for which a candidate is skipped.
const (
	skipUnknown    = "not in this world"
	skipService    = "does not offer the service"
	skipDrain      = "drains"
	skipDrainShare = "drains, and this client is of the share that goes"
	skipUnhealthy  = "not healthy"
	skipOlder      = "not healthy, and went down earlier"
	skipFull       = "the answer is full"
)

// notConsulted is the KM of a candidate whose distance had no say.
const notConsulted = -1

// kmPerMilli is how far a round trip gets in a millisecond: light in glass
// makes 200 km, there and back.
const kmPerMilli = 100

var builtInAct = region.Act{Order: region.OrderNearest}

// poolOf returns the pool of a rule in order of preference.
func (d *decision) poolOf(a *region.Act) []Candidate {
	pool, order := d.members(a)
	d.pool = pool // for the next one, when this one is done with
	if order == region.OrderNearest || order == region.OrderMeasured {
		d.consultFacts()
		for i := range pool {
			d.measure(&pool[i], order)
		}
	}
	d.drain(pool, a.Sticky)
	slices.SortStableFunc(pool, func(a, b Candidate) int {
		if c := cmp.Compare(a.Tier, b.Tier); c != 0 || (order != region.OrderNearest && order != region.OrderMeasured) {
			return c
		}
		// POPs go before regions, because they keep a client when a region dies.
		return cmp.Or(cmp.Compare(a.far, b.far), byName(a, b))
	})
	if order != region.OrderWritten && balances(a) {
		// Who is out begins no band.
		slices.SortStableFunc(pool, func(a, b Candidate) int { return behind(a.Skipped != "", b.Skipped != "") })
		out := slices.IndexFunc(pool, func(c Candidate) bool { return c.Skipped != "" })
		if out < 0 {
			out = len(pool)
		}
		d.balance(pool[:out], a)
	}
	if a.Spill > 0 {
		d.spill(pool, a)
	}
	return pool
}

// members are those of a rule's pool as it is written, and the order to bring
// them into.
func (d *decision) members(a *region.Act) ([]Candidate, region.Order) {
	order := a.Order
	if a.Nearest {
		order = region.OrderNearest
	}
	n := len(a.POPs) + len(a.Regions) + len(a.Pool)
	if n == 0 {
		return d.builtInMembers(), cmp.Or(order, region.OrderNearest)
	}
	pool := slices.Grow(d.pool[:0], n)
	for _, id := range a.POPs {
		pool = append(pool, d.popOf(id))
	}
	for _, id := range a.Regions {
		pool = append(pool, d.region(id))
	}
	for i := range a.Pool {
		m := &a.Pool[i]
		var c Candidate
		if m.POP != "" {
			c = d.popOf(m.POP)
		} else {
			c = d.region(m.Region)
		}
		c.Tier, c.weight, c.drain = m.Tier, m.Weight, max(c.drain, m.Drain)
		pool = append(pool, c)
	}
	return pool, cmp.Or(order, region.OrderWritten)
}

// builtInMembers are all POPs, and behind them the acting region and its
// backups, one by one.
func (d *decision) builtInMembers() []Candidate {
	w := d.view.World
	pool := slices.Grow(d.pool[:0], len(w.POPs)+len(w.Regions))
	for i := range w.POPs {
		pool = append(pool, d.pop(&w.POPs[i]))
	}
	if acting, ok := w.Region(d.answer.Acting); ok {
		c := d.region(acting.ID)
		c.Tier = 1
		pool = append(pool, c)
		for _, backup := range acting.Backups {
			c := d.region(backup)
			c.Tier = pool[len(pool)-1].Tier + 1
			pool = append(pool, c)
		}
	}
	return pool
}

func (d *decision) popOf(id region.POPID) Candidate {
	if p, ok := d.view.World.POP(id); ok {
		return d.pop(p)
	}
	return Candidate{Endpoint: Endpoint{POP: id, KM: notConsulted}, Skipped: skipUnknown}
}

func (d *decision) pop(p *region.POP) Candidate {
	c := Candidate{Endpoint: Endpoint{POP: p.ID, KM: notConsulted}, Healthy: d.health.POP(p.ID), at: &p.Place, drain: p.DrainShare}
	addr, offered := p.Serves.Of(d.client.Service)
	c.Address, c.Other = addr, p.Serves.Other(d.client.Service)
	switch {
	case !offered:
		c.Skipped = skipService
	case p.Drain:
		c.Skipped = skipDrain
	}
	return c
}

func (d *decision) region(id region.ID) Candidate {
	r, ok := d.view.World.Region(id)
	if !ok {
		return Candidate{Endpoint: Endpoint{Region: id, KM: notConsulted}, Skipped: skipUnknown}
	}
	c := Candidate{Endpoint: Endpoint{Region: id, KM: notConsulted}, Healthy: d.health.Region(id), at: &r.Place}
	addr, offered := r.Serves.Of(d.client.Service)
	c.Address = addr
	if !offered {
		c.Skipped = skipService
	}
	return c
}

// measure says how far a candidate is. Measured, it is the round trip from the
// client through the candidate to the acting region: as the map has it up to
// the candidate, where nobody has measured, and from there as the nodes have
// measured it among themselves, or else by the map as well.
func (d *decision) measure(c *Candidate, order region.Order) {
	if c.at == nil {
		return
	}
	c.KM = d.km(*c.at)
	c.far = uint32(c.KM)
	if order != region.OrderMeasured {
		return
	}
	onwards, known := uint32(0), c.Region != "" && c.Region == d.answer.Acting
	if !known && d.measures != nil {
		onwards, known = d.measures.RTT(Path{From: c.site(), To: d.answer.Acting})
	}
	if acting, ok := d.view.World.Region(d.answer.Acting); ok && !known {
		onwards = millis(KM(*c.at, acting.Place))
	}
	c.Millis = millis(c.KM) + onwards
	c.far = c.Millis
}

// millis is the round trip over a distance.
func millis(km float64) uint32 { return (uint32(km) + kmPerMilli/2) / kmPerMilli }

// drain takes out the members of whose drain share the client is.
func (d *decision) drain(pool []Candidate, by region.Sticky) {
	for i := range pool {
		if c := &pool[i]; c.Skipped == "" && c.drain > 0 && place("drain", c.site(), d.who(by)) < c.drain {
			c.Skipped = skipDrainShare
		}
	}
}

// balance orders those who are equal by the client's luck: all of a tier when
// the order is by weight, else those who are at most a band farther than the
// nearest of them.
func (d *decision) balance(pool []Candidate, a *region.Act) {
	for len(pool) > 0 {
		n := 1
		for n < len(pool) && pool[n].Tier == pool[0].Tier && pool[n].far-pool[0].far <= a.Band {
			n++
		}
		if n > 1 {
			who := d.who(a.Sticky)
			for i := range n {
				pool[i].luck = luck(pool[i].site(), pool[i].weight, who)
			}
			slices.SortFunc(pool[:n], func(a, b Candidate) int { return cmp.Or(cmp.Compare(b.luck, a.luck), byName(a, b)) })
		}
		pool = pool[n:]
	}
}

// spill moves members that are loaded behind the others for a part of the
// clients: none at the limit, all at the capacity, in between as far as it is.
// A limit that moved all of them at once would swing to and fro.
func (d *decision) spill(pool []Candidate, a *region.Act) {
	if d.measures == nil {
		return
	}
	for i := range pool {
		c := &pool[i]
		load, ok := d.measures.Load(c.site())
		if !ok || c.Skipped != "" {
			continue
		}
		c.Load = load
		if share := shed(load, a.Spill); share > 0 {
			c.Spilled = place("spill", c.site(), d.who(a.Sticky)) < share
		}
	}
	slices.SortStableFunc(pool, func(a, b Candidate) int { return behind(a.Spilled, b.Spilled) })
}

// behind orders those of whom something is true behind the others.
func behind(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// shed is the part of its clients that a member at a load gives to others, all
// in hundredths of a percent.
func shed(load, limit uint32) uint32 {
	const all = 10_000
	switch {
	case load >= all:
		return all
	case load <= limit:
		return 0
	}
	return (load - limit) * all / (all - limit)
}

// lastKnownGood takes out all but those who were healthy last. It says whether
// any of them ever was.
func (d *decision) lastKnownGood(pool []Candidate) bool {
	newest := int64(0)
	fell := func(c *Candidate) int64 {
		if d.measures == nil || c.Skipped != "" {
			return 0
		}
		at, _ := d.measures.Fell(c.site())
		return at
	}
	for i := range pool {
		newest = max(newest, fell(&pool[i]))
	}
	for i := range pool {
		if c := &pool[i]; c.Skipped == "" {
			if at := fell(c); at == 0 || at < newest-sameOutage {
				c.Skipped = skipOlder
			}
		}
	}
	return newest > 0
}

// sameOutage is how many seconds lie between the falls that one cause makes, as
// checks in turn see them.
const sameOutage = 10

// byName orders regions behind POPs, and each by ID.
func byName(a, b Candidate) int {
	return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.POP, b.POP))
}
