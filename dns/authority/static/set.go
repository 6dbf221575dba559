package static

import (
	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// Set is zones by their names.
type Set struct {
	zones map[key]*Zone
	order []*Zone
}

// NewSet returns the set of the zones, which need names of their own.
func NewSet(zones ...*Zone) (*Set, error) {
	s := &Set{zones: make(map[key]*Zone), order: zones}
	for _, z := range zones {
		if other := s.zones[z.apex()]; other != nil {
			return nil, region.Errorf(region.BadInput, "zone %s is in %s and in %s", z.Origin, other.path, z.path).WithHint("a zone has one file")
		}
		s.zones[z.apex()] = z
	}
	return s, nil
}

// LoadSet reads the zones of files.
func LoadSet(paths ...string) (*Set, error) {
	var zones []*Zone
	for _, p := range paths {
		z, err := Load(p)
		if err != nil {
			return nil, err
		}
		zones = append(zones, z)
	}
	return NewSet(zones...)
}

// All are the zones, in the order they were given.
func (s *Set) All() []*Zone {
	if s == nil {
		return nil
	}
	return s.order
}

// Find returns the zone that a name is in: the deepest. Where the type asked
// for is DS the name's own zone does not count, because that record is its
// parent's (RFC 4035 section 3.1.4.1).
func (s *Set) Find(name string, qtype uint16) *Zone {
	if s == nil || len(s.zones) == 0 {
		return nil
	}
	wire, err := wireOf(name)
	if err != nil {
		return nil
	}
	own := (*Zone)(nil)
	for i, k := range suffixes(wire) {
		z := s.zones[k]
		if z != nil && i == 0 && qtype == dns.TypeDS {
			own = z
			continue
		}
		if z != nil {
			return z
		}
	}
	return own
}

// Labels is the number of labels of the zone's name.
func (z *Zone) Labels() int { return z.labels }
