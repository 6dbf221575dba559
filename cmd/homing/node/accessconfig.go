package node

import (
	"net/netip"
	"slices"
	"time"
)

// Access is how the front doors treat their clients.
type Access struct {
	// Heartbeat is how often a silent client says that it is there; default 240s.
	// Shorter costs batteries and signaling, longer loses connections whose path
	// forgets them.
	Heartbeat time.Duration `yaml:"heartbeat,omitempty"`
	// Carriers are other intervals for the clients of some carriers, by their names
	// in the world.
	Carriers map[string]time.Duration `yaml:"carriers,omitempty"`
}

// Intervals below the first are a load of their own; above the second every
// translator of addresses has forgotten the connection.
const (
	minHeartbeat = 5 * time.Second
	maxHeartbeat = time.Hour
)

func (a *Access) validate(c *Config) error {
	if (a.Heartbeat != 0 || len(a.Carriers) > 0) && !c.Has(RoleRegion) && !c.Has(RoleAccess) {
		return wrongf("access", "access is of role region or access, which this node has not")
	}
	check := func(field string, d time.Duration) error {
		if d < minHeartbeat || d > maxHeartbeat || d%time.Second != 0 {
			return wrongf(field, "%s %s: want whole seconds from %s to %s", field, d, minHeartbeat, maxHeartbeat)
		}
		return nil
	}
	if a.Heartbeat != 0 {
		if err := check("access.heartbeat", a.Heartbeat); err != nil {
			return err
		}
	}
	for name, d := range a.Carriers {
		if err := check("access.carriers."+name, d); err != nil {
			return err
		}
	}
	return nil
}

// carrier returns the world's name of the carrier that has an address; "" when
// none is known.
func (s *steering) carrier(a netip.Addr) string {
	asn := s.geo.Lookup(a.Unmap()).ASN
	if asn == 0 {
		return ""
	}
	for _, c := range s.node.world.View().World.Carriers {
		if slices.Contains(c.ASNs, asn) {
			return c.Name
		}
	}
	return ""
}
