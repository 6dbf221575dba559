package accel

import (
	"time"

	"github.com/homing-im/homing/region"
)

// Status is what a POP tells about itself, as JSON for the admin listener and
// the console.
type Status struct {
	POP         region.POPID               `json:"pop"`
	Since       time.Time                  `json:"since"`
	World       uint64                     `json:"world"` // version; 0 when none
	Connections Connections                `json:"connections"`
	Users       int                        `json:"users"` // UINs with a long connection
	Bytes       Bytes                      `json:"bytes"`
	Regions     map[region.ID]RegionStatus `json:"regions"`
	Draining    bool                       `json:"draining"` // Drain was called
	Drained     bool                       `json:"drained"`  // and no long connection is left
}

// Connections counts client connections now.
type Connections struct {
	All     int `json:"all"`     // of every listener
	Long    int `json:"long"`    // relayed to a region
	Opening int `json:"opening"` // long ones that have not reached a region yet
}

// Bytes counts what long connections relayed since the start.
type Bytes struct {
	FromClients uint64 `json:"fromClients"`
	ToClients   uint64 `json:"toClients"`
}

// RegionStatus is how one region looks from here.
type RegionStatus struct {
	RTTMilli    float64   `json:"rttMilli"` // of a TCP connect, smoothed; 0 when never reached
	Up          bool      `json:"up"`       // the newest probe reached it
	Error       string    `json:"error,omitempty"`
	Probed      time.Time `json:"probed"`
	Connections int       `json:"connections"` // long connections relayed there
}

// Status returns the state of this moment. It does not block on the network.
func (p *POP) Status() Status {
	s := Status{
		POP: p.o.ID, Since: p.start, World: p.version(), Regions: make(map[region.ID]RegionStatus),
		Bytes: Bytes{FromClients: p.m.in.Load(), ToClients: p.m.out.Load()},
	}
	p.limits.mu.Lock()
	s.Connections.All = p.limits.all
	p.limits.mu.Unlock()
	for id, b := range p.probes.snapshot() {
		r := RegionStatus{RTTMilli: float64(b.rtt.Microseconds()) / 1000, Up: b.err == nil, Probed: b.when}
		if b.err != nil {
			r.Error = b.err.Error()
		}
		s.Regions[id] = r
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Connections.Long, s.Connections.Opening, s.Users = len(p.sessions), len(p.opening), len(p.users)
	for x := range p.sessions {
		r := s.Regions[x.region]
		r.Connections++
		s.Regions[x.region] = r
	}
	s.Draining = p.draining
	s.Drained = p.draining && len(p.sessions) == 0 && len(p.opening) == 0
	return s
}
