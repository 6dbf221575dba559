package steer

import (
	"cmp"
	"slices"

	"github.com/homing-im/homing/region"
)

// Candidate is a member of a rule's pool, with what became of it.
type Candidate struct {
	Endpoint
	Healthy bool   `json:"healthy"`
	Skipped string `json:"skipped,omitempty"` // why it is not in the answer; empty when it is
}

// Reasons for which a candidate is skipped.
const (
	skipUnknown   = "not in this world"
	skipService   = "does not offer the service"
	skipDrain     = "drains"
	skipUnhealthy = "not healthy"
	skipFull      = "the answer is full"
)

// notConsulted is the KM of a candidate whose distance had no say.
const notConsulted = -1

// poolOf returns the pool of a rule in order of preference.
func (d *decision) poolOf(a *region.Act) []Candidate {
	if len(a.POPs) == 0 && len(a.Regions) == 0 {
		return d.builtInPool()
	}
	pool := make([]Candidate, 0, len(a.POPs)+len(a.Regions))
	for _, id := range a.POPs {
		if p, ok := d.view.World.POP(id); ok {
			pool = append(pool, d.pop(p, a.Nearest))
		} else {
			pool = append(pool, Candidate{Endpoint: Endpoint{POP: id, KM: notConsulted}, Skipped: skipUnknown})
		}
	}
	for _, id := range a.Regions {
		pool = append(pool, d.region(id, a.Nearest))
	}
	if a.Nearest {
		d.consultFacts()
		slices.SortStableFunc(pool, byDistance)
	}
	return pool
}

// builtInPool is the pool of the built-in rule in order of preference.
func (d *decision) builtInPool() []Candidate {
	d.consultFacts()
	w := d.view.World
	pool := make([]Candidate, 0, len(w.POPs)+len(w.Regions))
	for i := range w.POPs {
		pool = append(pool, d.pop(&w.POPs[i], true))
	}
	slices.SortStableFunc(pool, byDistance)
	if acting, ok := w.Region(d.answer.Acting); ok {
		pool = append(pool, d.region(acting.ID, true))
		for _, backup := range acting.Backups {
			pool = append(pool, d.region(backup, true))
		}
	}
	return pool
}

func (d *decision) pop(p *region.POP, distance bool) Candidate {
	c := Candidate{Endpoint: Endpoint{POP: p.ID, KM: notConsulted}, Healthy: d.health.POP(p.ID)}
	if distance {
		c.KM = d.km(p.Place)
	}
	addr, offered := p.Serves.Of(d.client.Service)
	c.Address = addr
	switch {
	case !offered:
		c.Skipped = skipService
	case p.Drain:
		c.Skipped = skipDrain
	}
	return c
}

func (d *decision) region(id region.ID, distance bool) Candidate {
	r, ok := d.view.World.Region(id)
	if !ok {
		return Candidate{Endpoint: Endpoint{Region: id, KM: notConsulted}, Skipped: skipUnknown}
	}
	c := Candidate{Endpoint: Endpoint{Region: id, KM: notConsulted}, Healthy: d.health.Region(id)}
	if distance {
		c.KM = d.km(r.Place)
	}
	addr, offered := r.Serves.Of(d.client.Service)
	c.Address = addr
	if !offered {
		c.Skipped = skipService
	}
	return c
}

// byDistance orders by distance; then POPs go before regions, because they
// keep a client when a region dies; then by ID.
func byDistance(a, b Candidate) int {
	return cmp.Or(
		cmp.Compare(a.KM, b.KM),
		cmp.Compare(a.Region, b.Region), // empty for POPs
		cmp.Compare(a.POP, b.POP),
	)
}
