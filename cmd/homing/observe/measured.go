package observe

import (
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// Measured is what a DNS node's steering goes by besides health.
type Measured struct {
	Loads []Load `json:"loads"`
	RTTs  []RTT  `json:"rtts"`
}

// Load is that of a POP or region, in hundredths of a percent of its capacity.
type Load struct {
	POP    region.POPID `json:"pop,omitempty"`
	Region region.ID    `json:"region,omitempty"`
	Load   uint32       `json:"load"`
}

// RTT is a round trip from a POP or region to a region.
type RTT struct {
	POP    region.POPID `json:"pop,omitempty"`
	Region region.ID    `json:"region,omitempty"`
	To     region.ID    `json:"to"`
	Millis uint32       `json:"ms"`
}

// Into puts the measures into a health.
func (m *Measured) Into(up *steer.Up) {
	up.Loads, up.RTTs = make(map[steer.Site]uint32), make(map[steer.Path]uint32)
	for _, l := range m.Loads {
		up.Loads[steer.Site{POP: l.POP, Region: l.Region}] = l.Load
	}
	for _, r := range m.RTTs {
		up.RTTs[steer.Path{From: steer.Site{POP: r.POP, Region: r.Region}, To: r.To}] = r.Millis
	}
}
