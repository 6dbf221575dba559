package accel

import (
	"cmp"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"context"

	"github.com/homing-im/homing/region"
)

// probes measure the way to each region: the time of a TCP connect to its long
// listener, smoothed. They decide where a request without a UIN goes, and
// nothing else.
type probes struct {
	p *POP

	mu sync.Mutex
	of map[region.ID]probe
}

type probe struct {
	rtt  time.Duration // smoothed; 0 when never reached
	err  error         // of the newest probe
	when time.Time
}

func newProbes(p *POP) *probes { return &probes{p: p, of: make(map[region.ID]probe)} }

// run probes all regions at once, again after each interval and whenever the
// world changes, until the POP closes.
func (pr *probes) run() {
	for {
		changed := pr.p.o.World.Changed()
		pr.all()
		if !pause(pr.p.ctx, changed, pr.p.o.Probe) {
			return
		}
	}
}

func (pr *probes) all() {
	v := pr.p.o.World.View()
	if v == nil {
		return
	}
	var wg sync.WaitGroup
	for _, r := range v.World.Regions {
		wg.Go(func() {
			rtt, err := pr.measure(r.ID)
			pr.record(r.ID, rtt, err)
		})
	}
	wg.Wait()
	pr.mu.Lock()
	defer pr.mu.Unlock()
	for id := range pr.of {
		if _, ok := v.World.Region(id); !ok {
			delete(pr.of, id)
			pr.p.m.rtt.DeleteLabelValues(string(id))
		}
	}
}

func (pr *probes) measure(id region.ID) (time.Duration, error) {
	addr, _, err := pr.p.addressOf(id, region.Long)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(pr.p.ctx, 3*time.Second)
	defer cancel()
	start := time.Now()
	c, err := pr.p.dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return 0, err
	}
	rtt := time.Since(start)
	if h, err := probeHeader(); err == nil {
		_, _ = c.Write(h) // says that nobody is behind this connection
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	return rtt, c.Close()
}

func (pr *probes) record(id region.ID, rtt time.Duration, err error) {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	b := pr.of[id]
	b.err, b.when = err, time.Now()
	switch {
	case err != nil:
	case b.rtt == 0:
		b.rtt = rtt
	default:
		b.rtt += (rtt - b.rtt) / 4
	}
	pr.of[id] = b
	up := 0.0
	if err == nil {
		up = 1
		pr.p.m.rtt.WithLabelValues(string(id)).Set(b.rtt.Seconds())
	}
	pr.p.m.regionUp.WithLabelValues(string(id)).Set(up)
}

func (pr *probes) snapshot() map[region.ID]probe {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	all := make(map[region.ID]probe, len(pr.of))
	for id, b := range pr.of {
		all[id] = b
	}
	return all
}

// nearest returns the region to which a request without an owner goes: among
// those that act for their own home, the one with the shortest way; those not
// reached by a probe come last, by distance on the map.
//
// Errors: region.Unavailable.
func (p *POP) nearest() (region.ID, error) {
	v := p.o.World.View()
	if v == nil {
		return "", unavailable("the POP has no world yet")
	}
	var here region.Place
	if me, ok := v.World.POP(p.o.ID); ok {
		here = me.Place
	}
	probed := p.probes.snapshot()
	type way struct {
		id   region.ID
		down bool
		rtt  time.Duration
		km   float64
	}
	var ways []way
	for _, r := range v.World.Regions {
		if r.Acting.Region != r.ID {
			continue
		}
		b := probed[r.ID]
		ways = append(ways, way{r.ID, b.err != nil || b.rtt == 0, b.rtt, kilometres(here, r.Place)})
	}
	if len(ways) == 0 {
		return "", unavailable("no region serves its own home in world %d", v.World.Version)
	}
	return slices.MinFunc(ways, func(a, b way) int {
		if a.down != b.down {
			if a.down {
				return 1
			}
			return -1
		}
		if a.down {
			return cmp.Or(cmp.Compare(a.km, b.km), cmp.Compare(a.id, b.id))
		}
		return cmp.Or(cmp.Compare(a.rtt, b.rtt), cmp.Compare(a.id, b.id))
	}).id, nil
}

// kilometres is the great-circle distance (haversine).
func kilometres(a, b region.Place) float64 {
	const earth, rad = 6371, math.Pi / 180
	dLat, dLon := (b.Latitude-a.Latitude)*rad/2, (b.Longitude-a.Longitude)*rad/2
	h := math.Sin(dLat)*math.Sin(dLat) + math.Cos(a.Latitude*rad)*math.Cos(b.Latitude*rad)*math.Sin(dLon)*math.Sin(dLon)
	return 2 * earth * math.Asin(math.Sqrt(min(1, h)))
}
